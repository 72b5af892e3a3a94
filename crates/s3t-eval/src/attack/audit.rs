//! The result of an audit by attack.

use s3t_attack::report::AttackReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttackSettings, OracleEvidence};

/// An audit by attack: members are deleted from a copy of the system, and attacks try to tell them from held-out records before the
/// deletion, after it, and on an oracle. Of scores it holds the largest and the mean of some subjects only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembershipAudit {
    /// The line that a reader must see first.
    pub first_line: String,
    /// The settings.
    pub settings: AttackSettings,
    /// Records that were deleted and attacked.
    pub members: u64,
    /// Their subjects.
    pub subjects: u64,
    /// Held-out records that they were told from.
    pub non_members: u64,
    /// Further held-out records, for RMIA.
    pub population: u64,
    /// Slices that the deletion hit.
    pub slices: u64,
    /// Shards that answered before the deletion, and after it.
    pub shards: [u64; 2],
    /// `true` if the copy answered as the store does, bit for bit; `null` if there is no store.
    pub copy_equal: Option<bool>,
    /// The comparison with a system that was trained without the records.
    pub oracle: OracleEvidence,
    /// A report for each attack, the strongest before the deletion first.
    pub attacks: Vec<AttackReport>,
    /// The strongest attack on subjects as wholes, if some have several records.
    pub by_subject: Option<AttackReport>,
    /// Limits of the audit, in sentences.
    pub limits: Vec<String>,
}

/// The limits of every audit by attack.
pub(crate) const LIMITS: [&str; 4] = [
    "An attack that finds nothing does not show that nothing is there; that answers equal the oracle's does, for these records.",
    "The deletion was made in a copy of the store, by the same program; the store itself was not changed.",
    "Scores are of the ensemble's outputs with all their digits; rounded or label-only answers tell less.",
    "Members are of the slices that the deletion hit, and held-out records come from the pipeline's test data: the baseline without a model says \
     whether they differ anyway.",
];

impl MembershipAudit {
    /// `true` if nothing that was compared differs.
    pub fn passed(&self) -> bool {
        self.oracle.equal() && self.copy_equal != Some(false)
    }

    /// `true` if an attack has shown that it can find something.
    pub fn has_power(&self) -> bool {
        self.attacks.iter().any(AttackReport::has_power)
    }
}
