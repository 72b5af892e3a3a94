//! Jobs side by side.
//!
//! Each job is deterministic by itself, whatever the number of its threads, so the order in which jobs run, and how many run at
//! once, changes no bit of any result. One thread a job is fastest while there are as many jobs as cores; when fewer are left,
//! each gets its share of the cores.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use s3t_core::tensors::StageTensors;
use s3t_core::{ShardId, SliceAddress, SliceId, StageKey};
use s3t_models::Input;
use s3t_store::{Snapshot, Store};
use s3t_train::{StageBuilder, StageJob, StageProgress, StageRecord, Step, TrainError, check_isolation, on_threads};

use crate::{EngineError, ensemble};

/// A stage as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageLabel {
    /// Its key.
    pub key: StageKey,
    /// Its shard.
    pub shard: ShardId,
    /// The slices it is trained on, in order.
    pub slices: Vec<SliceId>,
}

impl std::fmt::Display for StageLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slices: Vec<String> = self.slices.iter().map(ToString::to_string).collect();
        write!(f, "shard {} slices {}", self.shard, slices.join(" "))
    }
}

/// Watches stages being built and may stop it.
pub trait Observer: Sync {
    /// Called once, before any work: how many stages will be built, and how many optimiser steps that takes.
    fn started(&self, _stages: usize, _steps: usize) {}

    /// A stage starts.
    fn stage_started(&self, _stage: &StageLabel, _records: usize) {}

    /// A step of a stage is done. Breaking stops all jobs; finished stages are kept.
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A stage is done.
    fn stage_finished(&self, _stage: &StageLabel) {}
}

/// Watches nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {}

/// Runs `work` for every item on `jobs` threads, and gives the results in the order of the items. Where there are fewer items,
/// each has more threads for its tensor operations.
///
/// # Errors
///
/// The first error in item order.
pub fn parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, EngineError> + Sync,
) -> Result<Vec<R>, EngineError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<R, EngineError>>> = Mutex::default();
    let workers = jobs.clamp(1, items.len().max(1));
    let worker = || {
        on_threads(jobs / workers, || {
            while let Some((index, item)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                items.get(index).map(|item| (index, item))
            } {
                let result = work(item);
                lock(&results).insert(index, result);
            }
        })
    };
    let ended: Vec<Result<(), TrainError>> = std::thread::scope(|scope| {
        // The caller is one of them. Where the machine starts no more threads, those that were started do the work.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, worker).ok();
        let others: Vec<_> = (1..workers).map_while(start).collect();
        let own = worker();
        let join = |other: std::thread::ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(others.into_iter().map(join)).collect()
    });
    ended.into_iter().collect::<Result<(), _>>()?;
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Answers for inputs, batch by batch on `jobs` threads, in the order of the inputs. A batch holds inputs of one padded
/// length.
///
/// # Errors
///
/// [`EngineError::Train`] if the machine would not start a thread.
///
/// # Panics
///
/// If `answer` does not give one answer an input.
pub fn in_batches<T: Send>(
    jobs: usize,
    inputs: &[Input<'_>],
    answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
) -> Result<Vec<T>, EngineError> {
    let batches = ensemble::batches(inputs);
    let answers = parallel(jobs, &batches, |batch| {
        let of_batch: Vec<&Input<'_>> = batch.iter().map(|index| &inputs[*index]).collect();
        let answers = answer(&of_batch);
        assert_eq!(answers.len(), batch.len(), "one answer an input");
        Ok(answers)
    })?;
    let mut indexed: Vec<(usize, T)> = batches.into_iter().flatten().zip(answers.into_iter().flatten()).collect();
    indexed.sort_by_key(|(index, _)| *index);
    Ok(indexed.into_iter().map(|(_, answer)| answer).collect())
}

/// Where a build gets the stages it builds on, and puts what it built.
pub(crate) trait Stages: Sync {
    /// The tensors of a stage that this build does not build.
    fn existing(&self, key: &StageKey) -> Result<StageTensors, EngineError>;

    /// Keeps a stage that was built; `false` if nobody wants it any more.
    fn built(&self, job: &StageJob, tensors: &StageTensors) -> Result<bool, EngineError>;

    /// Whether a stage is still wanted: no deletion has hit it.
    fn is_wanted(&self, _key: &StageKey) -> bool {
        true
    }
}

/// Builds the stages `wanted` of a snapshot's plan, each after its parent: how many were built. Stages that nobody wants any more
/// are left out, and those that build on them.
pub(crate) fn build(
    store: &Store,
    snapshot: &Snapshot,
    builder: &dyn StageBuilder,
    stages: &dyn Stages,
    wanted: &BTreeSet<StageKey>,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<usize, EngineError> {
    if wanted.is_empty() {
        return Ok(0);
    }
    let queue = Queue { state: Mutex::new(QueueState::new(snapshot, wanted)), changed: Condvar::new(), jobs };
    let build_one = |key: &StageKey| -> Result<Option<StageTensors>, EngineError> {
        if !stages.is_wanted(key) {
            return Ok(None);
        }
        let (job, label) = make_job(store, snapshot, &queue, stages, key)?;
        observer.stage_started(&label, job.records.len());
        let tensors = builder.build(&job, &Watch { queue: &queue, stages, observer, label: &label })?;
        // A builder is a plugin: whatever it trained, a stage holds its own layer group and head only.
        check_isolation(&job.lineage, &tensors)?;
        let kept = stages.built(&job, &tensors)?;
        observer.stage_finished(&label);
        Ok(kept.then_some(tensors))
    };
    // Whatever fails in a stage that a deletion has hit fails because of it: its records or its parents are gone.
    let build_if_wanted = |key: &StageKey| match build_one(key) {
        Err(_) if !stages.is_wanted(key) => Ok(None),
        result => result,
    };
    let worker = || {
        // A worker that unwinds must not leave the others waiting for its stage.
        let _guard = StopOnPanic(&queue);
        while let Some(key) = queue.next() {
            queue.done(key, build_if_wanted(&key));
        }
    };
    std::thread::scope(|scope| {
        // The caller is one of them, and goes on with those that the machine starts.
        for _ in 1..jobs.clamp(1, wanted.len()) {
            if std::thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failure.map_or(Ok(state.built.len()), Err)
}

fn make_job(
    store: &Store,
    snapshot: &Snapshot,
    queue: &Queue,
    stages: &dyn Stages,
    key: &StageKey,
) -> Result<(StageJob, StageLabel), EngineError> {
    let plan = snapshot.plan();
    let missing = || s3t_store::StoreError::MissingStage(*key);
    let stage = plan.stage(key).ok_or_else(missing)?;
    let lineage = plan.lineage(key).ok_or_else(missing)?;
    let mut records = Vec::new();
    for slice in &stage.slices {
        let of_slice = store.records(SliceAddress { shard: stage.shard, slice: *slice })?;
        let with_digest = |(digest, record)| StageRecord { digest, record: Arc::new(record) };
        records.extend(of_slice.into_iter().map(with_digest));
    }
    let chain = plan.chain(key);
    let tensors_of = |ancestor: &&s3t_core::PlannedStage| -> Result<StageTensors, EngineError> {
        let built = lock(&queue.state).built.get(&ancestor.key).cloned();
        built.map_or_else(|| stages.existing(&ancestor.key), |tensors| Ok((*tensors).clone()))
    };
    let before: Vec<StageTensors> =
        chain.iter().take(chain.len().saturating_sub(1)).map(tensors_of).collect::<Result<_, _>>()?;
    let ancestors = StageTensors::of_chain(before)?.blocks;
    let label = StageLabel { key: *key, shard: stage.shard, slices: stage.slices.clone() };
    Ok((StageJob { lineage, records, ancestors }, label))
}

struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    jobs: usize,
}

struct QueueState {
    /// Stages not yet started, with the parent they wait for; in the order in which they should start.
    waiting: Vec<(StageKey, Option<StageKey>)>,
    built: BTreeMap<StageKey, Arc<StageTensors>>,
    /// Stages that are being built.
    running: usize,
    failure: Option<EngineError>,
    stopped: bool,
}

impl QueueState {
    fn new(snapshot: &Snapshot, wanted: &BTreeSet<StageKey>) -> Self {
        let plan = snapshot.plan();
        let mut stages: Vec<_> = wanted.iter().filter_map(|key| plan.stage(key)).collect();
        let availability = snapshot.availability();
        let order = |stage: &s3t_core::PlannedStage| {
            // Cheapest gain first: a stage that lets its shard serve deeper than it does, and among these the one with the
            // fewest records.
            let depth = availability.serving(stage.shard).map_or(0, |serving| serving.depth);
            let sizes = &snapshot.sizes()[stage.shard.index()];
            let records: u64 = stage.slices.iter().map(|slice| sizes[slice.index()]).sum();
            (stage.slices.len() <= depth, records)
        };
        stages.sort_by_key(|stage| (order(stage), stage.slices.len(), stage.shard, stage.slices.clone()));
        let wait = |stage: &&s3t_core::PlannedStage| (stage.key, stage.parent.filter(|parent| wanted.contains(parent)));
        Self {
            waiting: stages.iter().map(wait).collect(),
            built: BTreeMap::new(),
            running: 0,
            failure: None,
            stopped: false,
        }
    }
}

impl QueueState {
    /// Whether the parent that a stage waits for is there.
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

impl Queue {
    /// The next stage whose parent is there; waits for one. `None` when there is nothing left to start.
    fn next(&self) -> Option<StageKey> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped || state.waiting.is_empty() {
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

    fn done(&self, key: StageKey, result: Result<Option<StageTensors>, EngineError>) {
        let mut state = lock(&self.state);
        state.running -= 1;
        match result {
            Ok(Some(tensors)) => drop(state.built.insert(key, Arc::new(tensors))),
            Ok(None) => state.leave_out(key),
            Err(error) => {
                state.stopped = true;
                // Jobs that were stopped because of a failure report an interruption; the cause is what counts.
                if state.failure.as_ref().is_none_or(is_interruption) {
                    state.failure = Some(error);
                }
            }
        }
        self.changed.notify_all();
    }
}

fn is_interruption(error: &EngineError) -> bool {
    matches!(error, EngineError::Train(TrainError::Interrupted(_)))
}

struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).stopped = true;
            self.0.changed.notify_all();
        }
    }
}

/// Passes steps on, and stops the stage when the observer or another job says so.
struct Watch<'a> {
    queue: &'a Queue,
    stages: &'a dyn Stages,
    observer: &'a dyn Observer,
    label: &'a StageLabel,
}

impl StageProgress for Watch<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        if lock(&self.queue.state).stopped || !self.stages.is_wanted(&self.label.key) {
            return ControlFlow::Break(());
        }
        self.observer.step(self.label, step)
    }

    fn threads(&self) -> usize {
        let state = lock(&self.queue.state);
        let ready = state.waiting.iter().filter(|stage| state.is_ready(stage)).count();
        self.queue.jobs / (state.running + ready).clamp(1, self.queue.jobs.max(1))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes guard is changed in single steps, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
