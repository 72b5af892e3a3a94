//! Building every missing stage: training, resuming and repair differ in what is missing only.

use std::collections::BTreeSet;

use s3t_core::tensors::StageTensors;
use s3t_core::{PlannedStage, StageKey};
use s3t_executor::StageJob;
use s3t_ledger::Event;
use s3t_store::{Snapshot, Store, StoreError};

use crate::error::EngineError;
use crate::jobs::{self, Means, Observer, Stages};
use crate::system::System;

/// The stages of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// Stages of the plan.
    pub planned: usize,
    /// Stages that were there already.
    pub reused: usize,
    /// Stages that were trained.
    pub trained: usize,
}

impl System {
    /// Builds every missing stage. This is training, resuming and repair: they differ in what is missing only. Answers and
    /// deletions go on beside it; a stage that a deletion hits is dropped, and the stages that are left are planned anew.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// use s3t_engine::Quiet;
    ///
    /// let report = system.train(&Quiet)?;
    /// assert_eq!(report.trained, report.planned);
    /// // Nothing is missing any more.
    /// assert_eq!(system.train(&Quiet)?.trained, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] on another arithmetic than the store's; [`s3t_store::StoreError::Building`] while another
    /// process builds; otherwise the first failure, or [`s3t_executor::ExecutorError::Cancelled`] if the observer breaks. Finished
    /// stages are kept in either case.
    pub fn train(&self, observer: &dyn Observer) -> Result<BuildReport, EngineError> {
        let _lock = self.store.lock_building()?;
        let session = self.checked_session()?;
        let mut trained = 0;
        let mut reused = None;
        loop {
            let snapshot = self.store.snapshot()?;
            self.forget_deleted(&snapshot);
            let missing = snapshot.missing();
            let reused = *reused.get_or_insert(snapshot.plan().stages().len() - missing.len());
            if missing.is_empty() {
                if snapshot.is_erasing() {
                    // Another process accepted a deletion: the records that are left are known when it is erased.
                    match self.store.erase() {
                        // The slices are written anew; the rest has to wait for whoever reads SQLite's log or remembers records.
                        Ok(_) | Err(StoreError::Reading { .. } | StoreError::Elsewhere { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
                if !snapshot.unerased().is_empty() {
                    // Another process could not finish its erasure while records of it were in workers elsewhere.
                    if let (_, Some(error)) = self.store.erase_pending() {
                        tracing::info!(%error, "the erasure is finished later");
                    }
                }
                let planned = snapshot.plan().stages().len();
                if trained > 0 && snapshot.epoch().0 > 0 {
                    self.store.note(Event::Repaired { epoch: snapshot.epoch(), stages: trained as u64 })?;
                } else {
                    self.store.publish_unless_held()?;
                }
                return Ok(BuildReport { planned, reused, trained });
            }
            let span = tracing::info_span!("train", epoch = snapshot.epoch().0, stages = missing.len());
            let _entered = span.enter();
            observer.started(missing.len(), self.steps(&snapshot, &missing));
            let means = Means { session: &*session, threads: self.pipeline.resources.job_count() };
            trained += jobs::build(&self.store, &snapshot, &means, &InStore(&self.store), &missing, observer)?;
        }
    }

    /// Builds these stages of the plan, each after its parent, and no others; returns the number that was missing.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    pub fn train_only(&self, wanted: &BTreeSet<StageKey>, observer: &dyn Observer) -> Result<usize, EngineError> {
        let _lock = self.store.lock_building()?;
        let session = self.checked_session()?;
        let snapshot = self.store.snapshot()?;
        let missing: BTreeSet<StageKey> = snapshot.missing().intersection(wanted).copied().collect();
        observer.started(missing.len(), self.steps(&snapshot, &missing));
        let means = Means { session: &*session, threads: self.pipeline.resources.job_count() };
        jobs::build(&self.store, &snapshot, &means, &InStore(&self.store), &missing, observer)?;
        self.store.publish_unless_held()?;
        Ok(missing.len())
    }

    /// The optimiser steps that building these stages takes.
    pub fn steps(&self, snapshot: &Snapshot, stages: &BTreeSet<StageKey>) -> usize {
        let sizes = snapshot.sizes();
        let records = |stage: &PlannedStage| -> u64 {
            stage.slices.iter().map(|slice| sizes[stage.shard.index()][slice.index()]).sum()
        };
        let planned = stages.iter().filter_map(|key| snapshot.plan().stage(key));
        planned.map(|stage| self.pipeline.training.steps(records(stage) as usize)).sum()
    }
}

/// Stages that come from the store and go there.
struct InStore<'a>(&'a Store);

impl Stages for InStore<'_> {
    fn existing(&self, key: &StageKey) -> Result<StageTensors, EngineError> {
        Ok(self.0.stage(key)?.1)
    }

    fn built(&self, job: &StageJob, tensors: &StageTensors) -> Result<bool, EngineError> {
        Ok(self.0.add_stage(&job.lineage, tensors)?)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn is_wanted(&self, key: &StageKey) -> bool {
        // A catalogue that cannot be read now is told of when the stage is added.
        self.0.snapshot().map_or(true, |snapshot| snapshot.is_live(key))
    }
}
