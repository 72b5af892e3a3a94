//! A pipeline with its store, and access to its parts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use s3t_core::budget::cost::ModelShape;
use s3t_core::{PerShard, Record};
use s3t_executor::{Session, Trainer};
use s3t_ledger::ShardServes;
use s3t_models::{Backbone, Device, Input};
use s3t_store::{Snapshot, Store};

use crate::answering::{Answering, serves};
use crate::base_model::model_shape;
use crate::checked::CheckedPipeline;
use crate::ensemble::Member;
use crate::error::EngineError;
use crate::executing::Executing;
use crate::store_settings::rates;

/// An unlearning system: trained, serving, deleting.
///
/// # Proof note
///
/// *Before*: the catalogue names the stages that may serve. *After* a deletion is acknowledged: no answer that starts uses a stage
/// whose lineage held a deleted record, in this process or another, and no answer mixes the time before with the time after.
/// *Why*: the deletion removes these stages from the catalogue in one transaction before it is acknowledged; every answer
/// takes a [`Snapshot`] of the catalogue first and uses the stages of that one only, from the first record to the last.
pub struct System {
    pub(crate) pipeline: CheckedPipeline,
    pub(crate) device: Device,
    pub(crate) backbone: Arc<Backbone>,
    /// The same, in the precision of training.
    pub(crate) training_backbone: Arc<Backbone>,
    pub(crate) executing: Executing,
    pub(crate) store: Store,
    pub(crate) members: Mutex<Option<Served>>,
    /// The newest deletion of whose records this process remembers nothing.
    pub(crate) forgotten: AtomicU64,
    /// Texts that were cut when the system was made.
    pub(crate) cut: usize,
}

/// The shards that answer, and the snapshot they were taken from.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) members: Arc<Vec<Arc<Member>>>,
    pub(crate) stages: Arc<[ShardServes]>,
}

impl Served {
    pub(crate) fn new(snapshot: Arc<Snapshot>, members: Vec<Arc<Member>>) -> Self {
        let stages = serves(&members);
        Self { snapshot, members: Arc::new(members), stages }
    }

    /// Itself, unless no shard can answer.
    pub(crate) fn that_answers(self) -> Result<Self, EngineError> {
        if self.members.is_empty() { Err(EngineError::NothingServes) } else { Ok(self) }
    }
}

impl System {
    /// The texts that `model.max_tokens` cut when the system was made, of training and held-out records; 0 for a system that
    /// was opened.
    pub fn cut_when_made(&self) -> usize {
        self.cut
    }

    /// The texts among some records that `model.max_tokens` cuts.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take.
    pub fn cut(&self, records: &[Record]) -> Result<usize, EngineError> {
        self.answering().cut(records)
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &CheckedPipeline {
        &self.pipeline
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The base model.
    pub fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }

    /// The base model as stages are trained with it; another one than [`backbone`](Self::backbone) if `serving.precision` is another than that
    /// of training.
    pub fn training_backbone(&self) -> &Arc<Backbone> {
        &self.training_backbone
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The probability that a request hits each slice, `[shard][slice]`; one entry stands for all shards.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for an invalid prior.
    pub fn rates(&self) -> Result<PerShard<Vec<f64>>, EngineError> {
        rates(&self.pipeline, self.store.secret())
    }

    /// The sizes of the model and the PEFT method that decide about costs.
    pub fn model_shape(&self) -> ModelShape {
        model_shape(&self.pipeline, &self.backbone)
    }

    /// The content of the store now.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if the catalogue cannot be read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        Ok(self.store.snapshot()?)
    }

    /// The parts that answer.
    pub(crate) fn answering(&self) -> Answering<'_> {
        Answering { pipeline: &self.pipeline, device: &self.device, backbone: &self.backbone }
    }

    /// Prepares records for the model.
    pub(crate) fn prepare<'a>(&self, records: &'a [Record]) -> Result<Vec<Input<'a>>, EngineError> {
        self.answering().prepare(records)
    }

    /// Answers for inputs batch by batch, side by side, in the order of the inputs.
    pub(crate) fn in_batches<T: Send>(
        &self,
        inputs: &[Input<'_>],
        answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>, EngineError> {
        self.answering().in_batches(inputs, answer)
    }

    /// Drops everything that this process remembers of records if another process has deleted any since the last look: nobody can
    /// say any more which records these were.
    pub fn forget_deleted(&self, snapshot: &Snapshot) {
        let epoch = snapshot.epoch().0;
        if epoch > self.forgotten.fetch_max(epoch, Ordering::Relaxed) {
            self.executing.forget_all();
        }
    }

    /// The executor that trains this system's stages, which is started now if it was not before.
    ///
    /// # Errors
    ///
    /// [`EngineError::Executor`] if it cannot be started.
    pub fn session(&self) -> Result<Arc<dyn Session>, EngineError> {
        Ok(self.executing.session(&*self.pipeline.executor)?)
    }

    /// The trainer of this process: for a job that is no stage of the store, so that no hold is kept for it and workers elsewhere, which
    /// a deletion has to wait for, never see its records.
    pub fn trainer_in_process(&self) -> Arc<dyn Trainer> {
        self.executing.in_process()
    }

    /// The executor, if its arithmetic is that of the store.
    pub(crate) fn checked_session(&self) -> Result<Arc<dyn Session>, EngineError> {
        let session = self.session()?;
        let (stored, here) = (&self.store.settings().recipe.environment, session.environment());
        if here == *stored {
            return Ok(session);
        }
        Err(EngineError::Environment { stored: Box::new(stored.clone()), here: Box::new(here) })
    }
}
