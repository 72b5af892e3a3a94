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

use crate::BackendError;
use crate::huggingface::read_json;
use crate::vit::VitConfig;

/// The file of the processor.
const FILE: &str = "preprocessor_config.json";
/// The file of processors of several kinds, with one section for each.
const SHARED_FILE: &str = "processor_config.json";

/// The classes whose defaults are those below; the names of other versions of one class.
const CLASSES: [&str; 4] =
    ["ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor"];

/// Fields that decide about pixels and are honoured.
const HONOURED: [&str; 13] = [
    "crop_size",
    "default_to_square",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_pad",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
];

/// Fields that change no pixel, whatever they hold: `pad_size` counts with `do_pad` only, which is refused.
const HARMLESS: [&str; 12] = [
    "_commit_hash",
    "_name_or_path",
    "_valid_processor_keys",
    "data_format",
    "device",
    "disable_grouping",
    "feature_extractor_type",
    "image_processor_type",
    "image_seq_length",
    "pad_size",
    "processor_class",
    "return_tensors",
];

/// Parts of the class, which a field of the same name would replace.
const PARTS: [&str; 24] = [
    "auto_map",
    "backend",
    "center_crop",
    "convert_to_rgb",
    "fetch_images",
    "from_dict",
    "from_json_file",
    "from_pretrained",
    "get_image_processor_dict",
    "input_data_format",
    "model_input_names",
    "normalize",
    "pad",
    "preprocess",
    "process_image",
    "push_to_hub",
    "register_for_auto_class",
    "rescale",
    "resize",
    "save_pretrained",
    "to_dict",
    "to_json_file",
    "to_json_string",
    "valid_kwargs",
];

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
    pub(crate) fn pictures(&self, config: &VitConfig) -> PictureInput {
        let side = config.image_size as u32;
        let input = PictureInput::resized(config.num_channels as u8, side, side);
        match &self.steps {
            Some(steps) => PictureInput { steps: steps.clone(), ..input },
            None => input,
        }
    }

    /// The fields of `preprocessor_config.json` for a model of this shape.
    pub(crate) fn to_json(&self, config: &VitConfig) -> Value {
        let PictureSteps { resize, crop } = self.pictures(config).steps;
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

/// Reads the processor of a model; one without a file is resized to its size and scaled to -1 to 1.
pub(crate) fn read_preprocessing(directory: &Path, config: &VitConfig) -> Result<Preprocessing, BackendError> {
    let Some((path, fields)) = fields(directory)? else {
        let preprocessing = Preprocessing {
            image_mean: vec![0.5; config.num_channels],
            image_std: vec![0.5; config.num_channels],
            ..Preprocessing::default()
        };
        return Ok(preprocessing);
    };
    preprocessing(&fields, config).map_err(|problem| BackendError::Config { path, problem })
}

/// A file and its fields.
type FieldsOfFile = (PathBuf, Map<String, Value>);

/// The fields of the processor, and their file.
fn fields(directory: &Path) -> Result<Option<FieldsOfFile>, BackendError> {
    let object = |path: &PathBuf, value: Value| match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(BackendError::Config { path: path.clone(), problem: "not a JSON object".into() }),
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

fn preprocessing(fields: &Map<String, Value>, config: &VitConfig) -> Result<Preprocessing, String> {
    check_fields(fields)?;
    let channels = config.num_channels;
    // A switch that is `null` is off: the null replaces the default of the class.
    let switch = |name: &str, default: bool| match fields.get(name) {
        None => Ok(default),
        Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("`{name}` is {other}; it takes true or false")),
    };
    if switch("do_pad", false)? {
        return Err("`do_pad` is true; padding of pictures is not supported".into());
    }
    if switch("do_convert_rgb", false)? && channels != 3 {
        return Err(format!("`do_convert_rgb` is true, but the model takes {channels} channels"));
    }
    let square = switch("default_to_square", true)?;
    let resize = if switch("do_resize", true)? {
        Some(Resize { size: size(fields.get("size"), square)?, filter: filter(fields.get("resample"))? })
    } else {
        None
    };
    let crop = if switch("do_center_crop", false)? { Some(crop(fields.get("crop_size"))?) } else { None };
    let side = config.image_size as u32;
    let mut input = PictureInput::resized(channels as u8, side, side);
    let default = std::mem::replace(&mut input.steps, PictureSteps { resize, crop });
    if let Some([height, width]) = input.fixed_size().filter(|size| *size != [side, side]) {
        let name = match (crop, fields.contains_key("size")) {
            (Some(_), _) => "`crop_size` makes",
            (None, true) => "`size` makes",
            (None, false) => "without `size`, which is 224 by default, the processor makes",
        };
        return Err(format!("{name} pictures of {height}x{width}, but `image_size` of config.json is {side}"));
    }
    let mut preprocessing =
        Preprocessing { steps: (input.steps != default).then_some(input.steps), ..Default::default() };
    if switch("do_rescale", true)? {
        let factor = fields.get("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
        preprocessing.rescale_factor =
            factor.filter(|factor| factor.is_finite() && *factor > 0.0).ok_or_else(|| {
                format!("`rescale_factor` is {}; it takes a positive number", shown(fields, "rescale_factor"))
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

/// Refuses fields that are not in the tables above and could change what is computed, and processors of other classes.
fn check_fields(fields: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in fields {
        let known = HONOURED.contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
        if known || (value.is_null() && ["auto_map", "input_data_format"].contains(&name.as_str())) {
            continue;
        }
        if PARTS.contains(&name.as_str()) || name.starts_with('_') {
            return Err(format!("`{name}` is {value}; it would replace a part of the image processor"));
        }
        if name.starts_with("do_") && *value != Value::Bool(false) && !value.is_null() {
            return Err(format!("`{name}` is {value}, a step that is not supported; known: {}", HONOURED.join(", ")));
        }
    }
    for name in ["image_processor_type", "feature_extractor_type"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(class)) if CLASSES.contains(&class.as_str()) => {}
            Some(other) => {
                return Err(format!("`{name}` is {other}; supported: {}", CLASSES.join(", ")));
            }
        }
    }
    Ok(())
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
fn size(value: Option<&Value>, square: bool) -> Result<PictureSize, String> {
    let Some(value) = value else { return Ok(PictureSize::Exact { height: 224, width: 224 }) };
    let refused = || {
        format!(
            "`size` is {value}; it takes a side of 1 to {LARGEST_SIDE}, or an object with `height` and `width`, \
             `shortest_edge`, `shortest_edge` and `longest_edge`, or `max_height` and `max_width`"
        )
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
fn crop(value: Option<&Value>) -> Result<[u32; 2], String> {
    match size(value.or(Some(&Value::Null)), true) {
        Ok(PictureSize::Exact { height, width }) => Ok([height, width]),
        _ => Err(format!(
            "`crop_size` is {}; with `do_center_crop` it takes a side of 1 to {LARGEST_SIDE}, or an object with `height` and \
             `width`",
            value.map_or("missing".into(), Value::to_string)
        )),
    }
}

fn filter(value: Option<&Value>) -> Result<Filter, String> {
    let Some(value) = value else { return Ok(Filter::Bilinear) };
    let known = value.as_u64().and_then(|number| FILTERS.get(usize::try_from(number).ok()?)).copied();
    known.ok_or_else(|| {
        format!("`resample` is {value}; it takes 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)")
    })
}

/// One number a channel, from a list or from one number for all.
fn numbers(
    fields: &Map<String, Value>,
    name: &str,
    channels: usize,
    usable: impl Fn(f64) -> bool,
) -> Result<Vec<f64>, String> {
    let refused =
        || format!("`{name}` is {}; it takes {channels} usable numbers, one for each channel", shown(fields, name));
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

    fn config(channels: usize) -> VitConfig {
        let mut config: VitConfig = serde_json::from_value(json!({
            "model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 8, "patch_size": 4, "num_channels": 3,
        }))
        .unwrap();
        config.num_channels = channels;
        config
    }

    fn read(fields: &Value, channels: usize) -> Result<Preprocessing, String> {
        preprocessing(fields.as_object().unwrap(), &config(channels))
    }

    #[test]
    fn what_is_written_is_read_again() {
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
            assert_eq!(read(&first.to_json(&config(3)), 3).unwrap(), first, "{fields}");
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
    fn what_could_change_a_pixel_is_refused_by_name() {
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
            let problem = read(&fields, channels).expect_err(&fields.to_string());
            for part in parts {
                assert!(problem.contains(part), "`{part}` is not in: {problem}");
            }
        }
        let missing = read(&json!({}), 3).unwrap_err();
        assert!(missing.contains("without `size`, which is 224 by default"), "{missing}");
    }
}
