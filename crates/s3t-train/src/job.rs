//! What a stage is trained from, and who may train it.

use std::ops::ControlFlow;
use std::sync::Arc;

use s3t_core::tensors::{BlockTensors, StageTensors};
use s3t_core::{Digest, Lineage, Record};

use crate::TrainError;

/// A record with its digest.
#[derive(Debug, Clone)]
pub struct StageRecord {
    /// The record's keyed digest.
    pub digest: Digest,
    /// The record.
    pub record: Arc<Record>,
}

/// All inputs of one stage.
#[derive(Debug, Clone)]
pub struct StageJob {
    /// The stage's lineage.
    pub lineage: Lineage,
    /// The records of the slices 1..k in sequence order, those of a slice by ascending digest.
    pub records: Vec<StageRecord>,
    /// The adapters of the stages 1..k-1. They have no place for a head: a head belongs to its own stage.
    pub ancestors: BlockTensors,
}

/// One optimiser step, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    /// Records in this step.
    pub records: usize,
    /// The mean loss of the batch.
    pub loss: f32,
}

/// Watches a stage being trained and may stop it.
pub trait StageProgress: Sync {
    /// Called after each step. Breaking stops the stage, which then leaves nothing behind.
    fn step(&self, step: Step) -> ControlFlow<()>;

    /// On how many threads the stage may compute, asked before each step. Its bits do not depend on it.
    fn threads(&self) -> usize {
        1
    }
}

/// Watches nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl StageProgress for Silent {
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Whoever can turn a job into a stage's tensors: this process, or another machine with the same arithmetic.
///
/// # Contract
///
/// The result is a function of the job: the parameters of the stage's own layer group, and its head.
pub trait StageBuilder: Send + Sync {
    /// Trains the stage.
    ///
    /// # Errors
    ///
    /// [`TrainError`] if the settings cannot be used, training diverges or moves nothing, or `progress` breaks.
    fn build(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<StageTensors, TrainError>;

    /// Drops whatever is remembered of a record. Called when the record is deleted.
    fn forget(&self, _record: &Digest) {}

    /// Drops whatever is remembered of any record. Called when records were deleted that are not named any more.
    fn forget_all(&self) {}
}
