//! Answers, deletions and their proofs over HTTP, with a page for operators.
//!
//! [`Server`] serves a [`System`](s3t_engine::System) that was opened to change it, or the stages of another server, its leader; [`serve`] does so for a pipeline until the process
//! is told to stop. [`ServerSettings`] is the section `[server]` of a pipeline file, [`TokenFile`] the file of tokens.
//!
//! # Proof note
//!
//! *Before*: a deletion was acknowledged with a 2xx. *After*: no answer whose request arrives from then on comes from a stage that saw
//! one of the records. *Why*: the acknowledgement is sent after the store has accepted the deletion (see the `desk` module), and an
//! answer takes the stages of a snapshot of the catalogue that is newer than its request (see the `queue` module). Followers on other
//! machines have switched the stages off before that, or may not answer any more (see the `followers` and `follow` modules).

mod access;
mod address;
mod answers;
mod app;
mod auditing;
mod audits;
mod body;
mod callbacks;
mod clock;
mod desk;
mod error;
mod follow;
mod followers;
mod generation;
mod keeper;
mod life;
mod listen;
mod metrics;
mod model;
mod openai;
mod opendsr;
mod page;
mod priority;
mod questions;
mod queue;
mod random;
mod refusal;
mod repairing;
mod repairs;
mod replication;
mod requests;
mod routes;
mod server;
mod service;
mod sessions;
mod settings;
mod tls;
mod token_file;
mod tokens;
mod witness;
mod written;

pub use error::ServerError;
pub use server::{Server, serve};
pub use settings::{FollowSettings, OpenDsrSettings, RepairSettings, ServerSettings, TlsSettings, WitnessSettings};
pub use token_file::{NewToken, Role, Token, TokenFile};
