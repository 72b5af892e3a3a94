//! The models of several shards in one pass through the base model.
//!
//! # Proof note
//!
//! *Before*: every model's adapters change nothing but the outputs of linear layers. *After*: each model's outputs are what it
//! gives alone, up to the rounding of products with more rows. *Why*: a block treats each record's rows independently of the others,
//! so rows of several shards may stand below each other; each part of the rows sees its own shard's adapters, and below its
//! lowest adapter a model is the base model, whose rows all models there share.

use burn::tensor::Tensor;
use s3t_models::{Backbone, Hidden, Input};
use s3t_peft::StackedAdapter;
use s3t_peft::tensors::to_host;

use crate::{StageModel, rows};

/// Rows of the residual stream that go through a block together, at most, unless one record has more: what lies between two
/// layers then stays in the processor's caches.
const ROWS: usize = 2048;

/// The outputs of each model's head for each of a batch of one padded length, `[model][input]`; `None` if an adapter does more than
/// low-rank updates, or a model has no head.
pub fn stacked_outputs(
    backbone: &Backbone,
    models: &[&StageModel],
    inputs: &[&Input<'_>],
) -> Option<Vec<Vec<Vec<f32>>>> {
    let fits = |model: &&StageModel| {
        let adapters = (0..backbone.blocks()).filter_map(|block| model.adapters.get(block));
        model.head.is_some() && { adapters }.all(|adapter| adapter.low_rank().is_some())
    };
    if !models.iter().all(fits) {
        return None;
    }
    let tokens = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let together = (ROWS / (tokens * models.len()).max(1)).max(1);
    let mut outputs = vec![Vec::with_capacity(inputs.len()); models.len()];
    for chunk in inputs.chunks(together) {
        for (all, of_chunk) in outputs.iter_mut().zip(outputs_of(backbone, models, chunk, tokens)) {
            all.extend(of_chunk);
        }
    }
    Some(outputs)
}

fn outputs_of(backbone: &Backbone, models: &[&StageModel], inputs: &[&Input<'_>], tokens: usize) -> Vec<Vec<Vec<f32>>> {
    let batch = inputs.len();
    let lengths: Vec<usize> = inputs.iter().map(|input| input.length).collect();
    // The model of each part of the rows; `None` for the rows of the base model, as long as a model still follows it.
    let mut layout: Vec<Option<usize>> = vec![None];
    let mut states = backbone.embed(inputs, tokens).states;
    for block in 0..backbone.blocks() {
        let starting: Vec<usize> = (0..models.len()).filter(|model| models[*model].start == block).collect();
        let is_followed = models.iter().any(|model| model.start > block);
        let [_, tokens, width] = states.dims();
        // The base model's rows stand first.
        let base = states.clone().slice([0..batch, 0..tokens, 0..width]);
        let copied = match starting.split_first() {
            Some((first, others)) if !is_followed => {
                layout[0] = Some(*first);
                others
            }
            _ => starting.as_slice(),
        };
        if !copied.is_empty() {
            layout.extend(copied.iter().copied().map(Some));
            states = Tensor::cat(std::iter::once(states).chain(copied.iter().map(|_| base.clone())).collect(), 0);
        }
        let adapter = |model: &Option<usize>| models[(*model)?].adapters.get(block)?.low_rank();
        let stacked = StackedAdapter(layout.iter().map(adapter).collect());
        let hidden = Hidden::new(states, lengths.repeat(layout.len()));
        let layer = &backbone.transformer_blocks()[block];
        let hidden = if block + 1 == backbone.blocks() {
            let pooled = backbone.pooled_tokens(&hidden);
            layer.forward_only(hidden, Some(&stacked), &pooled)
        } else {
            layer.forward(hidden, Some(&stacked))
        };
        states = hidden.states;
    }
    let pooled = backbone.pool(Hidden::new(states, vec![1; batch * layout.len()]));
    let width = pooled.dims()[1];
    let answer = |(index, model): (usize, &StageModel)| {
        // A model without adapters follows the base model to the end.
        let place = layout.iter().position(|of| *of == Some(index)).unwrap_or(0);
        let own = pooled.clone().slice([place * batch..(place + 1) * batch, 0..width]);
        let head = model.head.as_ref().map(|head| head.forward(own));
        head.map(|outputs| rows(&to_host(outputs), batch)).unwrap_or_default()
    };
    models.iter().copied().enumerate().map(answer).collect()
}
