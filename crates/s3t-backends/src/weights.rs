//! Reading a model's weights, one tensor at a time.
//!
//! A file's header is read first; each tensor's bytes are read when the model takes it, straight into the form it keeps.
//! So loading needs no more memory than the model and its largest tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use half::{bf16, f16};
use s3t_core::digest::DigestBuilder;
use s3t_core::limits::{shown, too_large};
use s3t_core::{Digest, Limits};
use s3t_peft::tensors::to_device;
use s3t_peft::{HostTensor, Linear, NamedTensors};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::block::Norm;
use crate::huggingface::read_json;
use crate::{BackendError, HeadLayout};

/// The most missing tensors that are collected before they are reported.
const MOST_MISSING: usize = 16;

/// The most values that stand in for a missing tensor while more are looked for.
const MOST_PLACEHOLDER: usize = 1 << 20;

/// The tensors of a model's folder: one `model.safetensors`, or the shards that `model.safetensors.index.json` names.
pub(crate) struct Weights {
    /// What messages name: the file, or the index of the shards.
    path: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Entry>,
    missing: Vec<String>,
}

/// Where one tensor is.
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Opens the weights in a folder and reads their headers.
    pub(crate) fn open(directory: &Path, limits: &Limits) -> Result<Self, BackendError> {
        let index = directory.join("model.safetensors.index.json");
        let single = directory.join("model.safetensors");
        if single.exists() || !index.exists() {
            return Self::open_file(&single, limits);
        }
        let map: serde_json::Value = read_json(&index, limits)?;
        let refuse = |problem: String| BackendError::Config { path: index.clone(), problem };
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
        if absent.is_empty() { Ok(weights) } else { Err(BackendError::MissingTensors { path: index, names: absent }) }
    }

    /// Opens one safetensors file and reads its header.
    pub(crate) fn open_file(path: &Path, limits: &Limits) -> Result<Self, BackendError> {
        let mut weights = Self { path: path.into(), files: Vec::new(), tensors: BTreeMap::new(), missing: Vec::new() };
        weights.add_file(path, limits)?;
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path, limits: &Limits) -> Result<(), BackendError> {
        let read = |source| BackendError::Read { path: path.into(), source };
        let invalid = |problem: String| BackendError::Safetensors { path: path.into(), problem };
        let mut file = File::open(path).map_err(read)?;
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

    /// Whether any tensor's name starts with this.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(prefix))
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Takes a tensor; zeros if it is missing, which [`finish`](Self::finish) reports.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor, BackendError> {
        match self.tensors.get(name).map(|entry| &entry.shape) {
            Some(found) if found == shape => self.take_any(name),
            Some(found) => Err(BackendError::WrongTensor {
                path: self.path.clone(),
                name: name.into(),
                found: format!("{found:?}"),
                expected: format!("{shape:?}"),
            }),
            None => {
                self.missing.push(name.into());
                let size: usize = shape.iter().product();
                // A file that lacks this much is of another model: nothing is allocated for what is not there.
                if self.missing.len() >= MOST_MISSING || size > MOST_PLACEHOLDER {
                    return Err(self.report_missing());
                }
                Ok(HostTensor { shape: shape.to_vec(), values: vec![0.0; size] })
            }
        }
    }

    /// Takes a tensor of any shape; an empty one if it is missing, which [`finish`](Self::finish) reports.
    pub(crate) fn take_any(&mut self, name: &str) -> Result<HostTensor, BackendError> {
        let Some(Entry { file, dtype, shape, start, bytes }) = self.tensors.remove(name) else {
            self.missing.push(name.into());
            return Ok(HostTensor { shape: vec![0], values: Vec::new() });
        };
        let (path, file) = &mut self.files[file];
        let read = |source| BackendError::Read { path: path.clone(), source };
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
                return Err(BackendError::WrongTensor {
                    path: path.clone(),
                    name: name.into(),
                    found: format!("{other:?}"),
                    expected: "F32, F16 or BF16, the number formats that can be loaded".into(),
                });
            }
        };
        // Nothing finite comes of them, and the largest of such outputs would still be taken for an answer.
        if let Some((position, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(BackendError::NotFinite { path: path.clone(), name: name.into(), value: *value, position });
        }
        Ok(HostTensor { shape, values })
    }

    /// The names of the tensors that were not taken yet.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Drops the tensors whose names start with one of the prefixes: parts that are not used.
    pub(crate) fn ignore(&mut self, prefixes: &[&str]) {
        self.tensors.retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    fn report_missing(&mut self) -> BackendError {
        BackendError::MissingTensors { path: self.path.clone(), names: std::mem::take(&mut self.missing) }
    }

    /// Reports what is missing or left over.
    pub(crate) fn finish(mut self) -> Result<(), BackendError> {
        if !self.missing.is_empty() {
            return Err(self.report_missing());
        }
        if !self.tensors.is_empty() {
            return Err(BackendError::ExtraTensors { path: self.path, names: self.tensors.into_keys().collect() });
        }
        Ok(())
    }
}

/// What a tensor of a file is called today; `None` for constants that older versions saved beside the weights and that follow
/// from the configuration. The first BERT checkpoints call a layer norm's weight and bias gamma and beta.
fn current_name(name: &str) -> Option<String> {
    let constant = name.ends_with(".rotary_emb.inv_freq");
    let renamed = || name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
    (!constant).then(renamed)
}

/// Builds the layers of a model from its tensors, and digests what it takes.
pub(crate) struct Loader<'a> {
    source: Source<'a>,
    /// What stands before every name in the file: `bert.` in a classification model.
    prefix: String,
    digest: DigestBuilder,
    device: &'a Device,
}

enum Source<'a> {
    Disk(Weights),
    /// Tensors that may be tracked for gradients.
    Memory(&'a BTreeMap<String, Tensor<1>>),
}

impl<'a> Loader<'a> {
    /// A loader of the weights in a folder, digesting under `context`. Names may stand under `prefix` in the file.
    pub(crate) fn open(
        directory: &Path,
        prefix: &str,
        context: &str,
        limits: &Limits,
        device: &'a Device,
    ) -> Result<Self, BackendError> {
        let weights = Weights::open(directory, limits)?;
        let prefix = if weights.has_prefix(prefix) { prefix.to_owned() } else { String::new() };
        Ok(Self { source: Source::Disk(weights), prefix, digest: DigestBuilder::new(context), device })
    }

    /// A loader of tensors in memory.
    pub(crate) fn in_memory(tensors: &'a BTreeMap<String, Tensor<1>>, context: &str, device: &'a Device) -> Self {
        Self { source: Source::Memory(tensors), prefix: String::new(), digest: DigestBuilder::new(context), device }
    }

    /// Adds a constant of the model to its digest.
    pub(crate) fn digest_json(&mut self, value: &serde_json::Value) {
        self.digest.json(value);
    }

    /// Adds a tensor that was taken by [`classifier`](Self::classifier) to the digest.
    pub(crate) fn digest_tensor(&mut self, name: &str, tensor: &HostTensor) {
        self.digest.bytes(name.as_bytes()).bytes(&tensor.to_bytes());
    }

    /// Whether the file has this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Disk(weights) => weights.has(&format!("{}{name}", self.prefix)),
            Source::Memory(tensors) => tensors.contains_key(name),
        }
    }

    /// A flat tensor.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor<1>, BackendError> {
        match &mut self.source {
            Source::Disk(weights) => {
                let tensor = weights.take(&format!("{}{name}", self.prefix), shape)?;
                self.digest_tensor(name, &tensor);
                Ok(to_device(&tensor, self.device))
            }
            Source::Memory(tensors) => {
                let missing = || BackendError::MissingTensors { path: "memory".into(), names: vec![name.to_owned()] };
                tensors.get(name).cloned().ok_or_else(missing)
            }
        }
    }

    /// A matrix as it is in the file, `[rows, columns]`.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor<2>, BackendError> {
        Ok(self.tensor(name, &[rows, columns])?.reshape([rows, columns]))
    }

    /// A linear layer.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Linear, BackendError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[outputs])?) } else { None };
        Ok(Linear { weight: transposed(weight, [outputs, inputs]), bias })
    }

    /// A layer normalisation.
    pub(crate) fn layer_norm(&mut self, name: &str, width: usize, epsilon: f64) -> Result<Norm, BackendError> {
        let weight = self.tensor(&format!("{name}.weight"), &[width])?;
        let bias = Some(self.tensor(&format!("{name}.bias"), &[width])?);
        Ok(Norm { weight, bias, epsilon })
    }

    /// A root mean square normalisation.
    pub(crate) fn rms_norm(&mut self, name: &str, width: usize, epsilon: f64) -> Result<Norm, BackendError> {
        Ok(Norm { weight: self.tensor(&format!("{name}.weight"), &[width])?, bias: None, epsilon })
    }

    /// Takes a tensor by its whole name; `None` if it is not there. It is not part of the digest.
    pub(crate) fn take_optional(&mut self, name: &str, shape: &[usize]) -> Result<Option<HostTensor>, BackendError> {
        match &mut self.source {
            Source::Disk(weights) if weights.has(name) => weights.take(name, shape).map(Some),
            _ => Ok(None),
        }
    }

    /// The classification head in the file; `None` if there is none. It is not part of the digest: stages train heads of
    /// their own.
    ///
    /// A head that has other tensors than the layout, or of other shapes, is refused: the library in Python would fill the
    /// missing ones with random numbers and leave the others out.
    pub(crate) fn classifier(
        &mut self,
        layout: HeadLayout,
        hidden: usize,
    ) -> Result<Option<NamedTensors>, BackendError> {
        let Source::Disk(weights) = &mut self.source else { return Ok(None) };
        let root = format!("{}.", layout.module());
        let present: Vec<String> = weights.names().into_iter().filter(|name| name.starts_with(&root)).collect();
        if present.is_empty() {
            return Ok(None);
        }
        let names = layout.names();
        let (expected, path) = (|name: &String| names.iter().any(|(_, theirs)| theirs == name), weights.path.clone());
        let missing: Vec<String> =
            names.iter().map(|(_, name)| name).filter(|name| !present.contains(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(BackendError::HeadLacks { path, present, names: missing });
        }
        let extra: Vec<String> = present.into_iter().filter(|name| !expected(name)).collect();
        if !extra.is_empty() {
            return Err(BackendError::HeadExtra { path, names: extra });
        }
        let output = format!("{}.weight", layout.output);
        let outputs = weights.tensors.get(&output).and_then(|entry| entry.shape.first().copied()).unwrap_or(0);
        let mut head = NamedTensors::new();
        for (spec, (ours, theirs)) in layout.parameters(outputs, hidden).iter().zip(&names) {
            debug_assert_eq!(spec.name, *ours, "both are in one order");
            head.insert(spec.name.clone(), weights.take(theirs, &spec.shape)?);
        }
        Ok((outputs > 0).then_some(head))
    }

    /// Reports what is missing, or left over and not under one of the prefixes; the digest of all that was taken.
    pub(crate) fn finish(self, unused: &[&str]) -> Result<Digest, BackendError> {
        if let Source::Disk(mut weights) = self.source {
            weights.ignore(unused);
            weights.finish()?;
        }
        Ok(self.digest.finish())
    }
}

/// A flat `[outputs, inputs]` weight as `[inputs, outputs]`; a frozen one is laid out anew so that products read it in
/// order.
pub(crate) fn transposed(flat: Tensor<1>, shape: [usize; 2]) -> Tensor<2> {
    let view = flat.reshape(shape).transpose();
    if view.is_autodiff() { view } else { Tensor::from_data(view.to_data(), &view.device()) }
}

/// Reads all tensors of a safetensors file, within the usual limits.
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong with it.
pub fn read_safetensors(path: &Path) -> Result<NamedTensors, BackendError> {
    let mut weights = Weights::open_file(path, &Limits::default())?;
    weights.names().into_iter().map(|name| Ok((name.clone(), weights.take_any(&name)?))).collect()
}

/// Writes tensors as a safetensors file with the metadata that Hugging Face expects.
///
/// # Errors
///
/// [`BackendError::Write`] naming the file.
pub fn write_safetensors(path: &Path, tensors: &NamedTensors) -> Result<(), BackendError> {
    let bytes: Vec<Vec<u8>> = tensors.values().map(HostTensor::to_bytes).collect();
    let invalid = |error: safetensors::SafeTensorError| BackendError::Safetensors {
        path: path.into(),
        problem: error.to_string(),
    };
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name, view.map_err(invalid)?));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(invalid)?;
    std::fs::write(path, file).map_err(|source| BackendError::Write { path: path.into(), source })
}
