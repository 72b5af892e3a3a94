//! Laws that every executor inherits.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use s3t_core::registry::plugin_from_json;
use s3t_core::tensors::StageTensors;
use s3t_core::{PartitionShape, PluginKind, SliceAddress, StageKey, StoreSecret};
use s3t_engine::{Quiet, System, VerifyScope};
use s3t_executor::{Executor, ExecutorError, Local, Session, Silent, StageJob, StageProgress, StageRecord, Step};
use tempfile::TempDir;

use crate::{tiny_pipeline, toy_records, write_tiny_model};

/// Checks an executor, given as the table `[executor]` of a pipeline file:
///
/// - it can be read from its table and written to the same table again;
/// - stages have, bit for bit, the tensors that `local` gives, also when more stages are asked for at once than it has room for;
/// - it says which arithmetic computed a stage;
/// - steps come in order, and a result says how many there were;
/// - a job that is stopped, in the middle or before it starts, gives [`ExecutorError::Cancelled`], and the next job its own result;
/// - training that fails inside gives [`ExecutorError::Training`] with the message of `local`;
/// - forgetting records changes no bit;
/// - a store that was trained with it verifies.
///
/// # Panics
///
/// If a law is broken, saying which.
pub fn check_executor(table: &serde_json::Value) {
    let read = || -> Box<dyn Executor> {
        plugin_from_json(PluginKind::Executor, table).unwrap_or_else(|error| panic!("{table}: {error}"))
    };
    let executor = read();
    executor.check().unwrap_or_else(|error| panic!("{table} is refused: {error}"));
    let written = serde_json::to_value(&executor).expect("an executor is data");
    let again: Box<dyn Executor> = plugin_from_json(PluginKind::Executor, &written).expect("what was written is read");
    assert_eq!(serde_json::to_value(&again).expect("an executor is data"), written, "the table changes on its way");

    let here = World::new(Box::new(Local {}));
    let there = World::new(executor);
    let (expected, found) = (here.stages(), there.stages());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "other stages were trained");
    for (key, tensors) in &found {
        assert_eq!(expected[key].first_difference(tensors), None, "stage {key} has other bits than with `local`");
    }
    let report = there.system.verify(VerifyScope::All, &Quiet).expect("verification runs");
    assert!(report.passed() && report.stages.len() == expected.len(), "{report:?}");

    let (local, session) = (here.session(), there.session());
    let (local, session) = (&*local, &*session);
    let jobs = here.first_jobs();
    assert_eq!(session.environment(), jobs[0].lineage.recipe.environment, "the arithmetic is not told");
    check_side_by_side(session, &jobs, &expected);
    check_steps(session, &jobs[0]);
    check_cancellation(session, &jobs, &expected);
    check_failure(local, session, &jobs[0]);
    let digests: Vec<_> = jobs.iter().flat_map(|job| job.records.iter().map(|record| record.digest)).collect();
    session.forget(&digests);
    check_side_by_side(session, &jobs[..1], &expected);
    session.forget_all();
    check_side_by_side(session, &jobs[..1], &expected);
}

/// A store that was trained with an executor.
struct World {
    system: System,
    _folder: TempDir,
}

impl World {
    fn new(executor: Box<dyn Executor>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        write_tiny_model(&folder.path().join("model"), 4).expect("the model is written");
        let mut pipeline = tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
        pipeline.shape = PartitionShape { shards: 2, slices: 2 };
        pipeline.budget = 2;
        pipeline.resources.jobs = 2;
        pipeline.executor = executor;
        let secret = StoreSecret::from_bytes([4; 32]);
        let system = System::create(pipeline, &toy_records(40, 8, 4), Some(secret)).expect("the store is made");
        system.train(&Quiet).expect("the stages are trained");
        Self { system, _folder: folder }
    }

    fn session(&self) -> Arc<dyn Session> {
        self.system.session().expect("the executor was started to train the store")
    }

    fn stages(&self) -> BTreeMap<StageKey, StageTensors> {
        let store = self.system.store();
        let snapshot = store.snapshot().expect("the catalogue is read");
        let stage = |key: &StageKey| (*key, store.stage(key).expect("the stage is read").1);
        snapshot.stages().iter().map(stage).collect()
    }

    /// The jobs of the stages that build on no other.
    fn first_jobs(&self) -> Vec<StageJob> {
        let store = self.system.store();
        let snapshot = store.snapshot().expect("the catalogue is read");
        let plan = snapshot.plan();
        let first = plan.stages().filter(|stage| stage.parent.is_none());
        let job = |stage: &s3t_core::PlannedStage| {
            let address = SliceAddress { shard: stage.shard, slice: stage.slices[0] };
            let records = store.records(address).expect("the slice is read").into_iter();
            StageJob {
                lineage: plan.lineage(&stage.key).expect("a planned stage has a lineage"),
                records: records.map(|(digest, record)| StageRecord { digest, record: Arc::new(record) }).collect(),
                ancestors: BTreeMap::new(),
            }
        };
        first.map(job).collect()
    }
}

fn check_trained(session: &dyn Session, job: &StageJob, expected: &BTreeMap<StageKey, StageTensors>) {
    let trained = session.train(job, &Silent).unwrap_or_else(|error| panic!("a job fails: {error}"));
    assert_eq!(trained.key, job.key(), "the result is that of another stage");
    assert_eq!(trained.environment, job.lineage.recipe.environment, "the result has another arithmetic");
    let difference = expected[&trained.key].first_difference(&trained.tensors);
    assert_eq!(difference, None, "stage {} has other bits than with `local`", trained.key);
}

/// More jobs at once than the executor has room for.
fn check_side_by_side(session: &dyn Session, jobs: &[StageJob], expected: &BTreeMap<StageKey, StageTensors>) {
    std::thread::scope(|scope| {
        for number in 0..session.capacity().get() + 2 {
            scope.spawn(move || check_trained(session, &jobs[number % jobs.len()], expected));
        }
    });
}

/// Notes the steps, and stops at one.
struct StopAt {
    seen: AtomicUsize,
    stop: usize,
}

impl StageProgress for StopAt {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        assert_eq!(step.done, before + 1, "steps do not come in order");
        if step.done == self.stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn check_steps(session: &dyn Session, job: &StageJob) {
    let progress = StopAt { seen: AtomicUsize::new(0), stop: usize::MAX };
    let trained = session.train(job, &progress).expect("the job is trained");
    assert!(trained.steps > 1 && trained.loss.is_finite());
    assert_eq!(progress.seen.into_inner(), trained.steps, "the result has another number of steps than were told");
}

/// A progress of a stage that nobody wants from the start.
struct Unwanted;

impl StageProgress for Unwanted {
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn is_cancelled(&self) -> bool {
        true
    }
}

fn check_cancellation(session: &dyn Session, jobs: &[StageJob], expected: &BTreeMap<StageKey, StageTensors>) {
    let stopped: [&dyn StageProgress; 2] = [&StopAt { seen: AtomicUsize::new(0), stop: 1 }, &Unwanted];
    for progress in stopped {
        let result = session.train(&jobs[0], progress);
        assert_eq!(result.err(), Some(ExecutorError::Cancelled(jobs[0].key())), "a stopped job is not cancelled");
        check_trained(session, &jobs[1], expected);
    }
}

fn check_failure(local: &dyn Session, session: &dyn Session, job: &StageJob) {
    let mut failing = job.clone();
    failing.lineage.recipe.training["learning_rate"] = 1e30.into();
    let failure = |session: &dyn Session| session.train(&failing, &Silent).err().map(|error| error.to_string());
    let there = session.train(&failing, &Silent).err();
    assert!(matches!(there, Some(ExecutorError::Training { .. })), "a failure of training is told as {there:?}");
    assert_eq!(failure(session), failure(local), "a failure of training has another message than with `local`");
}
