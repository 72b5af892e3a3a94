//! Reading a base model from a Hugging Face directory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use s3t_core::limits::{read_text_at_most, shown};
use s3t_core::{Limits, PictureInput};

use crate::bert::Bert;
use crate::llama::Llama;
use crate::preprocessing::{Preprocessing, read_preprocessing};
use crate::vit::{Vit, VitConfig};
use crate::{Backbone, BackendError};

/// The model types that can be loaded.
const MODEL_TYPES: [&str; 4] = ["bert", "llama", "roberta", "vit"];

/// What a program may choose when it loads a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The most tokens of a text; what is longer is cut, prompts that leave no room for a response are refused. `None` takes what the model can, up to 512.
    pub max_tokens: Option<usize>,
    /// The most that is read.
    pub limits: Limits,
}

/// Loads the base model in `directory`: `config.json`, `model.safetensors` or shards with `model.safetensors.index.json`,
/// for texts `tokenizer.json`, for images optionally `preprocessor_config.json` or `processor_config.json`.
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
            let (config, preprocessing) = vit_parts(directory, config)?;
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

/// Pictures as the base model in `directory` takes them, without loading its weights; `None` if it takes none.
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong, as for [`load`].
pub fn picture_input(directory: &Path) -> Result<Option<PictureInput>, BackendError> {
    let config: serde_json::Value = read_json(&directory.join("config.json"), &Limits::default())?;
    if config.get("model_type").and_then(serde_json::Value::as_str) != Some("vit") {
        return Ok(None);
    }
    let (config, preprocessing) = vit_parts(directory, config)?;
    Ok(Some(preprocessing.pictures(&config)))
}

/// The configuration of a vision transformer and of its image processor.
fn vit_parts(directory: &Path, config: serde_json::Value) -> Result<(VitConfig, Preprocessing), BackendError> {
    let refuse = |problem: String| BackendError::Config { path: directory.join("config.json"), problem };
    let config: VitConfig = serde_json::from_value(config).map_err(|error| refuse(error.to_string()))?;
    config.check().map_err(refuse)?;
    let preprocessing = read_preprocessing(directory, &config)?;
    Ok((config, preprocessing))
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
