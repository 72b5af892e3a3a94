//! Reading a base model from a Hugging Face directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use s3t_peft::{HostTensor, NamedTensors};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::vit::{Vit, VitConfig};
use crate::{Backbone, BackendError};

/// The model types that can be loaded.
const MODEL_TYPES: &str = "vit";

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

/// Loads the base model in `directory` (`config.json`, `model.safetensors`, optionally `preprocessor_config.json`).
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong: an unreadable file, an unsupported model type or activation, a
/// missing, extra or misshapen tensor.
pub fn load(directory: &Path, device: &Device) -> Result<Arc<dyn Backbone>, BackendError> {
    let config_path = directory.join("config.json");
    let config: serde_json::Value = read_json(&config_path)?;
    let refuse = |problem: String| BackendError::Config { path: config_path.clone(), problem };
    match config.get("model_type").and_then(serde_json::Value::as_str) {
        Some("vit") => {}
        Some(other) => return Err(refuse(format!("model type `{other}` is not supported; supported: {MODEL_TYPES}"))),
        None => return Err(refuse(format!("there is no `model_type`; supported: {MODEL_TYPES}"))),
    }
    let config: VitConfig = serde_json::from_value(config).map_err(|error| refuse(error.to_string()))?;
    config.check().map_err(refuse)?;
    let preprocessing = read_preprocessing(directory, &config)?;
    let weights = directory.join("model.safetensors");
    let tensors = read_safetensors(&weights)?;
    Ok(Arc::new(Vit::new(config, preprocessing, tensors, &weights, device)?))
}

fn read_preprocessing(directory: &Path, config: &VitConfig) -> Result<Preprocessing, BackendError> {
    let path = directory.join("preprocessor_config.json");
    let mut preprocessing = if path.exists() { read_json(&path)? } else { Preprocessing::default() };
    let channels = config.num_channels;
    for (name, values) in [("image_mean", &mut preprocessing.image_mean), ("image_std", &mut preprocessing.image_std)] {
        if values.len() > channels && values.iter().all(|value| value == &values[0]) {
            values.truncate(channels);
        }
        let usable = |value: &f64| value.is_finite() && (name == "image_mean" || *value > 0.0);
        if values.len() != channels || !values.iter().all(usable) {
            let problem = format!("`{name}` is {values:?}; it takes {channels} usable numbers, one for each channel");
            return Err(BackendError::Config { path, problem });
        }
    }
    Ok(preprocessing)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BackendError> {
    let text = std::fs::read_to_string(path).map_err(|source| BackendError::Read { path: path.into(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| BackendError::Config { path: path.into(), problem: format!("not the expected JSON: {error}") })
}

fn read_safetensors(path: &Path) -> Result<NamedTensors, BackendError> {
    let bytes = std::fs::read(path).map_err(|source| BackendError::Read { path: path.into(), source })?;
    let invalid = |error: safetensors::SafeTensorError| BackendError::Safetensors {
        path: path.into(),
        problem: error.to_string(),
    };
    let file = SafeTensors::deserialize(&bytes).map_err(invalid)?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(BackendError::WrongTensor {
                path: path.into(),
                name,
                found: format!("{:?}", view.dtype()),
                expected: "F32, the one number format that can be loaded".into(),
            });
        }
        let value = |bytes: &[u8]| f32::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        let values = view.data().chunks_exact(4).map(value).collect();
        tensors.insert(name, HostTensor { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

/// Takes tensors out of a file by name and shape, so that what is missing, misshapen or left over can be told at once.
pub(crate) struct TensorReader<'a> {
    path: &'a Path,
    tensors: NamedTensors,
    missing: Vec<String>,
}

impl<'a> TensorReader<'a> {
    pub(crate) fn new(path: &'a Path, tensors: NamedTensors) -> Self {
        Self { path, tensors, missing: Vec::new() }
    }

    /// Whether any tensor's name starts with this.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(prefix))
    }

    /// Takes a tensor; zeros if it is missing, which [`finish`](Self::finish) reports.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor, BackendError> {
        match self.tensors.remove(name) {
            Some(tensor) if tensor.shape == shape => Ok(tensor),
            Some(tensor) => Err(BackendError::WrongTensor {
                path: self.path.into(),
                name: name.into(),
                found: format!("{:?}", tensor.shape),
                expected: format!("{shape:?}"),
            }),
            None => {
                self.missing.push(name.into());
                Ok(HostTensor { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] })
            }
        }
    }

    /// Takes a tensor of any shape if it is there.
    pub(crate) fn take_optional(&mut self, name: &str) -> Option<HostTensor> {
        self.tensors.remove(name)
    }

    /// Drops the tensors whose names start with one of the prefixes: parts that are not used.
    pub(crate) fn ignore(&mut self, prefixes: &[&str]) {
        self.tensors.retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    /// Reports what is missing or left over.
    pub(crate) fn finish(self) -> Result<(), BackendError> {
        let path: PathBuf = self.path.into();
        if !self.missing.is_empty() {
            return Err(BackendError::MissingTensors { path, names: self.missing });
        }
        if !self.tensors.is_empty() {
            return Err(BackendError::ExtraTensors { path, names: self.tensors.into_keys().collect() });
        }
        Ok(())
    }
}

/// Writes tensors as a safetensors file with metadata.
pub(crate) fn write_safetensors(path: &Path, tensors: &NamedTensors) -> Result<(), BackendError> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let invalid = |error: safetensors::SafeTensorError| BackendError::Safetensors {
        path: path.into(),
        problem: error.to_string(),
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]);
        views.push((name, view.map_err(invalid)?));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(invalid)?;
    std::fs::write(path, file).map_err(|source| BackendError::Write { path: path.into(), source })
}
