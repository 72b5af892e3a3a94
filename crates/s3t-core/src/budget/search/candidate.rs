//! One shape of a system with its figures.

use serde::Serialize;

use crate::PartitionShape;
use crate::budget::cost::Cost;
use crate::budget::lifetime::Lifetime;

/// One shape of a system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Shards m and slices L.
    pub shape: PartitionShape,
    /// Sequences of a shard B.
    pub budget: usize,
    /// The strategy's plugin name.
    pub strategy: String,
    /// Blocks of each layer group.
    pub blocks_per_slice: usize,
    /// What training and keeping it costs.
    pub cost: Cost,
    /// How many requests it lasts.
    pub lifetime: Lifetime,
    /// What is paid for: see [`Goal`].
    pub benefit: f64,
}
