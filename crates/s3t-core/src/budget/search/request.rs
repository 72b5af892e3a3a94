//! The question of a search.

use serde::Serialize;

use crate::Prior;
use crate::budget::cost::ModelShape;

/// The benefit that is worth paying for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Expected requests until every shard is dead.
    Deletions,
    /// The expected number of adapted blocks that a shard still answers with after so many requests: best depth times
    /// blocks per slice. Exact, so for L up to [`MAX_EXACT_SLICES`](crate::budget::depth::MAX_EXACT_SLICES) only.
    Depth {
        /// Requests to the whole system.
        requests: u64,
    },
}

/// The limits of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SearchLimits {
    /// Floating-point operations of training.
    pub flops: f64,
    /// Bytes of stages on disk.
    pub bytes: u64,
    /// Shards. They are free in training and make a system last, but each model sees its share of the records only and every
    /// answer asks them all; what that costs in accuracy no plan can know, so the limit is low unless it is raised.
    pub shards: u32,
    /// Sequences of a shard.
    pub budget: usize,
    /// Records that a slice must have.
    pub slice_records: u64,
    /// Blocks that a slice must have; below two, training is known to collapse (S3T, section 5).
    pub slice_blocks: usize,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self { flops: f64::INFINITY, bytes: u64::MAX, shards: 10, budget: 64, slice_records: 100, slice_blocks: 2 }
    }
}

/// The parts of the shape that are given and not searched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Shards.
    pub shards: Option<u32>,
    /// Slices.
    pub slices: Option<u32>,
    /// Sequences of a shard.
    pub budget: Option<usize>,
    /// Blocks of each layer group.
    pub blocks_per_slice: Option<usize>,
}

/// The request to search for a shape.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// Records N.
    pub records: u64,
    /// The model.
    pub model: ModelShape,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// The probability that a request hits each slice of a shard. A prior per slice fixes L.
    pub prior: &'a Prior,
    /// The benefit that is worth paying for.
    pub goal: Goal,
    /// Requests that the system should last, if that is known.
    pub wanted_deletions: Option<f64>,
    /// The limits.
    pub limits: SearchLimits,
    /// The parts that are given.
    pub fixed: Fixed,
    /// The seed of strategies that draw.
    pub seed: u64,
}
