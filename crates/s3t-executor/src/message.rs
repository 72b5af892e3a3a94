//! The messages between the owner of a store and a worker.

use s3t_core::{Digest, NumericEnvironment, StageKey};
use serde::{Deserialize, Serialize};

use crate::sealed::ObjectContent;
use crate::{ExecutorError, SentJob, Step, TrainedStage, WorkerSettings};

/// A message of the owner to a worker. [`Hello`](Self::Hello) is the first, and comes once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a message at a time")]
pub enum Request<'a> {
    /// The settings of the worker, which loads the base model and answers [`Answer::Ready`].
    Hello(WorkerSettings),
    /// A stage to train. A worker has a job at a time.
    Job {
        /// The number of the job, which its answers name.
        number: u64,
        /// The key that the lineage of the job has at the owner's.
        key: StageKey,
        /// The threads to compute on.
        threads: usize,
        /// The inputs.
        job: SentJob<'a>,
    },
    /// The threads to compute on from the next step on.
    Threads(usize),
    /// Nobody wants the result of this job any more.
    Cancel(u64),
    /// Records that are to be dropped, with their remembered activations.
    Forget {
        /// The number of the request, which its answer names.
        number: u64,
        /// The records; `None` for all.
        records: Option<Vec<Digest>>,
    },
    /// The lease of the worker counts from the moment when it sent the [`Answer::Renew`] of this number.
    Renewed(u64),
    /// The owner does not take this worker, for this reason; the worker ends.
    Dismiss(String),
}

/// A message of a worker to the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// The base model is loaded, and the worker computes with this arithmetic.
    Ready(NumericEnvironment),
    /// The worker cannot do its work, and ends.
    Unfit(String),
    /// A frame of the owner arrived damaged, and the worker ends.
    Damaged(String),
    /// A sign of life, every second.
    Alive,
    /// A step of a job is done.
    Step(u64, Step),
    /// A job is done.
    Trained(u64, TrainedStage),
    /// A job is done, and the adapters of the stage are in the object for which the job has a place.
    Left(u64, TrainedStage, ObjectContent),
    /// A job is not done.
    Failed(u64, Failure),
    /// The records of a [`Request::Forget`] are forgotten.
    Forgot(u64),
    /// A sign of life that asks for the lease to be renewed, every second, of a worker that has a lease.
    Renew(u64),
}

/// The reason why a worker did not train a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Failure {
    /// The job was cancelled.
    Cancelled,
    /// Training failed, with this message.
    Training(String),
    /// The worker does not take the job, for this reason.
    Refused(String),
    /// The worker has not what is in objects, for this reason.
    Unfetched(String),
}

impl From<ExecutorError> for Failure {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Cancelled(_) => Self::Cancelled,
            ExecutorError::Training { message, .. } => Self::Training(message),
            ExecutorError::Storage { .. } | ExecutorError::NoObject { .. } | ExecutorError::OtherObject { .. } => {
                Self::Unfetched(error.to_string())
            }
            other => Self::Refused(other.to_string()),
        }
    }
}
