//! The report of an audit, and its claim.

use s3t_core::Digest;
use s3t_ledger::{Epoch, Timestamp};

use crate::verify::VerifiedStage;

/// The claim of a report in which every check has passed.
pub const GUARANTEE: &str = "Every stage that answers is, bit for bit, what training from the records that are still there gives; it was \
computed without the deleted records. No record, tensor or key of what the ledger calls erased is in the store.";

/// The limits of the claim.
pub const LIMITS: [&str; 5] = [
    "An operator who is not honest can keep copies elsewhere: the audit is of this store, its keys and its ledger.",
    "What was answered, exported or copied before a deletion is out of its reach.",
    "The base model is public and was never trained on the records.",
    "Requests are assumed not to depend on the model's answers or on the secret partition.",
    "Bits are compared on the store's arithmetic; on a graphics card equality is in distribution only.",
];

/// A check of the audit, with its result.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditCheck {
    /// The statement that was checked.
    pub what: String,
    /// `true` if the statement holds; `None` if it was not checked.
    pub passed: Option<bool>,
    /// The things that were looked at, or the reason why they were not.
    pub detail: String,
    /// Everything that does not hold.
    pub problems: Vec<String>,
}

/// The findings of an audit.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditReport {
    /// The store's public name.
    pub store: Digest,
    /// The ledger's public key.
    pub key: String,
    /// The deletions that the store has seen.
    pub epoch: Epoch,
    /// The moment of the ledger's newest entry.
    pub newest_entry: Option<Timestamp>,
    /// The checks, in order.
    pub checks: Vec<AuditCheck>,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// The claim if all checks passed.
    pub guarantee: &'static str,
    /// The limits of the claim.
    pub limits: [&'static str; 5],
}

impl AuditReport {
    /// `true` if nothing that was checked is wrong.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed != Some(false))
    }
}
