//! The entries of the log.

use s3t_core::{Digest, StageKey};
use serde::{Deserialize, Serialize};

use crate::{Epoch, LedgerError};

/// The most bytes of an entry in the tile format.
pub const MOST_ENTRY_BYTES: usize = u16::MAX as usize;

/// Milliseconds since the start of 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// One entry of the log: one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written, by the store's clock.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An event of a store. No event holds personal data: records and requests appear as commitments, whose keys are given out with a
/// receipt and forgotten when the record is erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The store was made. Always the first.
    Created {
        /// The store's public name.
        store: Digest,
        /// The digest of its settings: recipe, layer groups, shape, partitioner, sequences, labels.
        settings: Digest,
        /// The records in it.
        records: u64,
    },
    /// The stages that the store should hold, from now on.
    Planned {
        /// The deletions seen.
        epoch: Epoch,
        /// The number of stages.
        stages: u64,
        /// The digest of their keys.
        plan: Digest,
    },
    /// A stage was built and can serve.
    Built {
        /// The stage.
        stage: StageKey,
    },
    /// A deletion was accepted: it can no longer be lost.
    Accepted {
        /// The deletion's epoch.
        epoch: Epoch,
        /// The commitment to the request's id.
        request: Digest,
        /// The digest of the commitments to the records and subjects that it names.
        named: Digest,
        /// The number of records that it takes.
        records: u64,
        /// The digest of what it switched off and of what serves from then on.
        effect: Digest,
    },
    /// No answer uses what the deletion switched off.
    Effective {
        /// The deletion's epoch.
        epoch: Epoch,
        /// When it was so.
        since: Timestamp,
    },
    /// The records, the keys of their slices and the stages that saw them are gone.
    Erased {
        /// The deletion's epoch.
        epoch: Epoch,
    },
    /// Missing stages were built from what is left.
    Repaired {
        /// The deletions seen.
        epoch: Epoch,
        /// The number of stages that were built.
        stages: u64,
    },
    /// The stages that serve were written as adapters, out of the store's reach.
    Exported {
        /// The deletions seen.
        epoch: Epoch,
        /// The exported stages' digest, as of a plan.
        stages: Digest,
    },
    /// The store was verified.
    Verified {
        /// The deletions seen.
        epoch: Epoch,
        /// The number of stages that were trained again.
        stages: u64,
        /// `true` if nothing was wrong.
        passed: bool,
    },
}

impl Entry {
    /// The bytes of the leaf.
    ///
    /// # Errors
    ///
    /// [`LedgerError::TooLarge`].
    ///
    /// # Panics
    ///
    /// Never: an entry serialises.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LedgerError> {
        let bytes = serde_json::to_vec(self).expect("an entry serialises");
        if bytes.len() > MOST_ENTRY_BYTES { Err(LedgerError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads the bytes of leaf `index`.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Entry`], [`LedgerError::TooLarge`].
    pub fn from_bytes(index: u64, bytes: &[u8]) -> Result<Self, LedgerError> {
        // No entry of a ledger is longer, so what is longer is not read.
        if bytes.len() > MOST_ENTRY_BYTES {
            return Err(LedgerError::TooLarge(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| LedgerError::Entry { index, problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::digest::DigestBuilder;

    use super::*;

    #[test]
    fn entries_are_one_json_object_with_their_event() {
        let digest = DigestBuilder::new("test").finish();
        let entry = Entry { at: Timestamp(5), event: Event::Planned { epoch: Epoch(1), stages: 2, plan: digest } };
        let bytes = entry.to_bytes().unwrap();
        let expected = format!(r#"{{"at":5,"event":"planned","epoch":1,"stages":2,"plan":"{digest}"}}"#);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(Entry::from_bytes(0, &bytes).unwrap(), entry);
        let message = Entry::from_bytes(7, b"{}").unwrap_err().to_string();
        assert!(message.starts_with("ledger entry 7: "), "{message}");
    }
}
