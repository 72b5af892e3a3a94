//! Keeping workers there: looking at the engine, and asking it for others.

use std::collections::BTreeSet;

use s3t_executor::ExecutorError;

use crate::launcher::{Call, Ending, TaskState, log_of};
use crate::pool::Pool;

/// Everything that was seen of the engine's tasks.
#[derive(Default)]
struct Seen {
    /// Tasks whose end was noted.
    ended: BTreeSet<String>,
    /// Workers that failed before they joined, since one joined.
    failed: usize,
    /// The last end of a worker that counts, with the end of its log.
    last: Option<String>,
    /// No more workers are asked for, for this reason.
    stop: Option<String>,
    /// Refusals of the engine, one after the other.
    refused: usize,
    /// The number of the next submission.
    number: u64,
    /// Looks to let go by before the engine is asked for more than it gave, and the last such number.
    pause: (u32, u32),
}

/// The most looks between two requests for workers that the engine's limits have refused.
const MAX_PAUSE: u32 = 30;

/// Keeps the wanted number of workers there until the pool is over. `number` is that of the next submission.
pub(crate) fn supervise(pool: &Pool, call: &Call, number: u64) {
    let mut seen = Seen { number, ..Seen::default() };
    loop {
        pool.wait(pool.settings.look());
        if pool.is_over() {
            return;
        }
        pool.cut_off_the_silent();
        match seen.look(pool, call) {
            Ok(()) => seen.refused = 0,
            // Workers that have joined go on without their engine.
            Err(error @ crate::ClusterError::NoAnswer { .. }) => {
                tracing::warn!(%error, "the engine is asked again later");
            }
            Err(error) => {
                tracing::warn!(%error, "the engine refuses");
                seen.refused += 1;
                if pool.attendance().0 == 0 && seen.refused > pool.settings.restarts {
                    pool.fail(error.of_start(&format!("executor `{}`", pool.launcher.engine())));
                }
            }
        }
    }
}

impl Seen {
    fn look(&mut self, pool: &Pool, call: &Call) -> Result<(), crate::ClusterError> {
        let launcher = &*pool.launcher;
        let (mut living, mut has_ended) = (0, false);
        for task in launcher.tasks()? {
            let TaskState::Ended(ending, words) = &task.state else {
                living += 1;
                // A task that the engine has queued again may end again.
                self.ended.remove(&task.name);
                continue;
            };
            if !self.ended.insert(task.name.clone()) {
                continue;
            }
            has_ended = true;
            let what = format!("task {}: {words}{}", task.name, log_of(launcher, &task.name));
            pool.tell(format!("task {} has ended: {words}", task.name));
            match ending {
                Ending::Again => {}
                Ending::Failed if pool.has_joined(&task.name) => {}
                Ending::Failed => {
                    self.failed += 1;
                    self.last = Some(what);
                }
                Ending::Final => {
                    self.stop = Some(what.clone());
                    self.last = Some(what);
                }
            }
        }
        let (there, refusals, refusal) = pool.attendance();
        if there > 0 && !has_ended {
            self.failed = 0;
        }
        if refusals > 0 {
            self.last = refusal.or(self.last.take());
        }
        let restarts = pool.settings.restarts;
        let gives_up = self.stop.is_some() || self.failed + refusals > restarts;
        if gives_up {
            if living == 0 && there == 0 {
                let last = self.last.clone().unwrap_or_default();
                let workers = self.failed + refusals;
                let problem = match &self.stop {
                    Some(reason) => format!("no worker is left, and another would end as the last: {reason}"),
                    None => format!("{workers} workers ended before they joined, the last like this: {last}"),
                };
                pool.fail(ExecutorError::StartFailed { place: format!("workers of `{}`", launcher.engine()), problem });
            }
            return Ok(());
        }
        let missing = pool.settings.workers.saturating_sub(living.max(there));
        self.pause.0 = self.pause.0.saturating_sub(1);
        // Workers that have ended because the pool is over are not missed.
        if missing > 0 && self.pause.0 == 0 && !pool.is_over() {
            match launcher.submit(self.number, missing, call) {
                Ok(taken) => {
                    self.number += 1;
                    self.pause = (0, 0);
                    pool.tell(format!("{taken} more workers are asked for"));
                }
                // The workers that there are, or that wait in the queue, are those that the site gives now.
                Err(crate::ClusterError::Engine { problem, .. }) if living + there > 0 => {
                    let looks = (2 * self.pause.1).clamp(1, MAX_PAUSE);
                    self.pause = (looks, looks);
                    tracing::info!(problem, looks, "no more workers for now");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
