//! Files of tensors, read one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use s3t_core::Limits;
use s3t_core::limits::{shown, too_large};
use s3t_peft::{HostTensor, NamedTensors};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::ModelError;
use crate::json_file::{open_file, read_json};

/// The largest number of missing tensors that are collected before they are reported.
const MAX_MISSING: usize = 16;

/// The largest number of values that stand in for a missing tensor while more are looked for.
const MAX_PLACEHOLDER: usize = 1 << 20;

/// The tensors of a model's folder: one `model.safetensors`, or the shards that `model.safetensors.index.json` names.
pub(crate) struct Weights {
    /// The path in messages: the file, or the index of the shards.
    pub(super) path: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Entry>,
    missing: Vec<String>,
}

/// The place of one tensor.
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Opens the weights in a folder and reads their headers.
    pub(crate) fn open(directory: &Path, limits: &Limits) -> Result<Self, ModelError> {
        let index = directory.join("model.safetensors.index.json");
        let single = directory.join("model.safetensors");
        if single.exists() || !index.exists() {
            return Self::open_file(&single, limits);
        }
        let map: serde_json::Value = read_json(&index, limits)?;
        let refuse = |problem: String| ModelError::Config { path: index.clone(), problem };
        let Some(map) = map.get("weight_map").and_then(serde_json::Value::as_object) else {
            return Err(refuse("has no `weight_map`, which says what shard each tensor is in".into()));
        };
        let mut names: Vec<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        // A shard is a file of the folder: a path to elsewhere is not followed.
        if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1 || name.contains("..")) {
            return Err(refuse(format!("names the shard `{}`, which is not a file name", shown(name))));
        }
        let mut weights =
            Self { path: index.clone(), files: Vec::new(), tensors: BTreeMap::new(), missing: Vec::new() };
        for name in names {
            weights.add_file(&directory.join(name), limits)?;
        }
        let named = map.keys().filter_map(|name| current_name(name));
        let absent: Vec<String> = named.filter(|name| !weights.tensors.contains_key(name)).collect();
        if absent.is_empty() { Ok(weights) } else { Err(ModelError::MissingTensors { path: index, names: absent }) }
    }

    /// Opens one safetensors file and reads its header.
    pub(crate) fn open_file(path: &Path, limits: &Limits) -> Result<Self, ModelError> {
        let mut weights = Self { path: path.into(), files: Vec::new(), tensors: BTreeMap::new(), missing: Vec::new() };
        weights.add_file(path, limits)?;
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path, limits: &Limits) -> Result<(), ModelError> {
        let read = |cause| ModelError::Read { path: path.into(), cause };
        let invalid = |problem: String| ModelError::Safetensors { path: path.into(), problem };
        let mut file = open_file(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(invalid(format!("it has {length} bytes, fewer than a header")));
        }
        file.read_exact(&mut size).map_err(read)?;
        let header_bytes = u64::from_le_bytes(size);
        if header_bytes > length - 8 {
            return Err(invalid(format!("its header has {header_bytes} bytes, but the file has {length}")));
        }
        if header_bytes > Limits::megabytes(limits.header_mb) {
            let found = format!("its header has {header_bytes} bytes");
            return Err(invalid(too_large(&found, &format!("{} MB", limits.header_mb), "header_mb")));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(read)?;
        limits.check_json(&header).map_err(invalid)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| invalid(error.to_string()))?;
        let data = metadata.data_len() as u64;
        let there = length - 8 - header_bytes;
        if data != there {
            return Err(invalid(format!("its header asks for {data} bytes of tensors, but {there} follow")));
        }
        for (name, info) in metadata.tensors() {
            let Some(name) = current_name(&name) else { continue };
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: 8 + header_bytes + start as u64,
                bytes: end - start,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(invalid(format!("tensor `{name}` is in an earlier shard already")));
            }
        }
        self.files.push((path.into(), file));
        Ok(())
    }

    /// True if any tensor's name starts with the prefix.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(prefix))
    }

    /// True if there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Takes a tensor; zeros if it is missing, which [`finish`](Self::finish) reports.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor, ModelError> {
        match self.tensors.get(name).map(|entry| &entry.shape) {
            Some(found) if found == shape => self.take_any(name),
            Some(found) => Err(ModelError::WrongTensor {
                path: self.path.clone(),
                name: name.into(),
                found: format!("{found:?}"),
                expected: format!("{shape:?}"),
            }),
            None => {
                self.missing.push(name.into());
                let size: usize = shape.iter().product();
                // A file that lacks this much is of another model: nothing is allocated for what is not there.
                if self.missing.len() >= MAX_MISSING || size > MAX_PLACEHOLDER {
                    return Err(self.report_missing());
                }
                Ok(HostTensor { shape: shape.to_vec(), values: vec![0.0; size] })
            }
        }
    }

    /// Takes a tensor of any shape; an empty one if it is missing, which [`finish`](Self::finish) reports.
    pub(crate) fn take_any(&mut self, name: &str) -> Result<HostTensor, ModelError> {
        let Some(Entry { file, dtype, shape, start, bytes }) = self.tensors.remove(name) else {
            self.missing.push(name.into());
            return Ok(HostTensor { shape: vec![0], values: Vec::new() });
        };
        let (path, file) = &mut self.files[file];
        let read = |cause| ModelError::Read { path: path.clone(), cause };
        // A sparse file may claim more than there is memory for: that is an error, not the end of the program.
        let mut data = Vec::new();
        data.try_reserve_exact(bytes).map_err(|error| read(std::io::Error::other(error)))?;
        data.resize(bytes, 0);
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        file.read_exact(&mut data).map_err(read)?;
        let values: Vec<f32> = match dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            other => {
                return Err(ModelError::WrongTensor {
                    path: path.clone(),
                    name: name.into(),
                    found: format!("{other:?}"),
                    expected: "F32, F16 or BF16, the number formats that can be loaded".into(),
                });
            }
        };
        // Nothing finite comes of them, and the largest of such outputs would still be taken for an answer.
        if let Some((position, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(ModelError::NotFinite { path: path.clone(), name: name.into(), value: *value, position });
        }
        Ok(HostTensor { shape, values })
    }

    /// The shape of a tensor that was not taken yet.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| &*entry.shape)
    }

    /// The names of the tensors that were not taken yet.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Drops the tensors whose names start with one of the prefixes: parts that are not used.
    pub(crate) fn ignore(&mut self, prefixes: &[&str]) {
        self.tensors.retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    fn report_missing(&mut self) -> ModelError {
        ModelError::MissingTensors { path: self.path.clone(), names: std::mem::take(&mut self.missing) }
    }

    /// Reports what is missing or left over.
    pub(crate) fn finish(mut self) -> Result<(), ModelError> {
        if !self.missing.is_empty() {
            return Err(self.report_missing());
        }
        if !self.tensors.is_empty() {
            return Err(ModelError::ExtraTensors { path: self.path, names: self.tensors.into_keys().collect() });
        }
        Ok(())
    }
}

/// The present name of a tensor of a file; `None` for constants that older versions saved beside the weights and that follow
/// from the configuration. The first BERT checkpoints call a layer norm's weight and bias gamma and beta.
fn current_name(name: &str) -> Option<String> {
    let constant = name.ends_with(".rotary_emb.inv_freq");
    let renamed = || name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
    (!constant).then(renamed)
}

/// Reads all tensors of a safetensors file, within the usual limits.
///
/// # Errors
///
/// [`ModelError`] naming the file and what is wrong with it.
pub fn read_safetensors(path: &Path) -> Result<NamedTensors, ModelError> {
    let mut weights = Weights::open_file(path, &Limits::default())?;
    weights.names().into_iter().map(|name| Ok((name.clone(), weights.take_any(&name)?))).collect()
}

/// The names of the tensors of a safetensors file, which are read without the tensors.
///
/// # Errors
///
/// As [`read_safetensors`].
pub fn safetensors_names(path: &Path) -> Result<Vec<String>, ModelError> {
    Ok(Weights::open_file(path, &Limits::default())?.names())
}

/// Writes tensors as a safetensors file with the metadata that Hugging Face expects.
///
/// # Errors
///
/// [`ModelError::Write`] naming the file.
pub fn write_safetensors(path: &Path, tensors: &NamedTensors) -> Result<(), ModelError> {
    let bytes: Vec<Vec<u8>> = tensors.values().map(HostTensor::to_bytes).collect();
    let invalid =
        |error: safetensors::SafeTensorError| ModelError::Safetensors { path: path.into(), problem: error.to_string() };
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name, view.map_err(invalid)?));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(invalid)?;
    std::fs::write(path, file).map_err(|cause| ModelError::Write { path: path.into(), cause })
}
