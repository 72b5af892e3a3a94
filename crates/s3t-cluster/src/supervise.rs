//! Keeping workers there: looking at the engine, and asking it for others.

use std::collections::BTreeSet;

use s3t_executor::ExecutorError;

use crate::launcher::{Call, Ending, Task, TaskState, log_of};
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
    /// Tasks that had not ended when they were seen last.
    living: BTreeSet<String>,
    /// The last submission.
    submission: Submission,
    /// Looks to let go by before the engine is asked for more than it gave, and the last such number.
    pause: (u32, u32),
}

/// The workers that an engine has taken, until it lists them.
#[derive(Default)]
struct Submission {
    taken: usize,
    /// Everything that was listed since.
    listed: BTreeSet<String>,
    looks: u32,
}

/// Looks after which a task that the engine took and never listed counts as ended.
const MAX_UNLISTED: u32 = 3;

/// The most looks between two requests for workers that the engine's limits have refused.
const MAX_PAUSE: u32 = 30;

/// Keeps the wanted number of workers there until the pool is over. `taken` is the number that the engine took at the start, if it answered.
pub(crate) fn supervise(pool: &Pool, call: &Call, taken: Option<usize>) {
    let submission = Submission { taken: taken.unwrap_or_default(), ..Submission::default() };
    let mut seen = Seen { number: u64::from(taken.is_some()), submission, ..Seen::default() };
    loop {
        pool.wait(pool.settings.look());
        if pool.is_over() {
            return;
        }
        pool.cut_off_the_silent();
        pool.objects.iter().for_each(|objects| objects.renew());
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
    /// The tasks of the last submission that may be listed yet. Those that were not after some looks have failed.
    fn unlisted(&mut self, listed: BTreeSet<String>, there: usize, engine: &str) -> usize {
        let submission = &mut self.submission;
        submission.listed.extend(listed);
        submission.looks += 1;
        let unlisted = submission.taken.saturating_sub(submission.listed.len().max(there));
        if unlisted == 0 || submission.looks < MAX_UNLISTED {
            return unlisted;
        }
        submission.taken -= unlisted;
        self.failed += unlisted;
        self.last = Some(format!("{engine} has taken {unlisted} workers, and lists no task for them"));
        0
    }

    fn look(&mut self, pool: &Pool, call: &Call) -> Result<(), crate::ClusterError> {
        let launcher = &*pool.launcher;
        let mut has_ended = false;
        let mut tasks = launcher.tasks()?;
        let listed: BTreeSet<String> = tasks.iter().map(|task| task.name.clone()).collect();
        // An engine may forget a task before anybody has seen its end. One that has given it another name has as many as before.
        let has_ended_now = |task: &&Task| matches!(task.state, TaskState::Ended(..));
        let living = tasks.len() - tasks.iter().filter(has_ended_now).count();
        let ended = tasks.iter().filter(has_ended_now).filter(|task| self.living.contains(&task.name)).count();
        let gone = self.living.len().saturating_sub(living + ended);
        let vanished = self.living.difference(&listed).take(gone).map(|name| Task {
            name: name.clone(),
            state: TaskState::Ended(Ending::Failed, format!("{} does not know it any more", launcher.engine())),
        });
        tasks.extend(vanished);
        self.living.clear();
        for task in tasks {
            let TaskState::Ended(ending, words) = &task.state else {
                // A task that the engine has queued again may end again.
                self.ended.remove(&task.name);
                self.living.insert(task.name);
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
        let unlisted = self.unlisted(listed, there, launcher.engine());
        let living = self.living.len() + unlisted;
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
                    self.submission = Submission { taken, ..Submission::default() };
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
