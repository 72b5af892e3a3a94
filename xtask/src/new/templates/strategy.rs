//! A sequence strategy: the orders in which the slices of a shard are trained.

use s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The slices in order, for each sequence.
///
/// # Proof note
///
/// *Before*: the request has at least one slice and a budget above 0. *After*: exactly `budget` distinct permutations, a function of
/// the request alone. *Why*: state here why no two are equal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl SequenceStrategy for NewPlugin {
    /// First step: make distinct sequences. Until then the law refuses every budget above 1.
    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        let order = || Sequence::new((0..request.slices).map(SliceId).collect(), request.slices);
        (0..request.budget).map(|_| order()).collect()
    }
}

s3t_core::plugin!(SequenceStrategy, "new-plugin", NewPlugin);
