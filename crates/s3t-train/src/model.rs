//! A base model with the adapters and the head of a stage: what answers.

use std::collections::BTreeSet;
use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use s3t_core::tensors::{NamedTensors, StageTensors, parameter_name};
use s3t_core::{Lineage, Task};
use s3t_models::{Backbone, Head, Hidden, Input};
use s3t_peft::tensors::{on_device, stage_on_device, to_host};
use s3t_peft::{Adapters, BlockAdapter, Linear, PeftMethod, bind};
use serde_json::Value;

use crate::TrainError;
use crate::centroid::squared_distance;

/// The adapters of the stages 1..k of a sequence and the head of stage k, ready to run.
#[derive(Debug)]
pub struct StageModel {
    pub(crate) adapters: Adapters,
    pub(crate) start: usize,
    /// `None` for causal language modelling, in which the base model's own head answers.
    pub(crate) head: Option<Head>,
    /// In place of the base model's layer before the head.
    pooler: Option<Linear>,
    /// The last stage's centroid.
    centroid: Option<Vec<f32>>,
}

impl StageModel {
    /// Builds the model of a lineage from the tensors of its stages, first stage first. The head is the last stage's.
    ///
    /// # Errors
    ///
    /// [`TrainError::Lineage`] if the lineage's settings cannot be read, [`TrainError::Core`] if two stages hold one block,
    /// [`TrainError::Peft`] if tensors are missing, [`TrainError::Centroid`] if the last stage's is of another model.
    pub fn new(
        backbone: &Backbone,
        device: &Device,
        lineage: &Lineage,
        stages: &[&StageTensors],
    ) -> Result<Self, TrainError> {
        let tensors = StageTensors::of_chain(stages.iter().map(|stage| stage_on_device(stage, device)))?;
        let centroid = stages.last().and_then(|stage| stage.centroid.as_ref());
        if let Some(centroid) = centroid.filter(|centroid| centroid.values.len() != backbone.hidden()) {
            let found = format!("a centroid of {} numbers for {}", centroid.values.len(), backbone.hidden());
            return Err(TrainError::Centroid { key: lineage.key(), found, wanted: true });
        }
        let model = Self::bind(backbone, &*read_method(lineage)?, lineage, &tensors, None)?;
        Ok(Self { centroid: centroid.map(|centroid| centroid.values.clone()), ..model })
    }

    /// The squared distance of an [embedding](crate::embeddings) from the centroid of the records of the model's stages; `None` if they were trained
    /// without.
    pub fn distance(&self, embedding: &[f32]) -> Option<f32> {
        self.centroid.as_ref().map(|centroid| squared_distance(embedding, centroid))
    }

    /// A model of a method's adapters on some blocks, and of a head with `outputs`, 0 without a head, from tensors that no store
    /// holds.
    ///
    /// # Errors
    ///
    /// [`TrainError::Peft`] if tensors are missing or have other shapes.
    pub fn of_blocks(
        backbone: &Backbone,
        method: &dyn PeftMethod,
        blocks: &BTreeSet<usize>,
        outputs: usize,
        tensors: &StageTensors<Tensor<1>>,
    ) -> Result<Self, TrainError> {
        let (shape, mut adapters) = (backbone.block_shape(), Adapters::none());
        for block in blocks {
            adapters.extend(bind(method, &shape, *block..block + 1, &tensors.blocks, None)?);
        }
        let start = blocks.first().copied().unwrap_or(backbone.blocks());
        Self::of_adapters(backbone, adapters, start, outputs, tensors.head.as_ref(), None)
    }

    /// A model of adapters from elsewhere, the lowest in block `start`, and of a head with `outputs`, 0 without a head. `pooler` takes
    /// the place of the base model's layer before the head.
    ///
    /// # Errors
    ///
    /// [`TrainError::Peft`] if tensors of the head are missing or have other shapes.
    pub fn of_adapters(
        backbone: &Backbone,
        adapters: Adapters,
        start: usize,
        outputs: usize,
        head_tensors: Option<&NamedTensors<Tensor<1>>>,
        pooler: Option<Linear>,
    ) -> Result<Self, TrainError> {
        Ok(Self { adapters, start, head: head(backbone, outputs, head_tensors)?, pooler, centroid: None })
    }

    /// Builds the model from flat tensors that may be tracked for gradients; `step` seeds the dropout of a training step.
    pub(crate) fn bind(
        backbone: &Backbone,
        method: &dyn PeftMethod,
        lineage: &Lineage,
        tensors: &StageTensors<Tensor<1>>,
        step: Option<u64>,
    ) -> Result<Self, TrainError> {
        let start = lineage.trained().start;
        let end = lineage.groups.first().map_or(start, |group| group.end);
        let shape = backbone.block_shape();
        // Only the group that is being trained drops anything: the groups before it answer as they will when serving.
        let mut adapters = bind(method, &shape, start..lineage.trained().end, &tensors.blocks, step)?;
        adapters.extend(bind(method, &shape, lineage.trained().end..end, &tensors.blocks, None)?);
        let head = head(backbone, lineage.recipe.task.outputs(), tensors.head.as_ref())?;
        Ok(Self { adapters, start, head, pooler: None, centroid: None })
    }

    /// The base model's own head on no adapters: what a shard without a live sequence may answer with. `None` if the model
    /// came without a head for this task.
    pub fn base(backbone: &Backbone, device: &Device, task: Task) -> Option<Self> {
        let start = backbone.blocks();
        if task == Task::CausalLm {
            return Some(Self { adapters: Adapters::none(), start, head: None, pooler: None, centroid: None });
        }
        let tensors = on_device(backbone.classifier()?, device);
        let head = head(backbone, task.outputs(), Some(&tensors)).ok()?;
        Some(Self { adapters: Adapters::none(), start, head, pooler: None, centroid: None })
    }

    /// The adapter of a block.
    pub fn adapter(&self, block: usize) -> Option<&dyn BlockAdapter> {
        self.adapters.get(block)
    }

    /// The lowest block with an adapter: below it this model is the base model.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The input of block [`start`](Self::start) for a batch of one padded length.
    pub fn first_input(&self, backbone: &Backbone, inputs: &[&Input<'_>]) -> Hidden {
        let tokens = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
        backbone.run(backbone.embed(inputs, tokens), 0..self.start, &Adapters::none())
    }

    /// The outputs of the head for each of a batch of one padded length.
    ///
    /// # Panics
    ///
    /// As [`logits`](Self::logits).
    pub fn outputs(&self, backbone: &Backbone, inputs: &[&Input<'_>]) -> Vec<Vec<f32>> {
        rows(&to_host(self.logits(backbone, self.first_input(backbone, inputs))), inputs.len())
    }

    /// The outputs of the head for records whose input of block [`start`](Self::start) is given, `[batch, outputs]`.
    ///
    /// # Panics
    ///
    /// If the model has no head: of causal language modelling, ask [`next_token_logits`](Self::next_token_logits).
    pub fn logits(&self, backbone: &Backbone, hidden: Hidden) -> Tensor<2> {
        let head = self.head.as_ref().expect("a model of causal language modelling is not asked for a class");
        let hidden = backbone.run_to_pool(hidden, self.start..backbone.blocks(), &self.adapters);
        head.forward(match &self.pooler {
            Some(pooler) => backbone.pool_with(hidden, pooler),
            None => backbone.pool(hidden),
        })
    }

    /// The logits of the tokens that follow those at `rows`, `[rows, vocabulary]`, for records whose input of block
    /// [`start`](Self::start) is given. A row is record times padded tokens plus token.
    ///
    /// # Panics
    ///
    /// If the base model has no language head, which is refused when a system is made.
    pub fn next_token_logits(&self, backbone: &Backbone, hidden: Hidden, rows: &[usize]) -> Tensor<2> {
        let hidden = backbone.run(hidden, self.start..backbone.blocks(), &self.adapters);
        let [batch, tokens, width] = hidden.states.dims();
        let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &hidden.states.device());
        let states = hidden.states.reshape([batch * tokens, width]).select(0, rows);
        backbone.next_token_logits(states).expect("the model of a causal task has a language head")
    }
}

/// A flat matrix cut into this many rows.
pub fn rows(values: &[f32], count: usize) -> Vec<Vec<f32>> {
    values.chunks((values.len() / count.max(1)).max(1)).map(<[f32]>::to_vec).collect()
}

/// A head with this many outputs; `None` for 0 outputs.
fn head(
    backbone: &Backbone,
    outputs: usize,
    tensors: Option<&NamedTensors<Tensor<1>>>,
) -> Result<Option<Head>, TrainError> {
    let empty = NamedTensors::new();
    let bind = || Head::bind(backbone.head(), outputs, backbone.hidden(), tensors.unwrap_or(&empty));
    Ok((outputs > 0).then(bind).transpose()?)
}

/// The rows that predict the tokens that a causal model learns, in a batch padded to `tokens`: pairs of a row and the id of the
/// token that follows the row, for every token that is learnt.
pub fn learnt_tokens(inputs: &[&Input<'_>], tokens: usize) -> Vec<(usize, u32)> {
    let of_input = |(record, input): (usize, &&Input<'_>)| {
        let of_range = |range: &Range<usize>| {
            let ids = input.ids[range.clone()].iter().copied();
            ((record * tokens + range.start - 1)..).zip(ids).collect::<Vec<_>>()
        };
        input.targets.iter().flat_map(of_range).collect::<Vec<_>>()
    };
    inputs.iter().enumerate().flat_map(of_input).collect()
}

/// The PEFT method of a lineage.
pub(crate) fn read_method(lineage: &Lineage) -> Result<Box<dyn PeftMethod>, TrainError> {
    serde_json::from_value(lineage.recipe.peft.clone())
        .map_err(|error| TrainError::Lineage { key: lineage.key(), problem: error.to_string() })
}

/// Checks that a stage's tensors are those of its own layer group, its head, and its centroid where the lineage asks for one.
///
/// # Errors
///
/// [`TrainError::Isolation`] naming the first tensor that does not belong; [`TrainError::Centroid`] for a centroid that is missing or not asked for.
pub fn check_isolation(lineage: &Lineage, tensors: &StageTensors) -> Result<(), TrainError> {
    let (key, group) = (lineage.key(), lineage.trained());
    if let Some((block, tensors)) = tensors.blocks.iter().find(|(block, _)| !group.contains(**block)) {
        let name = tensors.keys().next().map_or("", String::as_str);
        return Err(TrainError::Isolation { key, tensor: parameter_name(*block, name), group });
    }
    let wanted = lineage.recipe.training.get("centroid").and_then(Value::as_bool).unwrap_or_default();
    match &tensors.centroid {
        Some(_) if !wanted => Err(TrainError::Centroid { key, found: "a centroid".into(), wanted }),
        None if wanted => Err(TrainError::Centroid { key, found: "no centroid".into(), wanted }),
        _ => Ok(()),
    }
}
