//! Executors: where the stages of a plan are trained.
//!
//! A [`StageJob`] holds all inputs of a stage: its lineage, the records that the lineage names, and the adapters of the stages
//! before it. A [`Trainer`] turns a job into a [`TrainedStage`]. An [`Executor`] is a plugin that decides on which machine, and in
//! how many processes, trainers run; [`Executor::start`] gives a [`Session`] that trains several jobs side by side.
//!
//! The executor [`Local`] trains in the calling process. An executor that trains elsewhere sends jobs to workers: [`work`] is the
//! worker's half of the protocol and [`Link`] the owner's, over any pair of byte streams. A job is trained from what travels with
//! it alone, so a stage has the same bits wherever it is trained, on equal arithmetic.
//!
//! Large parts of jobs and results may travel as sealed objects, which the owner and the workers leave for each other in a folder that both
//! reach ([`ObjectFolder`]): each is left once for all workers ([`Relay`]), and the link carries its name and its key.
//!
//! docs/guide/writing-an-executor.md in the repository writes an executor step by step.

mod error;
mod executor;
mod frame;
mod job;
mod kept;
mod lease;
mod link;
mod local;
mod message;
mod parcels;
mod progress;
mod relay;
mod sealed;
mod value;
mod worker;

pub use error::ExecutorError;
pub use executor::{BaseModel, Executor, Permit, Session, Site, TrainedStage, Trainer, WorkerSettings};
pub use frame::{FRAME_VERSION, MAX_FRAME_BYTES, read_frame, write_frame};
pub use job::{StageJob, StageRecord};
pub use kept::{Kept, SentJob};
pub use lease::Lease;
pub use link::{Link, LinkHandle};
pub use local::Local;
pub use message::{Answer, Failure, Request};
pub use progress::{Silent, StageProgress, Step};
pub use relay::{LAUNCH_OBJECT, Random, Relay};
pub use sealed::{ObjectContent, ObjectFolder, ObjectKey, ObjectKind, ObjectReference, ObjectSlot};
pub use worker::{WorkEnd, work, work_with_objects};

/// The macro that registers a plugin, and the core crate, for plugins that depend on this crate alone.
pub use s3t_core::{self, plugin};
