//! Watching a job in a worker.

use std::ops::ControlFlow;
use std::time::Duration;

use s3t_executor::{StageProgress, Step};

use crate::job::Job;

/// The time between two looks at whether the job of a worker is wanted, for each worker of the launch, and at most.
const LOOK_A_WORKER: Duration = Duration::from_millis(1);
const MAX_LOOK: Duration = Duration::from_millis(500);

/// The progress of a job in a worker.
pub(crate) struct Watch<'a> {
    /// Passes news on.
    pub(crate) news: &'a (dyn Fn() + Sync),
    pub(crate) job: &'a Job,
    pub(crate) progress: &'a dyn StageProgress,
    pub(crate) cores: usize,
    /// The workers of the launch.
    pub(crate) workers: u32,
}

impl StageProgress for Watch<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        if self.job.is_revoked() {
            return ControlFlow::Break(());
        }
        self.progress.step(step)
    }

    /// All cores of the worker: the threads of this machine are not spent.
    fn threads(&self) -> usize {
        self.cores
    }

    fn is_cancelled(&self) -> bool {
        (self.news)();
        self.job.is_revoked() || self.progress.is_cancelled()
    }

    fn waits_for_step(&self) -> bool {
        // A deletion waits for a worker that is cut off at least as long as for one that finishes its step.
        self.job.is_revoked() || self.progress.waits_for_step()
    }

    /// Rarer where many workers are looked at, so that looking takes the same time for any number.
    fn look_every(&self) -> Duration {
        self.progress.look_every().max(LOOK_A_WORKER * self.workers).min(MAX_LOOK)
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.progress.worker_said(worker, line);
    }
}
