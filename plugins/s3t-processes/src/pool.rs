//! The workers of an executor that was started.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use s3t_executor::s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{ExecutorError, Session, StageJob, StageProgress, TrainedStage, Trainer, WorkerSettings};

use crate::child::{Program, Worker, WorkerHandle};

/// The time between two looks at whether a job that waits for a worker is still wanted.
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Pool {
    program: Program,
    settings: WorkerSettings,
    workers: NonZero<usize>,
    restarts: usize,
    silence: Duration,
    environment: NumericEnvironment,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<(u64, Worker)>,
    /// All workers, those too that train.
    living: BTreeMap<u64, Arc<WorkerHandle>>,
    /// Workers that are being started.
    starting: usize,
    /// Workers that were ever started: the number of the last.
    started: u64,
    /// Records that were deleted. A worker that starts later is told, because a job of one may still be on its way.
    forgotten: Vec<Digest>,
}

impl Pool {
    /// Starts the first worker; the others start when there is work for them.
    pub(crate) fn start(
        program: Program,
        settings: WorkerSettings,
        workers: NonZero<usize>,
        restarts: usize,
        silence: Duration,
    ) -> Result<Self, ExecutorError> {
        let mut failures = 0;
        let (number, first) = loop {
            match Worker::start(failures + 1, &program, &settings, silence) {
                Ok(worker) => break (failures + 1, worker),
                Err(error) if error.is_of_the_worker() && failures < restarts as u64 => failures += 1,
                Err(error) => return Err(error),
            }
        };
        let environment = first.environment().cloned().ok_or_else(|| ExecutorError::StartFailed {
            place: first.name().to_owned(),
            problem: "it did not say with which arithmetic it computes".into(),
        })?;
        let mut state = State { started: number, ..State::default() };
        state.living.extend(first.handle().map(|handle| (number, Arc::new(handle))));
        state.idle.push((number, first));
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { program, settings, workers, restarts, silence, environment, state, changed })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker is in one of the lists or held by a job, whatever unwinds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that has nothing to do, or a new one; waits for one where all have.
    fn take(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<(u64, Worker), ExecutorError> {
        let mut state = self.lock();
        let number = loop {
            if progress.is_cancelled() {
                return Err(ExecutorError::Cancelled(job.key()));
            }
            if let Some(idle) = state.idle.pop() {
                return Ok(idle);
            }
            if state.living.len() + state.starting < self.workers.get() {
                state.starting += 1;
                state.started += 1;
                break state.started;
            }
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(state);
        let started = Worker::start(number, &self.program, &self.settings, self.silence);
        let mut state = self.lock();
        state.starting -= 1;
        self.changed.notify_one();
        let worker = started?;
        match worker.environment() {
            Some(found) if *found != self.environment => {
                let (worker, expected) = (worker.name().to_owned(), Box::new(self.environment.clone()));
                return Err(ExecutorError::OtherArithmetic { worker, expected, found: Box::new(found.clone()) });
            }
            _ => {}
        }
        let handle = worker.handle().map(Arc::new);
        state.living.extend(handle.clone().map(|handle| (number, handle)));
        let forgotten = state.forgotten.clone();
        drop(state);
        if let Some(handle) = handle.filter(|_| !forgotten.is_empty()) {
            handle.forget(Some(&forgotten));
        }
        tracing::info!(worker = number, "worker started");
        Ok((number, worker))
    }

    /// Gives a worker back; ends it if it is not fit any more.
    fn give_back(&self, number: u64, worker: Worker) {
        if worker.is_fit() {
            self.lock().idle.push((number, worker));
        } else {
            tracing::warn!(worker = number, "worker ended");
            self.lock().living.remove(&number);
            drop(worker);
        }
        self.changed.notify_one();
    }

    fn forget(&self, records: Option<&[Digest]>) {
        let living: Vec<Arc<WorkerHandle>> = {
            let mut state = self.lock();
            state.forgotten.extend(records.unwrap_or_default());
            state.living.values().cloned().collect()
        };
        // All at once, so that the wait is that for the slowest.
        std::thread::scope(|scope| {
            for worker in &living {
                let forget = || worker.forget(records);
                if std::thread::Builder::new().spawn_scoped(scope, forget).is_err() {
                    forget();
                }
            }
        });
    }
}

impl Trainer for Pool {
    fn environment(&self) -> NumericEnvironment {
        self.environment.clone()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let mut failures = 0;
        loop {
            let result = self.take(job, progress).and_then(|(number, mut worker)| {
                let result = worker.train(job, progress);
                self.give_back(number, worker);
                result
            });
            match result {
                Err(error) if error.is_of_the_worker() => {
                    failures += 1;
                    let key = job.key();
                    tracing::warn!(stage = %key.short(), failures, "a worker died with a stage");
                    if failures > self.restarts {
                        return Err(ExecutorError::GaveUp { key, workers: failures, last: Box::new(error) });
                    }
                }
                result => return result,
            }
        }
    }

    fn forget(&self, records: &[Digest]) {
        self.forget(Some(records));
    }

    fn forget_all(&self) {
        self.forget(None);
    }
}

impl Session for Pool {
    fn capacity(&self) -> NonZero<usize> {
        self.workers
    }
}
