//! A choice of members: the live prefixes of a shard that answer.

use s3t_core::{LivePrefix, Members};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// No prefix at all.
///
/// # Proof note
///
/// *Before*: live prefixes of a shard. *After*: some of them. *Why*: state here which of depths, sequences and slice numbers decide;
/// nothing else is there to look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl Members for NewPlugin {
    /// First step: choose prefixes. Until then the law says that none is chosen.
    fn choose(&self, _live: &[LivePrefix<'_>]) -> Vec<usize> {
        Vec::new()
    }
}

s3t_core::plugin!(Members, "new-plugin", NewPlugin);
