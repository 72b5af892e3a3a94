//! The tamper-evident log of a store, and the receipts that are made from it.
//!
//! Entries are the leaves of a Merkle tree (RFC 6962). Each tree head is a [C2SP checkpoint](https://c2sp.org/tlog-checkpoint)
//! signed with Ed25519, and the tree is laid out in [tiles](https://c2sp.org/tlog-tiles), so that other transparency-log tools
//! can read it. Everything here is a function of bytes: where they are kept is the store's business.
//!
//! # Proof note
//!
//! *Before*: a checkpoint of size n and root r was signed by the store and seen by somebody. *After*: for any later state of the
//! log that verifies, the first n entries are those that were there. *Why*: the root is a hash of all leaves in order (RFC 6962,
//! section 2.1), so a log with another first n entries has another root of size n, unless SHA-256 collides. A receipt holds
//! the audit path of its entries to a signed root, so it verifies with the public key alone.

mod bytes;
mod cosignature;
mod epoch;
mod error;
mod event;
mod key;
mod receipt;
mod tiles;
mod tree;

pub use bytes::{Hash, Opening};
pub use cosignature::WitnessKey;
pub use epoch::Epoch;
pub use error::LedgerError;
pub use event::{Entry, Event, MOST_ENTRY_BYTES, Timestamp};
pub use key::{Checkpoint, SigningKey, VerifyingKey};
pub use receipt::{Effect, Named, Proven, Receipt, ShardServes, VerifiedReceipt, commit_request};
pub use tiles::{TileFile, read_entries, tile_files};
pub use tree::{
    HashSource, check_consistency, check_inclusion, consistency_proof, inclusion_proof, leaf_hash, new_hashes, root,
};
