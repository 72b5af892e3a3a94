//! The interface of executors and of what trains inside them.

use std::fmt::Debug;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use s3t_core::tensors::StageTensors;
use s3t_core::{Digest, NumericEnvironment, StageKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ExecutorError, StageJob, StageProgress};

/// The frozen base model, by the files that a worker loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseModel {
    /// The folder of the model. A worker of the same machine loads it from there.
    pub folder: PathBuf,
    /// The digest of the loaded model, which every lineage names.
    pub digest: Digest,
    /// The choices of loading, such as the limit of tokens, as the crate of the trainer writes them.
    #[serde(with = "crate::value")]
    pub options: Value,
}

/// Everything that a worker is told when it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// The base model.
    pub base: BaseModel,
    /// The device, as it is written in a pipeline file.
    pub device: String,
    /// Bytes of memory for remembered outputs of frozen blocks.
    pub memory: u64,
    /// True if the graph of one block at a time is kept in memory.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

/// The place and the means that an executor is started with.
#[derive(Clone)]
pub struct Site {
    /// A name of the store for people and for engines: letters, digits and `-`. Two stores may have the same.
    pub store: String,
    /// The settings for workers in other processes.
    pub worker: WorkerSettings,
    /// The threads of this machine that training may use; `resources.jobs` of a pipeline.
    pub threads: NonZero<usize>,
    /// A trainer in this process, with the base model loaded.
    pub trainer: Arc<dyn Trainer>,
}

impl Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("worker", &self.worker).field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// A stage that was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedStage {
    /// The stage.
    pub key: StageKey,
    /// The arithmetic that trained it.
    pub environment: NumericEnvironment,
    /// The adapters of the stage's own layer group, its head, and its centroid if the lineage asks for one.
    pub tensors: StageTensors,
    /// The optimiser steps that were done.
    pub steps: usize,
    /// The mean loss of the last batch.
    pub loss: f32,
}

/// Trains stages.
///
/// # Contract
///
/// The tensors of a result are a function of the job: whatever else runs, was trained before or is remembered changes no bit.
pub trait Trainer: Send + Sync {
    /// The arithmetic of the place where stages are trained.
    fn environment(&self) -> NumericEnvironment;

    /// Trains a stage, and returns when it is trained, failed or cancelled. A cancelled stage is off the worker's hands when
    /// [`ExecutorError::Cancelled`] is returned: nothing of it comes later.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Training`] if training itself failed, [`ExecutorError::Cancelled`] if `progress` stopped it, and every other
    /// variant for the place.
    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError>;

    /// Drops everything that is remembered of these records, wherever stages were trained. Called when they are deleted.
    fn forget(&self, records: &[Digest]);

    /// Drops everything that is remembered of any record. Called when records were deleted whose digests are not known any more.
    fn forget_all(&self);
}

/// Says whether records may be remembered elsewhere for this time from now on.
pub type Permit = Arc<dyn Fn(Duration) -> bool + Send + Sync>;

/// An executor that was started: trains several stages side by side, until it is dropped.
pub trait Session: Trainer {
    /// The number of stages that are trained side by side.
    fn capacity(&self) -> NonZero<usize>;

    /// The time after which workers on other machines end by themselves, with what they remember, when they hear nothing of this process;
    /// `None` if records stay in this process and its children.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// From now on no job is given to a worker, and no lease renewed, but while `permit` says that records may be remembered elsewhere for a
    /// lease from then on; without a permit always.
    fn permit(&self, _permit: Option<Permit>) {}

    /// `true` once no worker will come any more: another session may do better.
    fn has_failed(&self) -> bool {
        false
    }

    /// The sealed copies of forgotten records that may be in object storage yet, in words; `None` if there are none. Tries again to remove
    /// them, now and then. While there are some, a deletion is not called erased.
    fn unforgotten(&self) -> Option<String> {
        None
    }
}

/// A way to train stages somewhere: the section `[executor]` of a pipeline.
///
/// # Contract
///
/// - [`start`](Self::start) is called before the first stage is trained, and not at all by a program that only answers or deletes.
/// - A session trains from what is in a job alone, and obeys the contract of [`Trainer`].
/// - Nothing of a record is written to a disk.
///
/// `s3t_testkit::check_executor` holds an executor to this.
#[typetag::serde(tag = "type")]
pub trait Executor: Debug + Send + Sync {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::InvalidField`] for the first field that cannot be used.
    fn check(&self) -> Result<(), ExecutorError> {
        Ok(())
    }

    /// Starts the executor. Returns when its arithmetic is known.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::StartFailed`] and other failures of the place.
    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError>;
}
