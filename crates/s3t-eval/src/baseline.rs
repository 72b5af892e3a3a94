//! Ordinary fine-tuning: one adapter over all blocks, trained on all records at once.
//!
//! Ordinary fine-tuning is a stage like any other, of a plan with one shard, one slice and one group, so the same trainer trains it. It is
//! never stored: it holds every record, and could only be unlearned by training it again.

use std::sync::Arc;

use s3t_core::digest::DigestBuilder;
use s3t_core::tensors::BlockTensors;
use s3t_core::{BlockRange, Lineage, Record, Task};
use s3t_engine::{EngineError, System, in_batches};
use s3t_executor::{StageJob, StageProgress, StageRecord, Trainer};
use s3t_models::{Backbone, Device, Input};
use s3t_train::{StageModel, TrainError, TrainingConfig};

use crate::Metric;

/// A baseline that can be trained while the system is, because it holds all it needs.
pub struct Baseline {
    job: StageJob,
    trainer: Arc<dyn Trainer>,
    backbone: Arc<Backbone>,
    device: Device,
    training: TrainingConfig,
    jobs: usize,
}

/// A trained baseline.
pub struct BaselineModel {
    model: StageModel,
    backbone: Arc<Backbone>,
    task: Task,
    jobs: usize,
    /// Passes over all records that it was trained for.
    pub epochs: usize,
}

impl Baseline {
    /// A baseline on the records that the system's store holds now.
    ///
    /// It gets as many passes over each record as one sequence of L stages takes: with E epochs a stage and stages of
    /// 1..L slices, E (L + 1) / 2, rounded up.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if records cannot be read, [`EngineError::Executor`] if the executor cannot be started.
    pub fn new(system: &System) -> Result<Self, EngineError> {
        let settings = system.store().settings();
        let pipeline = system.pipeline();
        let mut records = Vec::new();
        for address in settings.shape.addresses() {
            let of_slice = system.store().records(address)?;
            records
                .extend(of_slice.into_iter().map(|(digest, record)| StageRecord { digest, record: Arc::new(record) }));
        }
        records.sort_by_key(|record| record.digest);
        let slices = pipeline.shape.slices as usize;
        let training = TrainingConfig {
            epochs: (pipeline.training.epochs * (slices + 1)).div_ceil(2),
            centroid: false,
            ..pipeline.training.clone()
        };
        let mut recipe = settings.recipe.clone();
        recipe.training = serde_json::to_value(&training)
            .map_err(|error| TrainError::InvalidField { field: "training", problem: error.to_string() })?;
        let mut all = DigestBuilder::new("baseline");
        for record in &records {
            all.digest(&record.digest);
        }
        let groups = vec![BlockRange { start: 0, end: system.backbone().blocks() }];
        let lineage = Lineage { recipe, groups, slices: vec![all.finish()] };
        Ok(Self {
            job: StageJob { lineage, records, ancestors: BlockTensors::new() },
            trainer: system.trainer_in_process(),
            backbone: Arc::clone(system.backbone()),
            device: system.device().clone(),
            training,
            jobs: pipeline.resources.job_count(),
        })
    }

    /// The optimiser steps that training takes.
    pub fn steps(&self) -> usize {
        self.training.steps(self.job.records.len())
    }

    /// Trains it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Executor`] with the failure of training or of the executor.
    pub fn train(self, progress: &dyn StageProgress) -> Result<BaselineModel, EngineError> {
        let tensors = self.trainer.train(&self.job, progress)?.tensors;
        let model = StageModel::new(&self.backbone, &self.device, &self.job.lineage, &[&tensors])?;
        let task = self.job.lineage.recipe.task;
        Ok(BaselineModel { model, backbone: self.backbone, task, jobs: self.jobs, epochs: self.training.epochs })
    }
}

impl BaselineModel {
    /// Its score on records with targets, as [`evaluate`](crate::evaluate) scores a system.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take, [`EngineError::Train`] if the machine would not
    /// start a thread.
    pub fn score(&self, records: &[Record]) -> Result<f64, EngineError> {
        let inputs = records.iter().map(|record| self.backbone.prepare(record)).collect::<Result<Vec<_>, _>>()?;
        let (backbone, model) = (&*self.backbone, &self.model);
        if self.task == Task::CausalLm {
            let right = in_batches(self.jobs, &inputs, |batch| s3t_engine::right_tokens(backbone, model, batch))?;
            let all = inputs.iter().map(Input::learnt).sum::<usize>().max(1);
            return Ok(right.into_iter().sum::<usize>() as f64 / all as f64);
        }
        let outputs = in_batches(self.jobs, &inputs, |batch| model.outputs(backbone, batch))?;
        let pairs = outputs.iter().zip(records).map(|(outputs, record)| (outputs.as_slice(), &record.target));
        Ok(Metric::of(self.task).score(pairs))
    }
}
