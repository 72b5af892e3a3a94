//! The result of an erasure.

use std::path::PathBuf;

use s3t_core::{Digest, RecordId, SliceAddress, StageKey};
use s3t_ledger::Epoch;

/// The files and records that an erasure removed from disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erasure {
    /// The slices whose records were written anew.
    pub slices: Vec<SliceAddress>,
    /// The stages whose files were removed.
    pub stages: Vec<StageKey>,
    /// The records that were removed, of whatever deletion.
    pub records: Vec<ErasedRecord>,
    /// The exported adapters whose files were removed.
    pub exports: Vec<PathBuf>,
    /// Exported adapters of dead stages that could not be removed, or not whole.
    pub remaining_exports: Vec<RemainingExport>,
}

/// A record that was removed from its slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedRecord {
    /// The digest of its content.
    pub digest: Digest,
    /// Its id.
    pub id: RecordId,
    /// The deletion that took it.
    pub epoch: Epoch,
}

/// An exported adapter of a dead stage that is still there, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainingExport {
    /// The adapter's folder.
    pub folder: PathBuf,
    /// Why it was not removed, and what to do.
    pub reason: String,
    /// `true` if the store tries again with the next erasure; otherwise its own files are gone, and others are left.
    pub pending: bool,
}
