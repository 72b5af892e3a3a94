//! The order of a build: which stage is next, and how many threads each job gets.
//!
//! One thread a job is fastest while there are as many jobs as cores; when fewer are left, each gets its share of the cores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use s3t_core::tensors::StageTensors;
use s3t_core::{PlannedStage, StageKey};
use s3t_executor::ExecutorError;
use s3t_store::Snapshot;

use crate::EngineError;

pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Jobs side by side.
    capacity: usize,
    /// Threads of all jobs together.
    threads: usize,
}

struct QueueState {
    /// Stages not yet started, with the parent they wait for; in the order in which they should start.
    waiting: Vec<(StageKey, Option<StageKey>)>,
    built: BTreeMap<StageKey, Arc<StageTensors>>,
    /// Stages that are being built.
    running: usize,
    failure: Option<EngineError>,
    is_stopped: bool,
}

impl Queue {
    pub(super) fn new(snapshot: &Snapshot, wanted: &BTreeSet<StageKey>, capacity: usize, threads: usize) -> Self {
        let state = Mutex::new(QueueState::new(snapshot, wanted));
        Self { state, changed: Condvar::new(), capacity, threads }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // The state is changed in single steps, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next stage whose parent is there; waits for one. `None` when there is nothing left to start.
    pub(super) fn next(&self) -> Option<StageKey> {
        let mut state = self.lock();
        loop {
            if state.is_stopped || state.waiting.is_empty() {
                return None;
            }
            match state.waiting.iter().position(|stage| state.is_ready(stage)) {
                Some(index) => {
                    state.running += 1;
                    return Some(state.waiting.remove(index).0);
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Takes the result of a stage: its tensors, nothing if the stage is left out, or a failure, which stops all jobs.
    pub(super) fn done(&self, key: StageKey, result: Result<Option<StageTensors>, EngineError>) {
        let mut state = self.lock();
        state.running -= 1;
        match result {
            Ok(Some(tensors)) => drop(state.built.insert(key, Arc::new(tensors))),
            Ok(None) => state.leave_out(key),
            Err(error) => {
                state.is_stopped = true;
                // Jobs that were stopped because of a failure report that they were cancelled; the cause is what counts.
                if state.failure.as_ref().is_none_or(is_cancellation) {
                    state.failure = Some(error);
                }
            }
        }
        self.changed.notify_all();
    }

    /// The tensors of a stage that this build has built.
    pub(super) fn built(&self, key: &StageKey) -> Option<Arc<StageTensors>> {
        self.lock().built.get(key).cloned()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// The threads of a job that runs now, if all jobs that could run share them.
    pub(super) fn threads_of_a_job(&self) -> usize {
        let state = self.lock();
        let ready = state.waiting.iter().filter(|stage| state.is_ready(stage)).count();
        self.threads / (state.running + ready).clamp(1, self.capacity.clamp(1, self.threads.max(1)))
    }

    /// A guard that stops all jobs if the thread that holds it unwinds.
    pub(super) fn stop_on_panic(&self) -> StopOnPanic<'_> {
        StopOnPanic(self)
    }

    /// The number of stages that were built, or the failure that stopped the build.
    pub(super) fn finish(self) -> Result<usize, EngineError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.failure.map_or(Ok(state.built.len()), Err)
    }
}

impl QueueState {
    fn new(snapshot: &Snapshot, wanted: &BTreeSet<StageKey>) -> Self {
        let plan = snapshot.plan();
        let mut stages: Vec<_> = wanted.iter().filter_map(|key| plan.stage(key)).collect();
        let availability = snapshot.availability();
        let order = |stage: &PlannedStage| {
            // Cheapest gain first: a stage that lets its shard serve deeper than it does, and among these the one with the
            // fewest records.
            let depth = availability.serving(stage.shard).map_or(0, |serving| serving.depth);
            let sizes = &snapshot.sizes()[stage.shard.index()];
            let records: u64 = stage.slices.iter().map(|slice| sizes[slice.index()]).sum();
            (stage.slices.len() <= depth, records)
        };
        stages.sort_by_key(|stage| (order(stage), stage.slices.len(), stage.shard, stage.slices.clone()));
        let wait = |stage: &&PlannedStage| (stage.key, stage.parent.filter(|parent| wanted.contains(parent)));
        Self {
            waiting: stages.iter().map(wait).collect(),
            built: BTreeMap::new(),
            running: 0,
            failure: None,
            is_stopped: false,
        }
    }

    /// Returns `true` if the parent that a stage waits for is there.
    fn is_ready(&self, (_, parent): &(StageKey, Option<StageKey>)) -> bool {
        parent.is_none_or(|key| self.built.contains_key(&key))
    }

    /// Takes out the stages that build on one that is left out.
    fn leave_out(&mut self, key: StageKey) {
        let mut left_out = BTreeSet::from([key]);
        loop {
            let before = self.waiting.len();
            self.waiting.retain(|(key, parent)| {
                let keep = parent.is_none_or(|parent| !left_out.contains(&parent));
                if !keep {
                    left_out.insert(*key);
                }
                keep
            });
            // Children may stand before their parents.
            if self.waiting.len() == before {
                return;
            }
        }
    }
}

fn is_cancellation(error: &EngineError) -> bool {
    matches!(error, EngineError::Executor(ExecutorError::Cancelled(_)))
}

pub(super) struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().is_stopped = true;
            self.0.changed.notify_all();
        }
    }
}
