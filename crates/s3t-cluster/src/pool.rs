//! The workers of a launch, and the stages that they are given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_executor::s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{
    ExecutorError, Link, LinkHandle, Permit, StageJob, StageProgress, TrainedStage, Trainer, WorkerSettings,
};

use crate::admission::Refusal;
use crate::job::Job;
use crate::launcher::{Launcher, words_about};
use crate::objects::Objects;
use crate::permits::Permits;
use crate::roster::{Roster, WorkerId};
use crate::stream::Cut;
use crate::tls::Owner;
use crate::watch::Watch;
use crate::{Registration, Settings};

/// The time between two looks at whether a job that waits for a worker is still wanted.
const POLL: Duration = Duration::from_millis(100);

/// Workers that have jobs whose records are deleted, or that are to forget, are cut off when they have given no sign of life for this time.
const FORGET_PATIENCE: Duration = Duration::from_secs(3);

/// Threads that wait for workers to forget.
const FORGET_THREADS: usize = 64;

/// News that wait to be passed on, at most.
const MAX_NEWS: usize = 100;

/// The workers of a launch.
pub(crate) struct Pool {
    pub(crate) settings: Settings,
    pub(crate) worker: WorkerSettings,
    pub(crate) environment: NumericEnvironment,
    pub(crate) owner: Owner,
    pub(crate) launcher: Box<dyn Launcher>,
    pub(crate) objects: Option<Objects>,
    start: Instant,
    is_over: AtomicBool,
    permit: Arc<Permits>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    roster: Roster,
    members: BTreeMap<WorkerId, Member>,
    /// The links of workers that have nothing to do.
    links: BTreeMap<WorkerId, Link>,
    /// The jobs of all callers, those too that wait for a worker.
    jobs: BTreeMap<u64, Arc<Job>>,
    last_job: u64,
    /// Tasks of the engine whose workers have joined or were refused: their end is not a failure to join.
    known_tasks: BTreeSet<String>,
    /// Workers that were refused after they had shown their invitation, since the last that joined.
    refusals: usize,
    last_refusal: Option<String>,
    /// The reason why no worker will come any more.
    failure: Option<ExecutorError>,
    news: VecDeque<String>,
}

struct Member {
    registration: Registration,
    handle: LinkHandle,
    cut: Cut,
}

impl Pool {
    pub(crate) fn new(
        settings: Settings,
        worker: WorkerSettings,
        trainer: &dyn Trainer,
        owner: Owner,
        launcher: Box<dyn Launcher>,
        objects: Option<Objects>,
    ) -> Self {
        Self {
            settings,
            worker,
            environment: trainer.environment(),
            owner,
            launcher,
            objects,
            start: Instant::now(),
            is_over: AtomicBool::new(false),
            permit: Arc::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker is in one of the lists or held by a job, whatever unwinds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Cuts all workers off, and lets no other in.
    pub(crate) fn end(&self) {
        let members: Vec<WorkerId> = {
            let state = self.lock();
            self.is_over.store(true, Ordering::Release);
            state.members.keys().copied().collect()
        };
        members.into_iter().for_each(|worker| self.cut_off(worker, "the owner ends"));
    }

    /// The time since the start, which the roster counts in.
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn permit(&self, permit: Option<Permit>) {
        self.permit.set(permit);
        self.changed.notify_all();
    }

    /// The time for which a worker may remember records after the owner has last answered it. Clocks do not run at quite the same rate.
    fn longest_lease(&self) -> Duration {
        self.settings.lease().mul_f64(1.01)
    }

    /// Notes news for whoever watches.
    pub(crate) fn tell(&self, line: String) {
        tracing::info!(engine = self.launcher.engine(), line);
        let mut state = self.lock();
        if state.news.len() == MAX_NEWS {
            state.news.pop_front();
        }
        state.news.push_back(line);
    }

    pub(crate) fn pass_on_news(&self, progress: &dyn StageProgress) {
        self.objects.iter().flat_map(|objects| objects.relay.news()).for_each(|line| self.tell(line));
        let news = std::mem::take(&mut self.lock().news);
        news.iter().for_each(|line| progress.worker_said(self.launcher.engine(), line));
    }

    /// A worker has joined.
    pub(crate) fn join(&self, registration: Registration, link: Link, cut: Cut) {
        let name = registration.name();
        {
            let mut state = self.lock();
            if self.is_over() {
                return cut.cut();
            }
            let worker = state.roster.join();
            state.known_tasks.insert(registration.task.clone());
            state.refusals = 0;
            let handle = link.handle();
            let (permit, lease) = (Arc::clone(&self.permit), self.longest_lease());
            handle.renew_while(move || permit.allow(lease));
            state.members.insert(worker, Member { registration, handle, cut });
            state.links.insert(worker, link);
        }
        self.changed.notify_one();
        self.tell(format!("{name} has joined"));
    }

    /// A worker was not taken.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        let Some(worker) = &refusal.worker else { return };
        {
            let mut state = self.lock();
            state.known_tasks.insert(worker.task.clone());
            state.refusals += 1;
            state.last_refusal = Some(refusal.to_string());
        }
        self.tell(format!("refused {refusal}"));
    }

    /// A worker that has nothing to do; waits for one.
    fn take(
        &self,
        stage: &StageJob,
        job: &Job,
        progress: &dyn StageProgress,
    ) -> Result<(WorkerId, Link, usize), ExecutorError> {
        let mut state = self.lock();
        loop {
            // Asked while no worker can join: so a worker that has a job was there when records might be remembered for a lease.
            let may_remember = self.permit.allow(self.longest_lease());
            if let Some(worker) = may_remember.then(|| state.roster.pick(&stage.lineage.slices)).flatten() {
                let cores = state.members.get(&worker).map_or(1, |member| member.registration.cores);
                if let Some(link) = state.links.remove(&worker) {
                    return Ok((worker, link, cores));
                }
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            drop(state);
            self.pass_on_news(progress);
            if job.is_revoked() || self.is_over() || progress.is_cancelled() {
                return Err(ExecutorError::Cancelled(stage.key()));
            }
            let waited = self.changed.wait_timeout(self.lock(), POLL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a worker back; cuts it off if it is not fit any more.
    fn give_back(&self, worker: WorkerId, link: Link) {
        let mut state = self.lock();
        if link.is_fit() && state.members.contains_key(&worker) {
            state.links.insert(worker, link);
            state.roster.give_back(worker);
            drop(state);
            self.changed.notify_one();
        } else {
            drop(state);
            drop(link);
            self.cut_off(worker, "it is lost, or does not answer");
        }
    }

    /// Cuts a worker off: nobody renews its lease any more, and nothing of it is read.
    fn cut_off(&self, worker: WorkerId, reason: &str) {
        let mut state = self.lock();
        let Some(Member { registration, handle, cut }) = state.members.remove(&worker) else { return };
        let link = state.links.remove(&worker);
        cut.cut();
        // Whoever asks who may remember a record sees the worker or its lease, never neither.
        let until = self.now() + self.longest_lease();
        state.roster.leave(worker, until);
        drop(state);
        drop((link, handle));
        self.tell(format!("{} is cut off: {reason}", registration.name()));
    }

    /// Cuts off workers that are gone or silent and have no job; a job notices by itself.
    pub(crate) fn cut_off_the_silent(&self) {
        let lease = self.settings.lease();
        let gone: Vec<WorkerId> = {
            let state = self.lock();
            let idle = state.members.iter().filter(|(worker, _)| state.links.contains_key(worker));
            let silent = idle.filter(|(_, member)| member.handle.is_over() || member.handle.silent_for() > lease);
            silent.map(|(worker, _)| *worker).collect()
        };
        gone.into_iter()
            .for_each(|worker| self.cut_off(worker, "its connection is gone, or it was silent for its lease"));
    }

    /// Workers that are there; workers that were refused since one joined, with the last reason.
    pub(crate) fn attendance(&self) -> (usize, usize, Option<String>) {
        let state = self.lock();
        (state.members.len(), state.refusals, state.last_refusal.clone())
    }

    pub(crate) fn has_joined(&self, task: &str) -> bool {
        self.lock().known_tasks.contains(task)
    }

    /// No worker will come any more.
    pub(crate) fn fail(&self, failure: ExecutorError) {
        self.lock().failure.get_or_insert(failure);
        self.changed.notify_all();
    }

    /// Returns `true` once no worker will come any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Waits for this time, or until the pool is over.
    pub(crate) fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(POLL));
        }
    }

    /// The error with what the engine and the log of the worker say.
    fn explained(&self, error: ExecutorError, task: &str) -> ExecutorError {
        let ExecutorError::WorkerDied { worker, mut problem } = error else { return error };
        problem.push_str(&words_about(&*self.launcher, task));
        ExecutorError::WorkerDied { worker, problem }
    }

    /// Has a worker train a stage; another if it is lost.
    pub(crate) fn train(&self, stage: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let job = Arc::new(Job::new(stage));
        let number = {
            let mut state = self.lock();
            state.last_job += 1;
            let number = state.last_job;
            state.jobs.insert(number, Arc::clone(&job));
            number
        };
        let _listed = Listed { pool: self, number };
        let job = &*job;
        let mut failures = 0;
        // A job that a worker could not fetch goes over the link the next time.
        let mut is_plain = false;
        let news = || self.pass_on_news(progress);
        let workers = u32::try_from(self.settings.workers).unwrap_or(u32::MAX);
        loop {
            let (worker, mut link, cores) = self.take(stage, job, progress)?;
            let task = self.lock().members.get(&worker).map(|member| member.registration.task.clone());
            job.given_to(Some(worker));
            let relay = self.objects.as_ref().map(|objects| &objects.relay);
            let relay = relay.filter(|relay| !is_plain && !relay.is_resting());
            let result = link.train_by(stage, &Watch { news: &news, job, progress, cores, workers }, relay);
            let was_cut_off = !self.lock().members.contains_key(&worker);
            self.give_back(worker, link);
            job.given_to(None);
            self.pass_on_news(progress);
            match result {
                // It did not end with the stage: the owner has cut it off because of a deletion.
                Err(error) if error.is_of_the_worker() && was_cut_off => {
                    tracing::info!(stage = %stage.key().short(), %error, "a stage of a worker that was cut off is given to another");
                }
                Err(error @ ExecutorError::Unfetched { .. }) if !is_plain => {
                    is_plain = true;
                    if !job.is_revoked() {
                        self.tell(format!("{error}; it is sent over the link"));
                    }
                }
                Err(error) if error.is_of_the_worker() => {
                    failures += 1;
                    let key = stage.key();
                    tracing::warn!(stage = %key.short(), failures, %error, "a worker was lost with a stage");
                    if failures > self.settings.restarts {
                        let last = Box::new(self.explained(error, &task.unwrap_or_default()));
                        return Err(ExecutorError::GaveUp { key, workers: failures, last });
                    }
                }
                result => return result,
            }
        }
    }

    /// Has every worker forget these records, or all of them, and returns when each has said that it did, or has ended, and when their objects
    /// were asked to be removed.
    pub(crate) fn forget(&self, records: Option<&[Digest]>) {
        self.revoke(records);
        let handles: Vec<(WorkerId, LinkHandle)> = {
            let state = self.lock();
            state.members.iter().map(|(worker, member)| (*worker, member.handle.clone())).collect()
        };
        let waiting = Mutex::new(handles);
        let ask = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((worker, handle)) = next else { return };
                // A connection that is lost says nothing about the worker's memory.
                let has_forgotten = handle.forget(records, FORGET_PATIENCE) && !handle.is_over();
                drop(handle);
                if !has_forgotten {
                    self.cut_off(worker, "it has not said that it forgot the records of a deletion");
                }
            }
        };
        std::thread::scope(|scope| {
            let workers = waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
            for _ in 1..workers.min(FORGET_THREADS) {
                if std::thread::Builder::new().spawn_scoped(scope, ask).is_err() {
                    break;
                }
            }
            ask();
        });
        if let Some(objects) = &self.objects {
            objects.relay.forget(records);
        }
        let mut told = false;
        while let Some(until) = {
            let now = self.now();
            self.lock().roster.remembering_until(now)
        } {
            if !told {
                let left = until.saturating_sub(self.now()).as_secs_f64().ceil();
                self.tell(format!(
                    "a worker that was cut off may remember records for {left} s more: they are waited for"
                ));
                told = true;
            }
            std::thread::sleep(until.saturating_sub(self.now()).min(POLL));
        }
        // Whoever was cut off may have left an object until its lease ended. A failure is told, and tried again.
        if let Some(objects) = &self.objects {
            let _ = objects.relay.purge();
        }
    }

    /// Ends the jobs that hold one of these records, and returns when no worker has one any more.
    fn revoke(&self, records: Option<&[Digest]>) {
        let Some(records) = records else { return };
        let hit: Vec<(u64, Arc<Job>)> = {
            let state = self.lock();
            let jobs = state.jobs.iter().filter(|(_, job)| job.holds(records));
            jobs.map(|(number, job)| (*number, Arc::clone(job))).collect()
        };
        hit.iter().for_each(|(_, job)| job.revoke());
        self.changed.notify_all();
        let asked = Instant::now();
        loop {
            let waited = asked.elapsed();
            let (is_over, late) = {
                let state = self.lock();
                let running: Vec<WorkerId> = hit
                    .iter()
                    .filter(|(number, _)| state.jobs.contains_key(number))
                    .filter_map(|(_, job)| job.worker())
                    .collect();
                // One that receives much, or is in the middle of a long step, gives signs of life all the while.
                let is_late = |worker: &WorkerId| {
                    let silent = state.members.get(worker).map(|member| member.handle.silent_for());
                    silent.is_some_and(|silent| waited.min(silent) > FORGET_PATIENCE || waited > self.settings.lease())
                };
                (running.is_empty(), running.into_iter().filter(is_late).collect::<Vec<_>>())
            };
            if is_over {
                return;
            }
            late.into_iter().for_each(|worker| self.cut_off(worker, "it has not dropped a stage of a deletion"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A job in the list of jobs.
struct Listed<'a> {
    pool: &'a Pool,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.pool.lock().jobs.remove(&self.number);
    }
}
