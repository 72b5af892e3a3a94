//! The gradients of a batch with the graph of one block at a time in memory.
//!
//! # Proof note
//!
//! *Before*: a batch, the stage's parameters, and the seed of the step. *After*: the loss and the gradients have the bits that the graph of
//! all blocks gives. *Why*: the forward pass keeps the input of each block and nothing else; from the last block down, each runs again on
//! its input, with the same parameters and the same dropout, which is a function of the seed and the block, so its outputs have the
//! same bits; the gradient of a block's outputs is handed to it as the gradient of the sum of outputs times that gradient, which is the
//! gradient itself (a product with 1); and blocks share nothing but the states between them. Gradients of a tensor that several operations
//! take are added up in the order of the operations' depths in the graph, and of those with the same depth as the graph is walked through
//! from its end: a block's input is put as deep as it would be behind other blocks ([`DEPTH`]), below which no operation on parameters alone
//! reaches. The laws of every PEFT method and model family compare the bits.
//! Known as gradient checkpointing (Chen et al. 2016, arXiv 1604.06174), here with one segment a block.

use burn::tensor::Tensor;
use s3t_core::Task;
use s3t_core::tensors::StageTensors;
use s3t_models::{Backbone, Hidden, Input};

use crate::loss::loss;
use crate::model::StageModel;
use crate::parameters::Parameters;

/// More operations one after the other than an adapter does on its parameters alone.
const DEPTH: usize = 32;

/// The input of a block.
struct BlockInput {
    /// The states that are tracked for their gradient; `None` where nothing below is trained.
    leaf: Option<Tensor<3>>,
    hidden: Hidden,
}

impl BlockInput {
    fn new(hidden: Hidden, is_tracked: bool) -> Self {
        if !is_tracked {
            return Self { leaf: None, hidden };
        }
        let [batch, tokens, width] = hidden.states.dims();
        let leaf = hidden.states.autodiff().require_grad();
        let mut states = leaf.clone();
        for _ in 0..DEPTH / 2 {
            states = states.reshape([batch * tokens, width]).reshape([batch, tokens, width]);
        }
        Self { leaf: Some(leaf), hidden: Hidden { states, ..hidden } }
    }
}

/// A model twice: with parameters that are tracked for gradients, and without.
pub(crate) struct Models {
    pub(crate) tracked: StageModel,
    pub(crate) plain: StageModel,
}

/// A batch of records.
pub(crate) struct Batch<'a> {
    /// The input of the model's first block.
    pub(crate) hidden: Hidden,
    pub(crate) inputs: &'a [&'a Input<'a>],
    /// The number that the loss is multiplied with.
    pub(crate) share: Option<f32>,
}

/// The loss of a batch times its share, and its gradients, of parameters that `tensors` track.
pub(crate) fn gradients(
    task: Task,
    Models { mut tracked, plain }: Models,
    backbone: &Backbone,
    Batch { mut hidden, inputs, share }: Batch<'_>,
    (parameters, tensors): (&Parameters, &StageTensors<Tensor<1>>),
) -> (Tensor<1>, StageTensors<Tensor<1>>) {
    let (start, last) = (tracked.start, backbone.blocks().saturating_sub(1));
    let mut kept = Vec::new();
    for block in start..last {
        kept.push(hidden.clone());
        hidden = backbone.run(hidden, block..block + 1, &plain.adapters);
    }
    // The last block with the head and the loss.
    tracked.start = start.max(last);
    let mut input = BlockInput::new(hidden, tracked.start > start);
    let mut value = loss(task, &tracked, backbone, input.hidden, inputs);
    if let Some(share) = share {
        value = value.mul_scalar(share);
    }
    let mut graph = value.backward();
    let mut found = StageTensors::default();
    parameters.take(&mut graph, tensors, &mut found);
    for (block, below) in (start..last).zip(kept).rev() {
        let Some(gradient) = input.leaf.and_then(|leaf| leaf.grad_remove(&mut graph)) else { break };
        input = BlockInput::new(below, block > start);
        let output = backbone.run(input.hidden, block..block + 1, &tracked.adapters);
        graph = (output.states * gradient).sum().backward();
        parameters.take(&mut graph, tensors, &mut found);
    }
    (value, found)
}
