//! One shape of a system with its figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PartitionShape;
use crate::budget::cost::Cost;
use crate::budget::lifetime::Lifetime;

/// One shape of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Shards m and slices L.
    pub shape: PartitionShape,
    /// Sequences of a shard B.
    pub budget: usize,
    /// The strategy's plugin name.
    pub strategy: String,
    /// Blocks of each layer group.
    pub blocks_per_slice: usize,
    /// The cost of training and storage.
    pub cost: Cost,
    /// The requests that the shape lasts.
    pub lifetime: Lifetime,
    /// The benefit, as the request's goal defines it.
    #[serde(deserialize_with = "crate::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub benefit: f64,
}
