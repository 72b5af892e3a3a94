//! The shape of a partition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SliceAddress;

/// The number of shards m, and of slices in each shard L.
///
/// ```
/// use s3t_core::PartitionShape;
///
/// let shape = PartitionShape { shards: 2, slices: 3 };
/// assert_eq!(shape.addresses().count(), 6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionShape {
    /// Shards m, at least 1.
    pub shards: u32,
    /// Slices in each shard L, at least 1.
    pub slices: u32,
}

impl PartitionShape {
    /// All slices of all shards, in order.
    pub fn addresses(self) -> impl Iterator<Item = SliceAddress> {
        (0..self.shards).flat_map(move |shard| (0..self.slices).map(move |slice| SliceAddress::new(shard, slice)))
    }

    /// The number of slices of all shards together.
    pub fn count(self) -> u64 {
        u64::from(self.shards) * u64::from(self.slices)
    }
}
