//! A base model with the adapters and the head of a stage: what answers.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use s3t_backends::{Backbone, Hidden};
use s3t_core::{BlockRange, Lineage};
use s3t_peft::{Adapters, HostTensor, NamedTensors, PeftMethod, bind};

use crate::TrainError;

/// The name of a stage's head weight, `[classes, hidden]`.
pub const HEAD_WEIGHT: &str = "head.weight";
/// The name of a stage's head bias, `[classes]`.
pub const HEAD_BIAS: &str = "head.bias";

/// Runs `work` with one thread for tensor operations, so that its bits and its speed do not depend on what runs beside
/// it. Many such calls run side by side.
///
/// # Errors
///
/// [`TrainError::Threads`] if the machine would not start a thread.
pub fn one_thread<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(work))
}

/// The adapters of the stages 1..k of a sequence and the head of stage k, ready to run.
#[derive(Debug)]
pub struct StageModel {
    adapters: Adapters,
    start: usize,
    head: Head,
}

#[derive(Debug)]
struct Head {
    /// `[hidden, classes]`.
    weight: Tensor<2>,
    /// `[classes]`.
    bias: Tensor<1>,
}

impl StageModel {
    /// Builds the model of a lineage from the tensors of its stages, first stage first. The head is the last stage's.
    ///
    /// # Errors
    ///
    /// [`TrainError::Lineage`] if the lineage's settings cannot be read, [`TrainError::Peft`] if tensors are missing.
    pub fn new(
        backbone: &dyn Backbone,
        device: &Device,
        lineage: &Lineage,
        stages: &[&NamedTensors],
    ) -> Result<Self, TrainError> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in stages.iter().flat_map(|stage| stage.iter()) {
            // Later stages follow earlier ones, so the head that stays is that of the last.
            tensors.insert(name.clone(), tensor.to_device(device));
        }
        Self::bind(backbone, &*read_method(lineage)?, lineage, &tensors)
    }

    /// Builds the model from flat tensors that may be tracked for gradients.
    pub(crate) fn bind(
        backbone: &dyn Backbone,
        method: &dyn PeftMethod,
        lineage: &Lineage,
        tensors: &BTreeMap<String, Tensor<1>>,
    ) -> Result<Self, TrainError> {
        let start = lineage.trained().start;
        let end = lineage.groups.first().map_or(start, |group| group.end);
        let adapters = bind(method, &backbone.block_shape(), start..end, tensors)?;
        let of = |name: &str, length: usize| match tensors.get(name) {
            Some(tensor) if tensor.dims() == [length] => Ok(tensor.clone()),
            Some(tensor) => Err(TrainError::Lineage {
                key: lineage.key(),
                problem: format!("`{name}` has shape {:?}", tensor.dims()),
            }),
            None => Err(TrainError::Lineage { key: lineage.key(), problem: format!("`{name}` is missing") }),
        };
        let (classes, hidden) = (lineage.recipe.classes, backbone.hidden());
        let weight = of(HEAD_WEIGHT, classes * hidden)?.reshape([classes, hidden]).transpose();
        Ok(Self { adapters, start, head: Head { weight, bias: of(HEAD_BIAS, classes)? } })
    }

    /// The base model's own classification head on no adapters: what a shard without a live sequence may answer with.
    /// `None` if the model came without a head for this many classes.
    pub fn base(backbone: &dyn Backbone, device: &Device, classes: usize) -> Option<Self> {
        let classifier = backbone.classifier().filter(|classifier| classifier.bias.len() == classes)?;
        let host = |values: &[f32]| HostTensor { shape: vec![values.len()], values: values.to_vec() }.to_device(device);
        let weight = host(&classifier.weight).reshape([classes, backbone.hidden()]).transpose();
        let head = Head { weight, bias: host(&classifier.bias) };
        Some(Self { adapters: Adapters::none(), start: backbone.blocks(), head })
    }

    /// The lowest block with an adapter: below it this model is the base model.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The logits for records whose input of block [`start`](Self::start) is given.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[batch, tokens, hidden]`
    /// - result: `[batch, classes]`
    pub fn logits(&self, backbone: &dyn Backbone, hidden: Hidden) -> Tensor<2> {
        let hidden = backbone.run(hidden, self.start..backbone.blocks(), &self.adapters);
        backbone.pool(hidden).matmul(self.head.weight.clone()) + self.head.bias.clone().unsqueeze::<2>()
    }
}

/// The PEFT method of a lineage.
pub(crate) fn read_method(lineage: &Lineage) -> Result<Box<dyn PeftMethod>, TrainError> {
    serde_json::from_value(lineage.recipe.peft.clone())
        .map_err(|error| TrainError::Lineage { key: lineage.key(), problem: error.to_string() })
}

/// Checks that a stage's tensors are those of its own layer group, matched by block index, and its head.
///
/// # Errors
///
/// [`TrainError::Isolation`] naming the first tensor that does not belong.
pub fn check_isolation(lineage: &Lineage, tensors: &NamedTensors) -> Result<(), TrainError> {
    let group = lineage.trained();
    let belongs = |name: &str| name == HEAD_WEIGHT || name == HEAD_BIAS || in_group(name, group);
    match tensors.keys().find(|name| !belongs(name)) {
        Some(name) => Err(TrainError::Isolation { key: lineage.key(), tensor: name.clone(), group }),
        None => Ok(()),
    }
}

fn in_group(name: &str, group: BlockRange) -> bool {
    let index = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next());
    index.and_then(|index| index.parse().ok()).is_some_and(|block| group.contains(block))
}
