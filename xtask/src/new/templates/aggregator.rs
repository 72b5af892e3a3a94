//! An aggregator: one answer from the outputs of the shards that serve.

use s3t_core::Aggregator;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The same score for every class.
///
/// # Proof note
///
/// *Before*: at least one row, all of one length. *After*: one score a class, a function of the rows alone. *Why*: state here that
/// nothing was learnt from records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl Aggregator for NewPlugin {
    /// First step: combine the rows. Until then the law says that agreement is not kept.
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        vec![0.0; members[0].len()]
    }
}

s3t_core::plugin!(Aggregator, "new-plugin", NewPlugin);
