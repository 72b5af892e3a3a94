//! A model's weights, read one tensor at a time.
//!
//! A file's header is read first; each tensor's bytes are read when the model takes it, straight into the form it keeps.
//! So loading needs no more memory than the model and its largest tensor.

mod safetensors;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;
use s3t_peft::tensors::to_device;
use s3t_peft::{HostTensor, Linear, NamedTensors, Weight};

use self::safetensors::Weights;
use crate::norm::{Norm, NormKind, NormSpec};
use crate::{HeadLayout, LoadOptions, ModelError, Precision, WeightFormat};

pub use self::safetensors::{read_safetensors, safetensors_names, write_safetensors};

/// The loader of a model: it builds layers from tensors and digests the tensors that it takes.
pub struct Loader<'a> {
    source: Source<'a>,
    /// The prefix of every name in the file: `bert.` in a classification model.
    prefix: String,
    /// Tensors that stand in for others of the file, by their names without the prefix.
    stand_ins: BTreeMap<String, HostTensor>,
    digest: DigestBuilder,
    device: &'a Device,
    /// The precision of linear layers.
    precision: Precision,
    /// The form of the weights of linear layers.
    format: WeightFormat,
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
        LoadOptions { limits, precision, weights: format, .. }: &LoadOptions,
        device: &'a Device,
    ) -> Result<Self, ModelError> {
        let weights = Weights::open(directory, limits)?;
        let prefix = if weights.has_prefix(prefix) { prefix.to_owned() } else { String::new() };
        let mut digest = DigestBuilder::new(context);
        let (precision, format) = (*precision, *format);
        if !format.is_full() {
            digest.json(&serde_json::json!({ "weights": format.name() }));
        }
        let source = Source::Disk(weights);
        Ok(Self { source, prefix, stand_ins: BTreeMap::new(), digest, device, precision, format })
    }

    /// A loader of tensors in memory.
    pub(crate) fn in_memory(tensors: &'a BTreeMap<String, Tensor<1>>, context: &str, device: &'a Device) -> Self {
        let digest = DigestBuilder::new(context);
        let (source, prefix) = (Source::Memory(tensors), String::new());
        let (precision, format) = (Precision::F32, WeightFormat::Full);
        Self { source, prefix, stand_ins: BTreeMap::new(), digest, device, precision, format }
    }

    /// Adds a constant of the model to its digest.
    pub(crate) fn digest_json(&mut self, value: &serde_json::Value) {
        self.digest.json(value);
    }

    /// The digest of all that was taken so far.
    pub(crate) fn digest(&self) -> Digest {
        self.digest.finish()
    }

    /// The precision of linear layers.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The device of the layers.
    pub(crate) fn device(&self) -> &Device {
        self.device
    }

    /// Puts a tensor in the place of one that the file lacks.
    pub(crate) fn stand_in(&mut self, name: &str, tensor: HostTensor) {
        self.stand_ins.insert(name.into(), tensor);
    }

    /// Adds a tensor that was taken by [`take_optional`](Self::take_optional) to the digest.
    pub(crate) fn digest_tensor(&mut self, name: &str, tensor: &HostTensor) {
        self.digest.bytes(name.as_bytes()).bytes(&tensor.to_bytes());
    }

    /// True if the file has this tensor under the prefix.
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Disk(weights) => weights.has(&format!("{}{name}", self.prefix)),
            Source::Memory(tensors) => tensors.contains_key(name),
        }
    }

    /// Takes a flat tensor of a shape into the digest. Of a missing tensor it makes zeros, and the load fails at its end.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongTensor`] for another shape or number format, [`ModelError::NotFinite`], [`ModelError::Read`], and
    /// [`ModelError::MissingTensors`] if too much is missing to go on.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor<1>, ModelError> {
        if let Some(tensor) = self.stand_ins.remove(name) {
            self.digest_tensor(name, &tensor);
            return Ok(to_device(&tensor, self.device));
        }
        match &mut self.source {
            Source::Disk(weights) => {
                let tensor = weights.take(&format!("{}{name}", self.prefix), shape)?;
                self.digest_tensor(name, &tensor);
                Ok(to_device(&tensor, self.device))
            }
            Source::Memory(tensors) => {
                let missing = || ModelError::MissingTensors { path: "memory".into(), names: vec![name.to_owned()] };
                tensors.get(name).cloned().ok_or_else(missing)
            }
        }
    }

    /// Takes a matrix as it is in the file, `[rows, columns]`.
    ///
    /// # Errors
    ///
    /// The errors of [`tensor`](Self::tensor).
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor<2>, ModelError> {
        Ok(self.tensor(name, &[rows, columns])?.reshape([rows, columns]))
    }

    /// Takes a linear layer, whose weight is `[outputs, inputs]` in the file.
    ///
    /// # Errors
    ///
    /// The errors of [`tensor`](Self::tensor), and [`ModelError::TooManyInputs`].
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear, ModelError> {
        if self.format == WeightFormat::Int8 && inputs > Weight::MAX_BYTE_INPUTS {
            let (layer, max) = (format!("{}{name}", self.prefix), Weight::MAX_BYTE_INPUTS);
            return Err(ModelError::TooManyInputs { layer, inputs, max });
        }
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[outputs])?) } else { None };
        let view = |weight: Tensor<1>| weight.reshape([outputs, inputs]).transpose();
        let weight = match (self.format, self.precision) {
            (WeightFormat::Int8, _) => Weight::in_bytes(&view(weight)),
            (WeightFormat::Nf4, _) => Weight::in_nibbles(&view(weight)),
            (WeightFormat::Full, Precision::F32) => Weight::packed(&view(weight)),
            (WeightFormat::Full, Precision::Bf16) => Weight::halved(&view(weight)),
        };
        Ok(Linear { weight, bias })
    }

    /// The frozen weights of a language head, in the precision of linear layers.
    pub(crate) fn frozen(&self, weight: Tensor<2>) -> Weight {
        match self.precision {
            Precision::F32 => weight.into(),
            Precision::Bf16 => Weight::halved(&weight),
        }
    }

    /// Takes the normalisation `name` of rows of this width, with the kind and the epsilon of `spec`.
    ///
    /// # Errors
    ///
    /// The errors of [`tensor`](Self::tensor).
    pub fn norm(&mut self, name: &str, spec: NormSpec, width: usize) -> Result<Norm, ModelError> {
        let weight = self.tensor(&format!("{name}.weight"), &[width])?;
        Ok(match spec.kind {
            NormKind::Layer => {
                let bias = self.tensor(&format!("{name}.bias"), &[width])?;
                Norm::Layer { weight, bias, epsilon: spec.epsilon }
            }
            NormKind::Rms => Norm::Rms { weight, epsilon: spec.epsilon },
        })
    }

    /// Takes a tensor by its whole name; `None` if the file lacks it. It is not part of the digest.
    pub(crate) fn take_optional(&mut self, name: &str, shape: &[usize]) -> Result<Option<HostTensor>, ModelError> {
        match &mut self.source {
            Source::Disk(weights) if weights.has(name) => weights.take(name, shape).map(Some),
            _ => Ok(None),
        }
    }

    /// The classification head in the file; `None` without a head. It is not part of the digest: stages train heads of
    /// their own.
    ///
    /// A head that has other tensors than the layout, or of other shapes, is refused: the library in Python would fill the
    /// missing ones with random numbers and leave the others out.
    pub(crate) fn classifier(&mut self, layout: HeadLayout, hidden: usize) -> Result<Option<NamedTensors>, ModelError> {
        let Source::Disk(weights) = &mut self.source else { return Ok(None) };
        let roots: Vec<String> = layout.modules().iter().map(|module| format!("{module}.")).collect();
        let of_head = |name: &String| roots.iter().any(|root| name.starts_with(root));
        let present: Vec<String> = weights.names().into_iter().filter(of_head).collect();
        if present.is_empty() {
            return Ok(None);
        }
        let names = layout.names();
        let (expected, path) = (|name: &String| names.iter().any(|(_, theirs)| theirs == name), weights.path.clone());
        let missing: Vec<String> =
            names.iter().map(|(_, name)| name).filter(|name| !present.contains(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(ModelError::HeadLacks { path, present, names: missing });
        }
        let extra: Vec<String> = present.into_iter().filter(|name| !expected(name)).collect();
        if !extra.is_empty() {
            return Err(ModelError::HeadExtra { path, names: extra });
        }
        let output = format!("{}.weight", layout.output);
        let outputs = weights.shape(&output).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let mut head = NamedTensors::new();
        for (spec, (ours, theirs)) in layout.parameters(outputs, hidden).iter().zip(&names) {
            debug_assert_eq!(spec.name, *ours, "both are in one order");
            head.insert(spec.name.clone(), weights.take(theirs, &spec.shape)?);
        }
        Ok((outputs > 0).then_some(head))
    }

    /// The digest of all that was taken; tensors that are missing, or left over and not under one of the prefixes, are errors.
    pub(crate) fn finish(self, unused: &[&str]) -> Result<Digest, ModelError> {
        if let Source::Disk(mut weights) = self.source {
            weights.ignore(unused);
            weights.finish()?;
        }
        Ok(self.digest.finish())
    }
}
