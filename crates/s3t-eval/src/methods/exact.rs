//! Exact methods: what they give is what training without the records gives.

use std::time::{Duration, Instant};

use s3t_core::{Record, RecordId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::steps::{Passes, learn};
use super::{Adapter, Bench, Guarantee, Learnt, UnlearningMethod};
use crate::EvalError;
use crate::attack::{Copy, draw};

/// Training again from nothing on the records that are left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullRetraining {}

#[typetag::serde(name = "full-retraining")]
impl UnlearningMethod for FullRetraining {
    fn guarantee(&self) -> Guarantee {
        Guarantee::EqualBits
    }

    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, |bench, adapter, _| {
            adapter.values = bench.trained(&adapter.records, adapter.seed)?.values;
            Ok(())
        })
    }
}

s3t_core::plugin!(UnlearningMethod, "full-retraining", FullRetraining);

/// SISA (Bourtoule et al. 2021, arXiv 1912.03817): a model for each shard, trained slice after slice with a checkpoint after each; a deletion
/// trains the shard again from the checkpoint before the slice. Shards and slices are the pipeline's, the whole adapter trains in every step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sisa {}

/// The shards of SISA.
struct Shards<'a> {
    bench: &'a Bench<'a>,
    seed: u64,
    /// `[shard][slice]`.
    records: Vec<Vec<Vec<Record>>>,
    /// `[shard][slices]`: the numbers after so many slices, from 0.
    checkpoints: Vec<Vec<Vec<f32>>>,
}

impl Shards<'_> {
    /// The shard and slice of a record: a function of its group's name, which is its subject's or its own.
    fn place(&self, record: &Record) -> (usize, usize) {
        let number = draw::number("sisa", self.seed, &draw::group(record));
        let shards = self.records.len() as u64;
        ((number % shards) as usize, ((number / shards) % self.records[0].len() as u64) as usize)
    }

    /// Trains a shard from a slice on, from the checkpoint before it.
    fn train_from(&mut self, shard: usize, slice: usize) -> Result<(), EvalError> {
        let (tuner, epochs) = (self.bench.tuner(), self.bench.training().epochs);
        self.checkpoints[shard].truncate(slice + 1);
        for slices in slice + 1..=self.records[shard].len() {
            let mut values = self.checkpoints[shard][slices - 1].clone();
            let seen = self.records[shard][..slices].concat();
            let seed = self.seed.wrapping_add((shard * 1000 + slices) as u64);
            learn(self.bench.means(), &mut values, &tuner.prepare(&seen)?, Passes { epochs, rate: 1.0, seed })?;
            self.checkpoints[shard].push(values);
        }
        Ok(())
    }
}

impl Learnt for Shards<'_> {
    fn forget(&mut self, records: &[Record]) -> Result<Option<Duration>, EvalError> {
        for shard in 0..self.records.len() {
            let slices = records.iter().map(|record| self.place(record)).filter(|place| place.0 == shard);
            let Some(first) = slices.map(|(_, slice)| slice).min() else { continue };
            for of_slice in &mut self.records[shard] {
                of_slice.retain(|record| !records.iter().any(|gone| gone.id == record.id));
            }
            self.train_from(shard, first)?;
        }
        Ok(None)
    }

    fn answer(&self, records: &[Record]) -> Result<Vec<Vec<f32>>, EvalError> {
        let tuner = self.bench.tuner();
        let inputs = tuner.prepare(records)?;
        let of_shards = self.checkpoints.iter().filter_map(|of| of.last());
        let of_shards = of_shards.map(|values| tuner.logits(values, &inputs)).collect::<Result<Vec<_>, _>>()?;
        let combine = |at: usize| {
            let rows: Vec<&[f32]> = of_shards.iter().map(|rows| &*rows[at]).collect();
            as_logits(self.bench, self.bench.aggregator().combine(&rows))
        };
        Ok((0..records.len()).map(combine).collect())
    }
}

#[typetag::serde(name = "sisa")]
impl UnlearningMethod for Sisa {
    fn guarantee(&self) -> Guarantee {
        Guarantee::EqualBits
    }

    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        let (shards, slices) = (bench.shape().shards as usize, bench.shape().slices as usize);
        let first = vec![bench.tuner().initial(seed)];
        let mut all =
            Shards { bench, seed, records: vec![vec![Vec::new(); slices]; shards], checkpoints: vec![first; shards] };
        for record in records {
            let (shard, slice) = all.place(record);
            all.records[shard][slice].push(record.clone());
        }
        for shard in 0..shards {
            all.train_from(shard, 0)?;
        }
        Ok(Box::new(all))
    }
}

s3t_core::plugin!(UnlearningMethod, "sisa", Sisa);

/// The smallest share whose logarithm is taken.
const MIN_SHARE: f32 = 1e-6;

/// Combined scores as logits: of an aggregator that gives shares, their logarithms.
fn as_logits(bench: &Bench<'_>, scores: Vec<f32>) -> Vec<f32> {
    if bench.aggregator().keeps_scale() {
        return scores;
    }
    scores.into_iter().map(|share| share.max(MIN_SHARE).ln()).collect()
}

/// S3T as the pipeline describes it: stages that saw the records are switched off and erased, and with `repair` trained again from what is
/// left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3t {
    /// `false` answers with the stages that are left, which must be some in a shard.
    pub repair: bool,
}

impl Default for S3t {
    fn default() -> Self {
        Self { repair: true }
    }
}

/// A system in a store of its own.
struct Stored<'a> {
    bench: &'a Bench<'a>,
    copy: Copy,
    repair: bool,
}

impl Learnt for Stored<'_> {
    fn forget(&mut self, records: &[Record]) -> Result<Option<Duration>, EvalError> {
        let ids: Vec<RecordId> = records.iter().map(|record| record.id.clone()).collect();
        let start = Instant::now();
        self.copy.system.delete(&ids, &[])?;
        let off = start.elapsed();
        if self.repair {
            self.bench.build(&self.copy.system)?;
        }
        Ok(Some(off))
    }

    fn answer(&self, records: &[Record]) -> Result<Vec<Vec<f32>>, EvalError> {
        let predictions = self.copy.system.predict(records)?;
        Ok(predictions.into_iter().map(|prediction| as_logits(self.bench, prediction.scores)).collect())
    }
}

#[typetag::serde(name = "s3t")]
impl UnlearningMethod for S3t {
    fn guarantee(&self) -> Guarantee {
        Guarantee::EqualBits
    }

    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Ok(Box::new(Stored { bench, copy: bench.system(records, seed)?, repair: self.repair }))
    }
}

s3t_core::plugin!(UnlearningMethod, "s3t", S3t);
