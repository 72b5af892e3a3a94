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
use crate::jobs::order::Order;

pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Jobs side by side.
    capacity: usize,
    /// Threads of all jobs together.
    threads: usize,
}

struct QueueState {
    order: Order,
    /// The tensors of stages that others build on; none where these can be read again.
    held: BTreeMap<StageKey, Arc<StageTensors>>,
    holds: bool,
    /// The number of stages that were built.
    built: usize,
    /// Stages that are being built.
    running: usize,
    failure: Option<EngineError>,
    is_stopped: bool,
}

impl Queue {
    /// The queue of a build, which holds the tensors of what it built if `holds` says so.
    pub(super) fn new(
        snapshot: &Snapshot,
        wanted: &BTreeSet<StageKey>,
        capacity: usize,
        threads: usize,
        holds: bool,
    ) -> Self {
        let order = Order::new(in_order(snapshot, wanted));
        let state =
            QueueState { order, held: BTreeMap::new(), holds, built: 0, running: 0, failure: None, is_stopped: false };
        let state = Mutex::new(state);
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
            if state.is_stopped || state.order.has_started_all() {
                return None;
            }
            if let Some(key) = state.order.start() {
                state.running += 1;
                return Some(key);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the result of a stage: its tensors, nothing if the stage is left out, or a failure, which stops all jobs.
    pub(super) fn done(&self, key: StageKey, result: Result<Option<StageTensors>, EngineError>) {
        let mut state = self.lock();
        state.running -= 1;
        match result {
            Ok(Some(tensors)) => {
                state.built += 1;
                if state.holds && state.order.is_needed(&key) {
                    state.held.insert(key, Arc::new(tensors));
                }
                let unneeded = state.order.built(&key);
                unneeded.iter().for_each(|key| drop(state.held.remove(key)));
            }
            Ok(None) => {
                let unneeded = state.order.left_out(&key);
                unneeded.iter().for_each(|key| drop(state.held.remove(key)));
            }
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

    /// The tensors of a stage that this build has built, and holds.
    pub(super) fn held(&self, key: &StageKey) -> Option<Arc<StageTensors>> {
        self.lock().held.get(key).cloned()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// The threads of a job that runs now, if all jobs that could run share them.
    pub(super) fn threads_of_a_job(&self) -> usize {
        let state = self.lock();
        self.threads / (state.running + state.order.ready()).clamp(1, self.capacity.clamp(1, self.threads.max(1)))
    }

    /// A guard that stops all jobs if the thread that holds it unwinds.
    pub(super) fn stop_on_panic(&self) -> StopOnPanic<'_> {
        StopOnPanic(self)
    }

    /// The number of stages that were built, or the failure that stopped the build.
    pub(super) fn finish(self) -> Result<usize, EngineError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.failure.map_or(Ok(state.built), Err)
    }
}

/// The stages in the order in which they should start, each with the parent that this build builds.
fn in_order(snapshot: &Snapshot, wanted: &BTreeSet<StageKey>) -> Vec<(StageKey, Option<StageKey>)> {
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
    stages.sort_by_cached_key(|stage| (order(stage), stage.slices.len(), stage.shard, stage.slices.clone()));
    let wait = |stage: &&PlannedStage| (stage.key, stage.parent.filter(|parent| wanted.contains(parent)));
    stages.iter().map(wait).collect()
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
