//! Deletions, counted.

use serde::{Deserialize, Serialize};

/// The number of a deletion, from 1 in the order in which they were accepted; as a state, the number of deletions that were accepted.
///
/// ```
/// use s3t_ledger::Epoch;
///
/// assert_eq!(Epoch::default().next(), Epoch(1));
/// assert_eq!(serde_json::to_string(&Epoch(7)).unwrap(), "7");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the deletion after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The state before this deletion; itself before the first.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
