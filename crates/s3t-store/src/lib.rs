//! The store.
//!
//! ```text
//! DIR/catalogue.db                    what is where: settings, slices, records, stages, requests, the ledger (SQLite)
//! DIR/records/SHARD-SLICE.N.records   the records of a slice, sealed under the slice's key
//! DIR/stages/KEY.stage                the tensors of a stage with its lineage, sealed under a key of all its slices
//! DIR/ledger/                         the ledger for other tools: checkpoint, key.pub, C2SP tiles
//! DIR.keys/                           the keys; see `store.keys` in a pipeline
//! ```
//!
//! # Proof note
//!
//! *Before*: the catalogue names, for every slice, the digest of its records. *After* any crash and reopening: a deletion that was
//! acknowledged is in the catalogue, its record is in no file, and no stage serves whose lineage holds it. *Why*: what counts
//! is the catalogue, and it changes in whole transactions. Files are written under names that nothing points to yet, synced,
//! and only then named by a transaction; what no transaction names is removed when the store is opened.

mod catalogue;
mod check;
mod clock;
mod contents;
mod deletion;
mod disk;
mod elsewhere;
mod erasing;
mod erasure;
mod error;
mod exports;
mod folder;
mod history;
mod keys;
mod layout;
mod lock;
mod making;
mod names;
mod opening;
mod place;
mod publish;
mod random;
mod read_only;
mod requests;
mod seal;
mod settings;
mod snapshot;
mod spelling;
mod stage_file;
mod store;
mod unnamed;

pub use check::{Finding, StoreCheck};
pub use contents::SliceRecords;
pub use deletion::{Accepted, DeletionRequest};
pub use disk::{Disk, SystemDisk};
pub use elsewhere::Elsewhere;
pub use erasure::{ErasedRecord, Erasure, RemainingExport};
pub use error::StoreError;
pub use exports::NewExport;
pub use folder::Folder;
pub use lock::Holder;
pub use making::NewStore;
pub use place::Place;
pub use random::random_secret;
pub use requests::PendingDeletion;
pub use settings::{SettingDifference, StoreSettings};
pub use snapshot::{Snapshot, digest_of_stages};
pub use spelling::OtherSpellings;
pub use stage_file::from_bytes as parse_stage;
pub use store::{BuildLock, Store};
