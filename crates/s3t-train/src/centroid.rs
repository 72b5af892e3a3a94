//! Centroids: the mean of the base model's embeddings of a stage's records.
//!
//! # Proof note
//!
//! *Before*: records and the frozen base model. *After*: a function of both, bit for bit, that belongs to the stage of these records. *Why*:
//! an embedding is a function of a record and the base model; sums run in the order of the records, in double precision, on one thread.

use s3t_core::tensors::HostTensor;
use s3t_executor::StageProgress;
use s3t_models::{Backbone, Input};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;

use crate::batches::by_padded_length;
use crate::{TrainError, on_threads};

/// Tokens whose states are computed together, with the padding.
const TOKENS_TOGETHER: usize = 2048;

/// Records between two looks whether the caller wants to stop.
const RECORDS_TOGETHER: usize = 64;

/// The embedding of each of a batch of one padded length: the mean over its own tokens of what comes out of the base model's last block, each
/// with the hidden size.
pub fn embeddings(backbone: &Backbone, inputs: &[&Input<'_>]) -> Vec<Vec<f32>> {
    let tokens = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let together = (TOKENS_TOGETHER / tokens.max(1)).max(1);
    let of_chunk = |chunk: &[&Input<'_>]| {
        let hidden = backbone.run(backbone.embed(chunk, tokens), 0..backbone.blocks(), &Adapters::none());
        let [_, tokens, width] = hidden.states.dims();
        let values = to_host(hidden.states);
        let of_record = |(states, length): (&[f32], &usize)| mean(states.chunks(width.max(1)).take(*length), width);
        values.chunks((tokens * width).max(1)).zip(hidden.lengths.iter()).map(of_record).collect::<Vec<_>>()
    };
    inputs.chunks(together).flat_map(of_chunk).collect()
}

/// The mean of the embeddings of records, `[hidden]`; `None` if the caller asked to stop.
pub(crate) fn centroid(
    backbone: &Backbone,
    inputs: &[&Input<'_>],
    progress: &dyn StageProgress,
) -> Result<Option<HostTensor>, TrainError> {
    let mut of_records = vec![Vec::new(); inputs.len()];
    let padded = inputs.iter().map(|input| input.padded).enumerate();
    for batch in by_padded_length(padded, RECORDS_TOGETHER) {
        if progress.is_cancelled() {
            return Ok(None);
        }
        let of_batch: Vec<&Input<'_>> = batch.iter().map(|at| inputs[*at]).collect();
        // Threads for one batch: there may be more for the next.
        let found = on_threads(progress.threads(), || embeddings(backbone, &of_batch))?;
        for (at, embedding) in batch.into_iter().zip(found) {
            of_records[at] = embedding;
        }
    }
    let values = mean(of_records.iter().map(Vec::as_slice), backbone.hidden());
    Ok(Some(HostTensor { shape: vec![values.len()], values }))
}

/// The squared distance of two embeddings.
pub(crate) fn squared_distance(one: &[f32], other: &[f32]) -> f32 {
    let square = |(one, other): (&f32, &f32)| (f64::from(*one) - f64::from(*other)).powi(2);
    one.iter().zip(other).map(square).sum::<f64>() as f32
}

/// The mean of rows of a width; zeros without rows.
fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let (mut sum, mut count) = (vec![0.0_f64; width], 0_u32);
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        count += 1;
    }
    sum.into_iter().map(|sum| (sum / f64::from(count.max(1))) as f32).collect()
}
