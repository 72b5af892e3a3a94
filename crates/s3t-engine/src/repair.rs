//! Repair: the policy that says when a repair is due and how long it may take.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use s3t_core::wording::counted;
use s3t_executor::{ExecutorError, Step};
use s3t_store::Snapshot;

use crate::error::EngineError;
use crate::jobs::{Observer, StageLabel};
use crate::system::System;
use crate::training::BuildReport;

/// The policy of building missing stages again. Without a threshold, a repair is due whenever any stage is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RepairPolicy {
    /// Due when the mean depth that shards serve with, as a share of what was planned, is below this.
    pub below_depth: Option<f64>,
    /// Due when somebody who picks slices could kill a shard with fewer requests than this.
    pub below_budget: Option<usize>,
    /// The time after which a repair stops. Stages that are finished stay, the others wait for the next repair.
    pub time: Option<Duration>,
}

/// The stages of a repair, and the reason for it.
#[derive(Debug, Clone, PartialEq)]
pub struct RepairReport {
    /// The stages that were missing when it was decided.
    pub missing: usize,
    /// The reason why the repair was or was not due.
    pub reason: String,
    /// The build; `None` if the repair was not due.
    pub build: Option<BuildReport>,
    /// `true` if the repair was stopped by the policy's time.
    pub out_of_time: bool,
}

impl RepairPolicy {
    /// The reason why a repair is due; `Err` with the reason why it is not.
    ///
    /// # Errors
    ///
    /// The reason, in words.
    pub fn is_due(&self, snapshot: &Snapshot) -> Result<String, String> {
        let missing = snapshot.missing().len();
        if missing == 0 {
            return Err("nothing is missing".into());
        }
        let availability = snapshot.availability();
        let shards = snapshot.plan().shards();
        let planned: usize =
            shards.iter().map(|shard| shard.sequences.iter().map(|of| of.keys.len()).max().unwrap_or(0)).sum();
        let served: usize =
            shards.iter().filter_map(|shard| availability.serving(shard.shard)).map(|of| of.depth).sum();
        let depth = served as f64 / planned.max(1) as f64;
        let budget = shards.iter().map(|shard| availability.adversarial_budget(shard.shard)).min().unwrap_or(0);
        if self.below_depth.is_none() && self.below_budget.is_none() {
            return Ok(missing_stages(missing));
        }
        if let Some(min) = self.below_depth.filter(|min| depth < *min) {
            return Ok(format!(
                "shards serve with {:.0} % of the planned depth, below {:.0} %",
                100.0 * depth,
                100.0 * min
            ));
        }
        if let Some(min) = self.below_budget.filter(|min| budget < *min) {
            return Ok(format!("a shard is {} from its death at worst, below {min}", counted(budget, "request")));
        }
        Err(format!(
            "{}, but depth ({:.0} %) and worst case ({budget}) are within the policy",
            missing_stages(missing),
            100.0 * depth
        ))
    }
}

impl System {
    /// Builds missing stages from what is left if the policy says that it is due: those that let a shard serve deeper first, and
    /// among them the cheapest. Answers and deletions go on; each finished stage serves at once.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # // A partition of its own choosing might leave the record alone in its slice, and nothing to build.
    /// # let secret = Some(s3t_core::StoreSecret::from_bytes([4; 32]));
    /// # let system = s3t_engine::System::create(pipeline, &records, secret)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// use s3t_core::RecordId;
    /// use s3t_engine::{Quiet, RepairPolicy};
    ///
    /// system.delete(&[RecordId::new("record-0")?], &[])?;
    /// let repair = system.repair(&RepairPolicy::default(), &Quiet)?;
    /// assert!(repair.build.is_some_and(|build| build.trained > 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`train`](System::train).
    pub fn repair(&self, policy: &RepairPolicy, observer: &dyn Observer) -> Result<RepairReport, EngineError> {
        let snapshot = self.snapshot()?;
        let missing = snapshot.missing().len();
        let reason = match policy.is_due(&snapshot) {
            Ok(reason) => reason,
            Err(reason) => return Ok(RepairReport { missing, reason, build: None, out_of_time: false }),
        };
        let _span = tracing::info_span!("repair", epoch = snapshot.epoch().0, missing).entered();
        let limited = Limited { observer, until: policy.time.map(|time| Instant::now() + time) };
        match self.train(&limited) {
            Err(EngineError::Executor(ExecutorError::Cancelled(_))) if limited.is_over() => {
                let now = self.snapshot()?;
                let planned = now.plan().stages().len();
                let trained = missing.saturating_sub(now.missing().len());
                let build = Some(BuildReport {
                    planned,
                    reused: planned.saturating_sub(now.missing().len() + trained),
                    trained,
                });
                Ok(RepairReport { missing, reason, build, out_of_time: true })
            }
            result => Ok(RepairReport { missing, reason, build: Some(result?), out_of_time: false }),
        }
    }
}

/// Passes everything on, and stops when time is over.
struct Limited<'a> {
    observer: &'a dyn Observer,
    until: Option<Instant>,
}

impl Limited<'_> {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Observer for Limited<'_> {
    fn started(&self, stages: usize, steps: usize) {
        self.observer.started(stages, steps);
    }

    fn trains(&self) {
        self.observer.trains();
    }

    fn stage_started(&self, stage: &StageLabel, records: usize) {
        self.observer.stage_started(stage, records);
    }

    fn step(&self, stage: &StageLabel, step: Step) -> ControlFlow<()> {
        if self.is_over() { ControlFlow::Break(()) } else { self.observer.step(stage, step) }
    }

    fn stage_finished(&self, stage: &StageLabel) {
        self.observer.stage_finished(stage);
    }

    fn is_stopped(&self) -> bool {
        self.is_over() || self.observer.is_stopped()
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.observer.worker_said(worker, line);
    }
}

fn missing_stages(number: usize) -> String {
    format!("{} {} missing", counted(number, "stage"), if number == 1 { "is" } else { "are" })
}
