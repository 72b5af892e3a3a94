//! Verification: train again and compare bits; prove from lineages and files that nothing dead is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use s3t_core::StageKey;
use s3t_peft::tensors::first_difference;
use s3t_peft::{NamedTensors, TensorDifference};
use s3t_store::StoreError;
use s3t_train::StageJob;
use serde::Serialize;

use crate::jobs::{self, Observer, StageLabel, Stages};
use crate::settings::VerifyScope;
use crate::{EngineError, System};

/// A stage that was trained again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifiedStage {
    /// The stage.
    pub stage: StageLabel,
    /// Where the tensors on disk first differ from those trained again; `None` if every bit is equal.
    pub difference: Option<TensorDifference>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Stages whose lineage was compared with the plan and the records as they are.
    pub lineages: usize,
    /// Records whose digest was computed again.
    pub records: usize,
    /// Deleted records that were looked for.
    pub deleted: usize,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// Everything else that is wrong, each in a sentence.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.stages.iter().all(|stage| stage.difference.is_none())
    }
}

impl System {
    /// Verifies the store: files and lineages always, and the stages in scope by training them again from nothing but
    /// their records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] if stages are to be trained on another arithmetic than the store's; the observer's
    /// interruption. What is found wrong is in the report, not an error.
    pub fn verify(&self, scope: VerifyScope, observer: &dyn Observer) -> Result<VerifyReport, EngineError> {
        let mut report = VerifyReport {
            lineages: 0,
            records: 0,
            deleted: self.store().manifest().deleted_records.len(),
            stages: Vec::new(),
            problems: Vec::new(),
        };
        for key in self.store().found_dead() {
            report.problems.push(format!("the dead stage {key} was on disk; it was removed when the store was opened"));
        }
        for path in self.store().foreign_files()? {
            report.problems.push(format!("`{}` is in the store but not the store's", path.display()));
        }
        self.check_records(&mut report);
        let sound = self.check_lineages(&mut report)?;
        let chosen = self.chosen(scope, &sound);
        if chosen.is_empty() || !report.problems.is_empty() {
            return Ok(report);
        }
        self.check_environment()?;
        let mut wanted = BTreeSet::new();
        for key in &chosen {
            wanted.extend(self.store().plan().chain(key).into_iter().map(|stage| stage.key));
        }
        observer.started(wanted.len(), self.steps(&wanted));
        let replay = Replay::default();
        let jobs = self.pipeline().resources.job_count();
        jobs::build(self.store(), &**self.builder(), &replay, &wanted, jobs, observer)?;
        let rebuilt = replay.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (key, tensors) in rebuilt {
            let Some(stage) = self.store().plan().stage(&key) else { continue };
            let difference = match self.store().stage(&key) {
                Ok((_, stored)) => first_difference(&stored, &tensors),
                Err(error) => {
                    report.problems.push(error.to_string());
                    continue;
                }
            };
            let stage = StageLabel { key, shard: stage.shard, slices: stage.slices.clone() };
            report.stages.push(VerifiedStage { stage, difference });
        }
        Ok(report)
    }

    /// Every slice holds the records that the manifest names, and none of those that were deleted.
    fn check_records(&self, report: &mut VerifyReport) {
        for address in self.store().manifest().settings.shape.addresses() {
            match self.store().records(address) {
                Ok(records) => {
                    report.records += records.len();
                    for (_, record) in records {
                        if self.store().is_deleted(&record.id) {
                            report.problems.push(format!("record `{}` was deleted but is in {address}", record.id));
                        }
                    }
                }
                Err(error) => report.problems.push(error.to_string()),
            }
        }
    }

    /// Every stage on disk is one of the plan's, with the lineage that the records as they are give it. Returns the sound.
    fn check_lineages(&self, report: &mut VerifyReport) -> Result<BTreeSet<StageKey>, EngineError> {
        let mut sound = BTreeSet::new();
        let on_disk = match self.store().stages() {
            Ok(keys) => keys,
            Err(error @ StoreError::Damaged { .. }) => {
                report.problems.push(error.to_string());
                return Ok(sound);
            }
            Err(error) => return Err(error.into()),
        };
        for key in on_disk {
            report.lineages += 1;
            let Some(expected) = self.store().plan().lineage(&key) else {
                report
                    .problems
                    .push(format!("stage {key} is dead but on disk: its lineage names records that are gone"));
                continue;
            };
            match self.store().stage(&key) {
                Ok((lineage, _)) if lineage == expected => drop(sound.insert(key)),
                Ok(_) => report.problems.push(format!("stage {key} has another lineage than the plan gives it")),
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        Ok(sound)
    }

    fn chosen(&self, scope: VerifyScope, sound: &BTreeSet<StageKey>) -> BTreeSet<StageKey> {
        match scope {
            VerifyScope::Lineages => BTreeSet::new(),
            VerifyScope::All => sound.clone(),
            VerifyScope::Serving => {
                let shards = self.store().plan().shards().iter();
                shards.filter_map(|shard| self.serving_chain(shard.shard)).flat_map(|(_, keys)| keys).collect()
            }
        }
    }
}

/// Stages that are trained from nothing: none is read from the store, all are kept in memory.
#[derive(Default)]
struct Replay(Mutex<BTreeMap<StageKey, NamedTensors>>);

impl Stages for Replay {
    fn existing(&self, key: &StageKey) -> Result<NamedTensors, EngineError> {
        // Every ancestor is among the stages that are built, so this is never reached.
        Err(StoreError::MissingStage(*key).into())
    }

    fn built(&self, job: &StageJob, tensors: &NamedTensors) -> Result<(), EngineError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(job.lineage.key(), tensors.clone());
        Ok(())
    }
}
