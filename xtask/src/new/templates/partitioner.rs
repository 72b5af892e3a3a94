//! A partitioner: the slice of each subject, and of each record without one.

use s3t_core::partition::Group;
use s3t_core::{PartitionShape, Partitioner, SliceAddress, StoreSecret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first slice of the first shard, for every group.
///
/// # Proof note
///
/// *Before*: one group, the shape, and the store's secret. *After*: the place of the group is a function of these alone. *Why*: state
/// here what the place is computed from: a deleted record must never have been an argument of another group's place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl Partitioner for NewPlugin {
    /// First step: spread the groups. Until then the law says that slices stay empty.
    fn place(&self, _group: Group<'_>, _ordinal: u64, _shape: PartitionShape, _secret: &StoreSecret) -> SliceAddress {
        SliceAddress::new(0, 0)
    }
}

s3t_core::plugin!(Partitioner, "new-plugin", NewPlugin);
