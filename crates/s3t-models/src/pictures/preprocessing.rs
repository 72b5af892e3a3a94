//! The image processor of a vision model: `preprocessor_config.json`, or the section `image_processor` of
//! `processor_config.json`, which counts first as in `transformers`.
//!
//! The processor is `ViTImageProcessorPil` of `transformers`. Every field of its class is honoured, changes nothing here, or is
//! refused by name where it could change a pixel. A field that the class does not know changes nothing in Python either, unless
//! it replaces a part of the class.

use std::path::{Path, PathBuf};

use s3t_core::Limits;
use s3t_core::picture::{Filter, PictureInput, PictureSize, PictureSteps, Resize};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::PictureShape;
use super::fields::{self, CLASSES};
use crate::json_file::read_json;
use crate::{FieldError, ModelError};

/// The file of the processor.
const FILE: &str = "preprocessor_config.json";
/// The file of processors of several kinds, with one section for each.
const SHARED_FILE: &str = "processor_config.json";

/// The way from 8-bit images to the input of a model: resizing and cropping, then
/// `(pixel * rescale_factor - mean) / std` for each channel.
///
/// Constants of the base model, from its `preprocessor_config.json`: never computed from records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preprocessing {
    /// The factor of a pixel value.
    pub rescale_factor: f64,
    /// One mean a channel.
    pub image_mean: Vec<f64>,
    /// One standard deviation a channel.
    pub image_std: Vec<f64>,
    /// Resizing and cropping; `None` resizes to the model's size with the bilinear filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<PictureSteps>,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self { rescale_factor: 1.0 / 255.0, image_mean: vec![0.5; 3], image_std: vec![0.5; 3], steps: None }
    }
}

impl Preprocessing {
    /// Pictures as a model of this shape takes them.
    pub fn pictures(&self, shape: PictureShape) -> PictureInput {
        let side = shape.side as u32;
        let input = PictureInput::resized(shape.channels as u8, side, side);
        match &self.steps {
            Some(steps) => PictureInput { steps: steps.clone(), ..input },
            None => input,
        }
    }

    /// The fields of `preprocessor_config.json` for a model of this shape.
    pub fn to_json(&self, shape: PictureShape) -> Value {
        let PictureSteps { resize, crop } = self.pictures(shape).steps;
        let mut fields = json!({
            "image_processor_type": CLASSES[0],
            "do_resize": resize.is_some(),
            "do_rescale": true,
            "rescale_factor": self.rescale_factor,
            "do_normalize": true,
            "image_mean": self.image_mean,
            "image_std": self.image_std,
        });
        if let Some(Resize { size, filter }) = resize {
            fields["size"] = match size {
                PictureSize::Exact { height, width } => json!({ "height": height, "width": width }),
                PictureSize::ShortestEdge(edge) => json!({ "shortest_edge": edge }),
                PictureSize::Edges { shortest, longest } => {
                    json!({ "shortest_edge": shortest, "longest_edge": longest })
                }
                PictureSize::Within { max_height, max_width } => {
                    json!({ "max_height": max_height, "max_width": max_width })
                }
            };
            if filter != Filter::Bilinear {
                fields["resample"] = json!(FILTERS.iter().position(|known| *known == filter));
            }
        }
        if let Some([height, width]) = crop {
            fields["do_center_crop"] = true.into();
            fields["crop_size"] = json!({ "height": height, "width": width });
        }
        fields
    }
}

/// The filters by Pillow's numbers.
const FILTERS: [Filter; 6] =
    [Filter::Nearest, Filter::Lanczos, Filter::Bilinear, Filter::Bicubic, Filter::Box, Filter::Hamming];

/// Reads the processor in a folder. Without a file for it pictures are resized to the model's size and scaled to -1 to 1.
pub(crate) fn read(directory: &Path, shape: PictureShape) -> Result<Preprocessing, ModelError> {
    let Some((path, fields)) = find(directory)? else {
        let preprocessing = Preprocessing {
            image_mean: vec![0.5; shape.channels],
            image_std: vec![0.5; shape.channels],
            ..Preprocessing::default()
        };
        return Ok(preprocessing);
    };
    preprocessing(&fields, shape).map_err(|error| ModelError::Field { path, error })
}

/// A file and its fields.
type FieldsOfFile = (PathBuf, Map<String, Value>);

/// The fields of the processor, and their file.
fn find(directory: &Path) -> Result<Option<FieldsOfFile>, ModelError> {
    let object = |path: &PathBuf, value: Value| match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(ModelError::Config { path: path.clone(), problem: "not a JSON object".into() }),
    };
    let shared = directory.join(SHARED_FILE);
    if shared.exists() {
        let mut sections = object(&shared, read_json(&shared, &Limits::default())?)?;
        if let Some(section) = sections.remove("image_processor") {
            let fields = object(&shared, section)?;
            return Ok(Some((shared, fields)));
        }
    }
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let fields = object(&path, read_json(&path, &Limits::default())?)?;
    Ok(Some((path, fields)))
}

fn preprocessing(fields: &Map<String, Value>, shape: PictureShape) -> Result<Preprocessing, FieldError> {
    fields::check(fields)?;
    let channels = shape.channels;
    // A switch that is `null` is off: the null replaces the default of the class.
    let switch = |name: &str, default: bool| match fields.get(name) {
        None => Ok(default),
        Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(FieldError::new(name, format!("is {other}; it takes true or false"))),
    };
    if switch("do_pad", false)? {
        return Err(FieldError::new("do_pad", "is true; padding of pictures is not supported"));
    }
    if switch("do_convert_rgb", false)? && channels != 3 {
        return Err(FieldError::new("do_convert_rgb", format!("is true, but the model takes {channels} channels")));
    }
    let square = switch("default_to_square", true)?;
    let resize = if switch("do_resize", true)? {
        Some(Resize { size: size(fields.get("size"), square)?, filter: filter(fields.get("resample"))? })
    } else {
        None
    };
    let crop = if switch("do_center_crop", false)? { Some(crop(fields.get("crop_size"))?) } else { None };
    let side = shape.side as u32;
    let mut input = PictureInput::resized(channels as u8, side, side);
    let default = std::mem::replace(&mut input.steps, PictureSteps { resize, crop });
    if let Some([height, width]) = input.fixed_size().filter(|size| *size != [side, side]) {
        let (field, makes) = match (crop, fields.contains_key("size")) {
            (Some(_), _) => ("crop_size", "makes"),
            (None, true) => ("size", "makes"),
            (None, false) => ("size", "is missing, which means 224 and makes"),
        };
        let problem = format!("{makes} pictures of {height}x{width}, but `image_size` of config.json is {side}");
        return Err(FieldError::new(field, problem));
    }
    let mut preprocessing =
        Preprocessing { steps: (input.steps != default).then_some(input.steps), ..Default::default() };
    if switch("do_rescale", true)? {
        let factor = fields.get("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
        preprocessing.rescale_factor =
            factor.filter(|factor| factor.is_finite() && *factor > 0.0).ok_or_else(|| {
                let problem = format!("is {}; it takes a positive number", shown(fields, "rescale_factor"));
                FieldError::new("rescale_factor", problem)
            })?;
    } else {
        preprocessing.rescale_factor = 1.0;
    }
    if switch("do_normalize", true)? {
        preprocessing.image_mean = numbers(fields, "image_mean", channels, f64::is_finite)?;
        preprocessing.image_std = numbers(fields, "image_std", channels, |value| value.is_finite() && value > 0.0)?;
    } else {
        preprocessing.image_mean = vec![0.0; channels];
        preprocessing.image_std = vec![1.0; channels];
    }
    Ok(preprocessing)
}

fn shown(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).map_or("missing".into(), Value::to_string)
}

/// The largest side that a picture is resized or cropped to.
const LARGEST_SIDE: u64 = 1 << 14;

/// The length of a side.
fn side(value: &Value) -> Option<u32> {
    value.as_u64().filter(|side| (1..=LARGEST_SIDE).contains(side)).map(|side| side as u32)
}

/// The value of `size`, with the default of the class.
fn size(value: Option<&Value>, square: bool) -> Result<PictureSize, FieldError> {
    let Some(value) = value else { return Ok(PictureSize::Exact { height: 224, width: 224 }) };
    let refused = || {
        let problem = format!(
            "is {value}; it takes a side of 1 to {LARGEST_SIDE}, or an object with `height` and `width`, \
             `shortest_edge`, `shortest_edge` and `longest_edge`, or `max_height` and `max_width`"
        );
        FieldError::new("size", problem)
    };
    let found = match value {
        Value::Object(fields) => {
            let side = |name: &str| fields.get(name).and_then(side);
            let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
            names.sort_unstable();
            match names[..] {
                ["height", "width"] => exact(side("height"), side("width")),
                ["shortest_edge"] => side("shortest_edge").map(PictureSize::ShortestEdge),
                ["longest_edge", "shortest_edge"] => side("shortest_edge")
                    .zip(side("longest_edge"))
                    .map(|(shortest, longest)| PictureSize::Edges { shortest, longest }),
                ["max_height", "max_width"] => side("max_height")
                    .zip(side("max_width"))
                    .map(|(max_height, max_width)| PictureSize::Within { max_height, max_width }),
                _ => None,
            }
        }
        Value::Array(sides) if sides.len() == 2 => exact(side(&sides[0]), side(&sides[1])),
        value if square => exact(side(value), side(value)),
        value => side(value).map(PictureSize::ShortestEdge),
    };
    found.ok_or_else(refused)
}

fn exact(height: Option<u32>, width: Option<u32>) -> Option<PictureSize> {
    height.zip(width).map(|(height, width)| PictureSize::Exact { height, width })
}

/// The value of `crop_size`, which has no default.
fn crop(value: Option<&Value>) -> Result<[u32; 2], FieldError> {
    match size(value.or(Some(&Value::Null)), true) {
        Ok(PictureSize::Exact { height, width }) => Ok([height, width]),
        _ => {
            let problem = format!(
                "is {}; with `do_center_crop` it takes a side of 1 to {LARGEST_SIDE}, or an object with `height` and `width`",
                value.map_or("missing".into(), Value::to_string)
            );
            Err(FieldError::new("crop_size", problem))
        }
    }
}

fn filter(value: Option<&Value>) -> Result<Filter, FieldError> {
    let Some(value) = value else { return Ok(Filter::Bilinear) };
    let known = value.as_u64().and_then(|number| FILTERS.get(usize::try_from(number).ok()?)).copied();
    known.ok_or_else(|| {
        let problem =
            format!("is {value}; it takes 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)");
        FieldError::new("resample", problem)
    })
}

/// One number a channel, from a list or from one number for all.
fn numbers(
    fields: &Map<String, Value>,
    name: &str,
    channels: usize,
    usable: impl Fn(f64) -> bool,
) -> Result<Vec<f64>, FieldError> {
    let refused = || {
        let problem = format!("is {}; it takes {channels} usable numbers, one for each channel", shown(fields, name));
        FieldError::new(name, problem)
    };
    let mut found: Vec<f64> = match fields.get(name) {
        None => vec![0.5; channels],
        Some(Value::Array(values)) => {
            values.iter().map(Value::as_f64).collect::<Option<Vec<_>>>().ok_or_else(refused)?
        }
        Some(value) => vec![value.as_f64().ok_or_else(refused)?; channels],
    };
    if found.len() > channels && found.iter().all(|value| *value == found[0]) {
        found.truncate(channels);
    }
    if found.len() == channels && found.iter().all(|value| usable(*value)) { Ok(found) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(channels: usize) -> PictureShape {
        PictureShape { side: 8, channels }
    }

    fn read(fields: &Value, channels: usize) -> Result<Preprocessing, FieldError> {
        preprocessing(fields.as_object().unwrap(), shape(channels))
    }

    #[test]
    fn a_written_processor_is_read_again() {
        let base = json!({ "size": 8, "image_mean": 0.25, "do_rescale": false });
        for changes in [
            json!({}),
            json!({ "resample": 3 }),
            json!({ "size": { "shortest_edge": 10 }, "do_center_crop": true, "crop_size": 8 }),
            json!({ "size": { "max_height": 9, "max_width": 5 }, "do_center_crop": true, "crop_size": [8, 8] }),
            json!({ "do_resize": false }),
        ] {
            let mut fields = base.clone();
            fields.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let first = read(&fields, 3).unwrap();
            assert_eq!(read(&first.to_json(shape(3)), 3).unwrap(), first, "{fields}");
        }
    }

    #[test]
    fn the_default_of_a_model_leaves_its_digest_alone() {
        let plain = read(&json!({ "size": { "height": 8, "width": 8 }, "resample": 2 }), 3).unwrap();
        assert_eq!(plain, Preprocessing::default());
        let fields = serde_json::to_value(&plain).unwrap();
        assert_eq!(
            fields.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["image_mean", "image_std", "rescale_factor"]
        );
    }

    #[test]
    fn a_field_that_could_change_a_pixel_is_refused_by_name() {
        for (changes, channels, parts) in [
            (json!({ "size": 10 }), 3, &["`size` makes pictures of 10x10", "`image_size`", "8"][..]),
            (json!({ "do_center_crop": true, "crop_size": 9 }), 3, &["`crop_size` makes pictures of 9x9"]),
            (json!({ "do_center_crop": true }), 3, &["`crop_size` is missing"]),
            (json!({ "do_center_crop": true, "crop_size": { "shortest_edge": 8 } }), 3, &["`crop_size` is {"]),
            (json!({ "size": { "longest_edge": 8 } }), 3, &["`size` is {\"longest_edge\":8}", "`shortest_edge`"]),
            (json!({ "size": { "min_pixels": 8, "max_pixels": 64 } }), 3, &["`size` is"]),
            (json!({ "size": null }), 3, &["`size` is null"]),
            (json!({ "size": 8.5 }), 3, &["`size` is 8.5"]),
            (json!({ "size": 0 }), 3, &["`size` is 0"]),
            (json!({ "resample": 6 }), 3, &["`resample` is 6", "5 (hamming)"]),
            (json!({ "resample": null }), 3, &["`resample` is null"]),
            (json!({ "resample": "bilinear" }), 3, &["`resample` is \"bilinear\""]),
            (json!({ "do_pad": true }), 3, &["`do_pad` is true"]),
            (json!({ "do_resize": 1 }), 3, &["`do_resize` is 1"]),
            (json!({ "do_flip_channel_order": true }), 3, &["`do_flip_channel_order` is true", "not supported"]),
            (json!({ "do_convert_rgb": true }), 1, &["`do_convert_rgb` is true", "1 channels"]),
            (json!({ "input_data_format": "channels_last" }), 3, &["`input_data_format`"]),
            (json!({ "auto_map": { "AutoImageProcessor": "x.Y" } }), 3, &["`auto_map`"]),
            (json!({ "_preprocess": 3 }), 3, &["`_preprocess`"]),
            (json!({ "resize": true }), 3, &["`resize` is true", "replace"]),
            (json!({ "image_processor_type": "CLIPImageProcessor" }), 3, &["CLIPImageProcessor", "ViTImageProcessor"]),
            (json!({ "feature_extractor_type": "DeiTFeatureExtractor" }), 3, &["`feature_extractor_type`", "DeiT"]),
            (json!({ "rescale_factor": null }), 3, &["`rescale_factor` is null"]),
            (json!({ "image_mean": [0.5, 0.4] }), 3, &["`image_mean` is [0.5,0.4]", "3 usable numbers"]),
            (json!({ "image_std": [0.5, 0.4, 0.0] }), 3, &["`image_std`"]),
            (json!({ "image_std": null }), 3, &["`image_std` is null"]),
        ] {
            let mut fields = json!({ "size": 8 });
            fields.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let problem = read(&fields, channels).expect_err(&fields.to_string()).to_string();
            for part in parts {
                assert!(problem.contains(part), "`{part}` is not in: {problem}");
            }
        }
        let missing = read(&json!({}), 3).unwrap_err().to_string();
        assert!(missing.contains("`size` is missing, which means 224"), "{missing}");
    }
}
