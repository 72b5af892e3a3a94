//! Verification: train again and compare bits; prove from lineages and files that nothing dead is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use s3t_core::tensors::{StageTensors, TensorDifference};
use s3t_core::{Members, StageKey};
use s3t_executor::StageJob;
use s3t_ledger::{Epoch, Event};
use s3t_store::{Snapshot, Store, StoreError};

use crate::error::EngineError;
use crate::jobs::{self, Means, Observer, StageLabel, Stages};
use crate::serving::serving_chains;
use crate::settings::VerifyScope;
use crate::system::System;

/// A stage that was trained again.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedStage {
    /// The stage.
    pub stage: StageLabel,
    /// The first place where the tensors on disk differ from the tensors trained again; `None` if every bit is equal.
    pub difference: Option<TensorDifference>,
}

/// The findings of a verification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VerifyReport {
    /// Stages whose lineage was compared with the plan and the records as they are.
    pub lineages: usize,
    /// Records whose digest was computed again.
    pub records: usize,
    /// Deletions that the store has seen.
    pub deletions: u64,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// Stages that a deletion cut off while they were trained again: nothing is said about them.
    pub overtaken: usize,
    /// Work that is waiting to be finished, and parts that could not be looked at.
    pub notes: Vec<String>,
    /// Everything else that is wrong, each in a sentence.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Returns `true` if nothing is wrong.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.stages.iter().all(|stage| stage.difference.is_none())
    }
}

impl System {
    /// Verifies the store: catalogue, files, ledger and lineages always, and the stages in scope by training them again from nothing
    /// but their records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] if stages are to be trained on another arithmetic than the store's; the observer's
    /// interruption. A fault of the store is in the report, and no error.
    pub fn verify(&self, scope: VerifyScope, observer: &dyn Observer) -> Result<VerifyReport, EngineError> {
        let span = tracing::info_span!("verify", epoch = tracing::field::Empty).entered();
        let check = self.store().check()?;
        let snapshot = self.store().snapshot()?;
        span.record("epoch", snapshot.epoch().0);
        let mut report = VerifyReport {
            lineages: check.stages as usize,
            records: check.records as usize,
            deletions: snapshot.epoch().0,
            stages: Vec::new(),
            overtaken: 0,
            notes: check.waiting.into_iter().chain(check.notes).collect(),
            problems: check.findings.into_iter().map(|finding| finding.problem).collect(),
        };
        if report.problems.is_empty() {
            self.replay(&snapshot, scope, observer, &mut report)?;
        }
        Ok(report)
    }

    /// Verifies the store and writes the verdict into the ledger.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// use s3t_engine::{Quiet, VerifyScope};
    ///
    /// let report = system.verify_and_record(VerifyScope::All, &Quiet)?;
    /// assert!(report.passed() && report.stages.iter().all(|stage| stage.difference.is_none()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify); then no verdict is written.
    pub fn verify_and_record(&self, scope: VerifyScope, observer: &dyn Observer) -> Result<VerifyReport, EngineError> {
        let report = self.verify(scope, observer)?;
        let (stages, passed) = (report.stages.len() as u64, report.passed());
        self.store().note(Event::Verified { epoch: Epoch(report.deletions), stages, passed })?;
        Ok(report)
    }

    /// Trains the stages in scope again and compares them with those that are there.
    pub(crate) fn replay(
        &self,
        snapshot: &Snapshot,
        scope: VerifyScope,
        observer: &dyn Observer,
        report: &mut VerifyReport,
    ) -> Result<(), EngineError> {
        let chosen = chosen(snapshot, scope, &*self.pipeline().serving.members);
        if chosen.is_empty() {
            return Ok(());
        }
        let session = self.checked_session()?;
        let mut wanted = BTreeSet::new();
        for key in &chosen {
            wanted.extend(snapshot.plan().chain(key).into_iter().map(|stage| stage.key));
        }
        observer.started(wanted.len(), self.steps(snapshot, &wanted));
        let replay = Replay { store: self.store(), built: Mutex::default() };
        let means = Means { session: &*session, threads: self.pipeline().resources.job_count() };
        jobs::build(self.store(), snapshot, &means, &replay, &wanted, observer)?;
        let rebuilt = replay.built.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.overtaken = chosen.iter().filter(|key| !rebuilt.contains_key(key)).count();
        for (key, tensors) in rebuilt {
            let Some(stage) = snapshot.plan().stage(&key) else { continue };
            let difference = match self.store().stage(&key) {
                Ok((_, stored)) => stored.first_difference(&tensors),
                Err(_) if !self.store().snapshot()?.has_stage(&key) => {
                    report.overtaken += usize::from(chosen.contains(&key));
                    continue;
                }
                Err(error) => {
                    report.problems.push(error.to_string());
                    continue;
                }
            };
            tracing::info!(stage = %key, equal = difference.is_none(), "stage trained again");
            let stage = StageLabel { key, shard: stage.shard, slices: stage.slices.clone() };
            report.stages.push(VerifiedStage { stage, difference });
        }
        Ok(())
    }
}

fn chosen(snapshot: &Snapshot, scope: VerifyScope, members: &dyn Members) -> BTreeSet<StageKey> {
    match scope {
        VerifyScope::Lineages => BTreeSet::new(),
        VerifyScope::All => snapshot.stages().clone(),
        VerifyScope::Serving => serving_chains(snapshot, members).into_iter().flat_map(|(_, _, keys)| keys).collect(),
    }
}

/// Stages that are trained from nothing: no stage is read from the store, all are kept in memory. A stage that a deletion hits in the
/// meantime is left out.
struct Replay<'a> {
    store: &'a Store,
    built: Mutex<BTreeMap<StageKey, StageTensors>>,
}

impl Stages for Replay<'_> {
    fn existing(&self, key: &StageKey) -> Result<StageTensors, EngineError> {
        // Every ancestor is among the stages that are built, or was left out because a deletion hit it.
        Err(StoreError::MissingStage(*key).into())
    }

    fn built(&self, job: &StageJob, tensors: &StageTensors) -> Result<bool, EngineError> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(job.lineage.key(), tensors.clone());
        Ok(true)
    }

    fn keeps(&self) -> bool {
        false
    }

    fn is_wanted(&self, key: &StageKey) -> bool {
        self.store.snapshot().map_or(true, |snapshot| snapshot.is_live(key))
    }
}
