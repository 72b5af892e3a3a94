//! The store on disk.
//!
//! ```text
//! DIR/lock                       held while the store is open
//! DIR/secret.key                 the store's secret, 64 hexadecimal digits, readable by its owner only
//! DIR/manifest.json              settings, partition, sequences, slice digests, deletions
//! DIR/records/SHARD-SLICE.bin    the records of a slice
//! DIR/stages/KEY.safetensors     the tensors of a stage, with its lineage as metadata
//! ```
//!
//! # Proof note
//!
//! *Before*: the manifest names, for every slice, the digest of its records. *After* any crash and reopening: a deletion
//! that was acknowledged is in the manifest, its record is in no file, and no stage is left whose lineage holds it. *Why*:
//! every file is written to a temporary name, synced and renamed, so a name holds the old bytes or the new ones. A deletion
//! is first written to the manifest as pending; only then are slices rewritten and stages removed, and only then is it
//! written as done. Opening a store does again whatever is pending, and each step of it can be done twice.

mod error;
mod files;
mod manifest;
mod slice_file;
mod stage_file;
mod store;

pub use error::StoreError;
pub use manifest::{Manifest, Pending, StoreSettings};
pub use store::{Erasure, NewStore, SliceRecords, Store, random_secret};
