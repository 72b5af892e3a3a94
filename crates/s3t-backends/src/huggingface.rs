//! Reading a base model from a Hugging Face directory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use s3t_core::Limits;
use s3t_core::limits::{read_text_at_most, shown};
use serde::{Deserialize, Serialize};

use crate::bert::Bert;
use crate::llama::Llama;
use crate::vit::{Vit, VitConfig};
use crate::{Backbone, BackendError};

/// The model types that can be loaded.
const MODEL_TYPES: [&str; 4] = ["bert", "llama", "roberta", "vit"];

/// How 8-bit images become model input: `(pixel * rescale_factor - mean) / std` for each channel.
///
/// Constants of the base model, from its `preprocessor_config.json`: never computed from records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// What a pixel value is multiplied by.
    #[serde(default = "rescale_factor")]
    pub rescale_factor: f64,
    /// One mean a channel.
    #[serde(default = "half")]
    pub image_mean: Vec<f64>,
    /// One standard deviation a channel.
    #[serde(default = "half")]
    pub image_std: Vec<f64>,
}

/// The switches of a `preprocessor_config.json`.
#[derive(Deserialize)]
struct Switches {
    #[serde(default)]
    do_rescale: Option<bool>,
    #[serde(default)]
    do_normalize: Option<bool>,
}

fn rescale_factor() -> f64 {
    1.0 / 255.0
}

fn half() -> Vec<f64> {
    vec![0.5; 3]
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self { rescale_factor: rescale_factor(), image_mean: half(), image_std: half() }
    }
}

/// What a program may choose when it loads a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The most tokens of a text; what is longer is cut, prompts that leave no room for a response are refused. `None` takes what the model can, up to 512.
    pub max_tokens: Option<usize>,
    /// The most that is read.
    pub limits: Limits,
}

/// Loads the base model in `directory`: `config.json`, `model.safetensors` or shards with `model.safetensors.index.json`,
/// for texts `tokenizer.json`, for images optionally `preprocessor_config.json`.
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong: an unreadable file, an unsupported model type or activation, a
/// missing, extra or misshapen tensor, a tokenizer of another model.
pub fn load(directory: &Path, options: LoadOptions, device: &Device) -> Result<Arc<dyn Backbone>, BackendError> {
    let path = directory.join("config.json");
    let config: serde_json::Value = read_json(&path, &options.limits)?;
    let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
    match config.get("model_type").and_then(serde_json::Value::as_str) {
        Some("vit") if options.max_tokens.is_some() => {
            Err(refuse("`max_tokens` is for models of texts, but this is one of images".into()))
        }
        Some("vit") => {
            let config: VitConfig = serde_json::from_value(config).map_err(|error| refuse(error.to_string()))?;
            config.check().map_err(refuse)?;
            let preprocessing = read_preprocessing(directory, &config, &options.limits)?;
            Ok(Arc::new(Vit::load(directory, config, preprocessing, &options.limits, device)?))
        }
        Some("bert" | "roberta") => Ok(Arc::new(Bert::load(directory, config, options, device)?)),
        Some("llama") => Ok(Arc::new(Llama::load(directory, config, options, device)?)),
        Some(other) => {
            let what = format!("model type `{}`", shown(other));
            Err(refuse(s3t_core::registry::unknown(&what, other, &MODEL_TYPES)))
        }
        None => Err(refuse(format!("`model_type` is missing; supported: {}", MODEL_TYPES.join(", ")))),
    }
}

/// Checks sizes that tensors are made of.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    // The bound keeps products of sizes far from overflow; the largest published models stay below it.
    match sizes.iter().find(|(_, value)| !(1..=1 << 17).contains(value)) {
        Some((name, value)) => Err(format!("`{name}` is {value}; it takes 1 to {}", 1 << 17)),
        None => Ok(()),
    }
}

/// Checks the epsilon of a normalisation.
pub(crate) fn check_epsilon(name: &str, value: f64) -> Result<(), String> {
    // Below the least normal number of the arithmetic it would be none.
    if value.is_finite() && value >= f64::from(f32::MIN_POSITIVE) && value < 1.0 {
        return Ok(());
    }
    Err(format!("`{name}` is {value}; it takes a small positive number"))
}

/// Checks the size of a vocabulary, and that a token of the configuration is in it.
pub(crate) fn check_vocabulary(size: usize, tokens: &[(&str, Option<u32>)]) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    if !(4..=MOST).contains(&size) {
        return Err(format!("`vocab_size` is {size}; it takes 4 to {MOST}"));
    }
    match tokens.iter().find_map(|(name, token)| Some((name, token.filter(|token| *token as usize >= size)?))) {
        Some((name, token)) => Err(format!("`{name}` is {token}, but `vocab_size` is {size}")),
        None => Ok(()),
    }
}

fn read_preprocessing(directory: &Path, config: &VitConfig, limits: &Limits) -> Result<Preprocessing, BackendError> {
    let path = directory.join("preprocessor_config.json");
    let channels = config.num_channels;
    let mut preprocessing = Preprocessing::default();
    if path.exists() {
        preprocessing = read_json(&path, limits)?;
        let switches: Switches = read_json(&path, limits)?;
        if switches.do_rescale == Some(false) {
            preprocessing.rescale_factor = 1.0;
        }
        if switches.do_normalize == Some(false) {
            preprocessing.image_mean = vec![0.0; channels];
            preprocessing.image_std = vec![1.0; channels];
        }
    }
    if !preprocessing.rescale_factor.is_finite() || preprocessing.rescale_factor <= 0.0 {
        let problem = format!("`rescale_factor` is {}; it takes a positive number", preprocessing.rescale_factor);
        return Err(BackendError::Config { path, problem });
    }
    for (name, values) in [("image_mean", &mut preprocessing.image_mean), ("image_std", &mut preprocessing.image_std)] {
        if values.len() > channels && values.iter().all(|value| value == &values[0]) {
            values.truncate(channels);
        }
        let usable = |value: &f64| value.is_finite() && (name == "image_mean" || *value > 0.0);
        if values.len() != channels || !values.iter().all(usable) {
            let values = shown(&format!("{values:?}"));
            let problem = format!("`{name}` is {values}; it takes {channels} usable numbers, one for each channel");
            return Err(BackendError::Config { path, problem });
        }
    }
    Ok(preprocessing)
}

/// Reads a JSON file of a model or adapter, within the limits.
///
/// # Errors
///
/// [`BackendError::Read`], [`BackendError::Config`].
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limits: &Limits) -> Result<T, BackendError> {
    let read = File::open(path).and_then(|file| read_text_at_most(file, Limits::megabytes(limits.json_mb)));
    let text = read.map_err(|source| BackendError::Read { path: path.into(), source })?;
    let refuse = |problem: String| BackendError::Config { path: path.into(), problem };
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("not the expected JSON: {error}")))
}
