//! Object storage on the way between the owner of a store and its workers: S3, Google Cloud Storage, Azure, or a folder that all machines
//! share.
//!
//! [`ObjectStorage`] is a field of the executors with workers on other machines. The owner begins a [`Launch`]; a worker gets the
//! [`LaunchAddress`] from it and opens the same folder. Objects are sealed by `s3t-executor` before they come here. Credentials come from the
//! environment of each process, as the tools of each cloud have them.
//!
//! # Proof note
//!
//! *Before*: a launch leaves objects, and may be killed at any time. *After* [`Launch::end`], or after the next launch of the same store has
//! begun: none of its objects is there. *Why*: all its objects are below one prefix, with the store's name and a random one. Whoever begins a
//! launch lists what is below the store's name and removes every launch whose process has ended: one of this machine is looked up, one of
//! another machine has not renewed its entry for a long time by the storage's own clock. A launch whose objects were removed by mistake sends
//! them again over its links.

mod launch;
mod process;
mod settings;
mod storage;
mod transport;

pub use launch::{Launch, LaunchAddress};
pub use settings::ObjectStorage;
