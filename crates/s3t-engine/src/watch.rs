//! Repair without end: whenever a deletion makes one due.

use std::time::{Duration, Instant};

use s3t_store::StoreError;

use crate::error::EngineError;
use crate::jobs::Observer;
use crate::repair::{RepairPolicy, RepairReport};
use crate::system::System;

/// The pause between two looks at the catalogue's version, and so the longest time until a stop is noticed.
const PAUSE: Duration = Duration::from_millis(100);

/// Watches the repairs of [`System::watch`], and ends them.
pub trait RepairObserver: Sync {
    /// The observer of the stages of each repair.
    fn progress(&self) -> &dyn Observer;

    /// Called after each repair that was due, with the time that it took.
    fn repaired(&self, _report: &RepairReport, _took: Duration) {}

    /// Called when another process has the store in hand; the watch tries again.
    fn waiting(&self, _reason: &StoreError) {}

    /// `true` ends the watch. Asked ten times a second while nothing is due; a repair under way is stopped by
    /// [`Observer::step`].
    fn is_stopped(&self) -> bool;
}

impl System {
    /// Repairs whenever the policy says that a repair is due, until the observer stops the watch.
    ///
    /// Watching costs a look at the catalogue's version ten times a second. No wait is longer than [`Pipeline::wait_seconds`]
    /// for a process that has the store in hand.
    ///
    /// # Errors
    ///
    /// As [`repair`](Self::repair); [`s3t_executor::ExecutorError::Cancelled`] if the observer stops a repair under way.
    ///
    /// [`Pipeline::wait_seconds`]: crate::Pipeline::wait_seconds
    pub fn watch(&self, policy: &RepairPolicy, observer: &dyn RepairObserver) -> Result<(), EngineError> {
        loop {
            let started = Instant::now();
            let report = self.repair(policy, observer.progress())?;
            if report.build.is_some() {
                observer.repaired(&report, started.elapsed());
            }
            let mut is_due = report.out_of_time;
            while !is_due {
                if observer.is_stopped() {
                    return Ok(());
                }
                let now = self.snapshot()?;
                self.forget_deleted(&now);
                is_due = now.is_erasing() || policy.is_due(&now).is_ok();
                if !is_due {
                    std::thread::sleep(PAUSE);
                }
            }
            if observer.is_stopped() {
                return Ok(());
            }
            // The slices of a deletion that another process accepted are planned when they are erased.
            match self.store().erase() {
                Err(
                    error @ (StoreError::Erasing { .. }
                    | StoreError::Reading { .. }
                    | StoreError::Elsewhere { .. }
                    | StoreError::Busy { .. }),
                ) => {
                    observer.waiting(&error);
                }
                erased => drop(erased?),
            }
        }
    }
}
