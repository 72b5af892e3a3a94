//! The fields of an image processor.

use serde_json::{Map, Value};

use crate::FieldError;

/// The classes whose defaults are those below; the names of other versions of one class.
pub(super) const CLASSES: [&str; 4] =
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

/// Refuses fields outside the tables above that could change a pixel, and processors of other classes.
pub(super) fn check(fields: &Map<String, Value>) -> Result<(), FieldError> {
    for (name, value) in fields {
        let known = HONOURED.contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
        if known || (value.is_null() && ["auto_map", "input_data_format"].contains(&name.as_str())) {
            continue;
        }
        if PARTS.contains(&name.as_str()) || name.starts_with('_') {
            return Err(FieldError::new(name, format!("is {value}; it would replace a part of the image processor")));
        }
        if name.starts_with("do_") && *value != Value::Bool(false) && !value.is_null() {
            let problem = format!("is {value}, a step that is not supported; known: {}", HONOURED.join(", "));
            return Err(FieldError::new(name, problem));
        }
    }
    for name in ["image_processor_type", "feature_extractor_type"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(class)) if CLASSES.contains(&class.as_str()) => {}
            Some(other) => {
                return Err(FieldError::new(name, format!("is {other}; supported: {}", CLASSES.join(", "))));
            }
        }
    }
    Ok(())
}
