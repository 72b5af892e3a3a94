//! Workers on other machines.
//!
//! The owner of a store listens, and workers join over TLS: [`start`] gives a [`Session`](s3t_executor::Session) that trains in the
//! workers that are there, whenever they come and go. A [`Launcher`] is an engine that people have already, such as Slurm: it provides
//! machines, and is told nothing of stages. [`join`] is the worker's side. What goes over the connection is the protocol of
//! [`s3t_executor::work`] and [`s3t_executor::Link`].
//!
//! # Proof note
//!
//! *Before*: machines fail, connections are slow, cut or listened to, and strangers connect. *After*: a stage has the bits that the
//! trainer gives in this process, or is not trained; when `forget` returns, no worker that ran the program of this project remembers the
//! records. *Why*: both sides know each other by an [`Invitation`], made for one launch: the worker the owner's certificate, the owner
//! the worker's token. A stage of a worker that is lost is trained anew from the same job, and what the lost worker answers later is not
//! read. Every worker says that it forgot, or is cut off and ends with its [`Lease`](s3t_executor::Lease). With object storage, sealed copies
//! of records lie there too: their keys are dropped first, and the records count as forgotten when the storage has removed them
//! ([`Session::unforgotten`](s3t_executor::Session::unforgotten)).

mod accept;
mod admission;
mod command;
mod error;
pub mod fields;
mod invitation;
mod job;
mod join;
mod launcher;
mod log_end;
mod objects;
mod permits;
mod pool;
mod random;
mod roster;
mod secret_file;
mod session;
mod settings;
mod stream;
mod supervise;
mod tls;
mod watch;
mod worker_command;

pub use admission::Registration;
pub use command::EngineCommand;
pub use error::ClusterError;
pub use invitation::{INVITATION, Invitation};
pub use join::{Joined, join};
pub use launcher::{Call, Ending, Launcher, Task, TaskState};
pub use log_end::{end_of_log, end_of_log_file};
pub use random::fill_randomly;
pub use roster::{Roster, WorkerId};
pub use secret_file::SecretFile;
pub use session::start;
pub use settings::Settings;
pub use stream::{Reading, Writing};
pub use worker_command::{quoted, run_name, worker_command, worker_program};

/// The setting `objects` of executors.
pub use s3t_objects::ObjectStorage;

/// The trait crate of executors, for plugins that depend on this crate alone.
pub use s3t_executor;
