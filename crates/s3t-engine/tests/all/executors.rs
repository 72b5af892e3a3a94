//! Executors that do what they must not: each mistake is caught, and named.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use crate::world::{Case, Plant, World, check_subset, honest};
use s3t_core::{Digest, NumericEnvironment, Record};
use s3t_engine::{EngineError, Observer, Quiet, StageLabel, VerifyScope};
use s3t_executor::{ExecutorError, Silent, StageJob, StageProgress, Step, TrainedStage, Trainer};
use s3t_store::{DeletionRequest, Place, Store};
use s3t_testkit::{Planted, toy_records};
use s3t_train::TrainError;

type Train = dyn Fn(&dyn Trainer, &StageJob, &dyn StageProgress) -> Result<TrainedStage, ExecutorError> + Send + Sync;

/// A trainer of which the training, or the arithmetic that it tells, is a test's.
struct Mistaken {
    honest: Arc<dyn Trainer>,
    environment: NumericEnvironment,
    train: Arc<Train>,
}

impl Trainer for Mistaken {
    fn environment(&self) -> NumericEnvironment {
        self.environment.clone()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        (self.train)(&*self.honest, job, progress)
    }

    fn forget(&self, records: &[Digest]) {
        self.honest.forget(records);
    }

    fn forget_all(&self) {
        self.honest.forget_all();
    }
}

/// A plant of a mistake in training.
fn mistaken<F>(train: F) -> impl Fn(&[Record]) -> Box<dyn s3t_executor::Executor>
where
    F: Fn(&dyn Trainer, &StageJob, &dyn StageProgress) -> Result<TrainedStage, ExecutorError> + Send + Sync + 'static,
{
    let train: Arc<Train> = Arc::new(train);
    move |_| {
        let train = Arc::clone(&train);
        Planted::trainer(move |honest| {
            let (environment, train) = (honest.environment(), Arc::clone(&train));
            Arc::new(Mistaken { honest, environment, train })
        })
    }
}

#[track_caller]
fn failure(plant: &Plant<'_>) -> EngineError {
    World::trained(&Case::cyclic(), &toy_records(40, 8, 3), plant).err().expect("the mistake is caught")
}

/// A stage that was trained before, to be given in place of another.
#[derive(Default)]
struct Before(Mutex<Option<TrainedStage>>);

impl Before {
    /// The first stage that was trained by this.
    fn first(&self, honest: &dyn Trainer, job: &StageJob) -> Result<TrainedStage, ExecutorError> {
        let mut first = self.0.lock().unwrap();
        if first.is_none() {
            *first = Some(honest.train(job, &Silent)?);
        }
        Ok(first.clone().unwrap())
    }
}

#[test]
fn tensors_of_another_stage_are_refused_by_its_key() {
    let before = Before::default();
    let error = failure(&mistaken(move |honest, job, _| before.first(honest, job)));
    let EngineError::Executor(ExecutorError::WrongAnswer { asked, answered, .. }) = &error else { panic!("{error}") };
    assert_ne!(asked, answered);
    let message = error.to_string();
    assert!(message.contains(&asked.to_string()) && message.contains(&answered.to_string()), "{message}");
}

#[test]
fn tensors_of_another_group_are_refused_whatever_key_they_come_with() {
    let before = Before::default();
    let error = failure(&mistaken(move |honest, job, progress| {
        // A stage of the second group gets the tensors of the first.
        if job.lineage.depth() == 1 {
            return honest.train(job, progress);
        }
        let parent = job.lineage.parent().unwrap();
        let first = StageJob { lineage: parent, ancestors: std::collections::BTreeMap::default(), ..job.clone() };
        Ok(TrainedStage { key: job.key(), ..before.first(honest, &first)? })
    }));
    assert!(matches!(error, EngineError::Train(TrainError::Isolation { .. })), "{error}");
}

#[test]
fn tensors_of_another_slice_under_the_right_key_are_found_by_verification() {
    let before = Before::default();
    let plant = mistaken(move |honest: &dyn Trainer, job: &StageJob, progress: &dyn StageProgress| {
        if job.lineage.depth() > 1 {
            return honest.train(job, progress);
        }
        Ok(TrainedStage { key: job.key(), ..before.first(honest, job)? })
    });
    let world = World::trained(&Case::cyclic(), &toy_records(40, 8, 3), &plant).unwrap();
    // Another executor verifies: the mistaken one would say the same twice.
    let report = world.reopened().system.verify(VerifyScope::All, &Quiet).unwrap();
    assert!(!report.passed());
    assert!(report.stages.iter().any(|stage| stage.difference.is_some()));
}

fn elsewhere(environment: NumericEnvironment) -> NumericEnvironment {
    NumericEnvironment { architecture: "aarch64".into(), instructions: vec!["neon".into()], ..environment }
}

#[test]
fn a_result_of_another_arithmetic_is_refused_by_name() {
    let error = failure(&mistaken(|honest, job, progress| {
        let trained = honest.train(job, progress)?;
        Ok(TrainedStage { environment: elsewhere(trained.environment.clone()), ..trained })
    }));
    assert!(matches!(error, EngineError::Environment { .. }) && error.to_string().contains("neon"), "{error}");
}

#[test]
fn the_arithmetic_of_a_store_is_that_of_the_executor_and_another_one_is_refused() {
    let records = toy_records(40, 8, 3);
    let other = |_: &[Record]| {
        Planted::trainer(|honest| {
            let environment = elsewhere(honest.environment());
            let claimed = environment.clone();
            let train: Arc<Train> = Arc::new(move |honest, job, progress| {
                Ok(TrainedStage { environment: claimed.clone(), ..honest.train(job, progress)? })
            });
            Arc::new(Mistaken { honest, environment, train })
        })
    };
    let world = World::trained(&Case::cyclic(), &records, &other).unwrap();
    let recipe = &world.system.store().settings().recipe;
    assert_eq!(recipe.environment.instructions, ["neon"], "the store has the arithmetic of this process");
    assert!(world.system.status().unwrap().same_environment);
    assert!(world.system.verify(VerifyScope::All, &Quiet).unwrap().passed());
    // In this process the store answers and deletes, and neither trains nor verifies.
    let here = world.reopened();
    assert!(!here.system.status().unwrap().same_environment);
    assert!(here.answers().is_some());
    here.system.delete(&[records[0].id.clone()], &[]).unwrap();
    for error in [here.system.train(&Quiet).unwrap_err(), here.system.verify(VerifyScope::All, &Quiet).unwrap_err()] {
        assert!(matches!(error, EngineError::Environment { .. }), "{error}");
    }
}

/// Accepts a deletion when a stage of two slices is in training.
struct DeletesInTheMiddle<'a> {
    store: Store,
    records: &'a [Record],
    hit: Mutex<Option<StageLabel>>,
}

impl Observer for DeletesInTheMiddle<'_> {
    fn step(&self, stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        let mut hit = self.hit.lock().unwrap();
        if hit.is_none() && stage.slices.len() == 2 {
            let in_stage = |record: &&Record| {
                let address = self.store.address(&record.id).unwrap().unwrap();
                address.shard == stage.shard && address.slice == stage.slices[1]
            };
            let record = self.records.iter().find(in_stage).unwrap();
            let request = DeletionRequest { records: vec![record.id.clone()], ..DeletionRequest::default() };
            self.store.accept(&request).unwrap();
            self.store.erase().unwrap();
            *hit = Some(stage.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Passes steps on, and stops for nobody.
struct Deaf<'a>(&'a dyn StageProgress);

impl StageProgress for Deaf<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let _ = self.0.step(step);
        ControlFlow::Continue(())
    }
}

#[test]
fn a_stage_that_is_answered_after_its_cancellation_is_not_stored() {
    let records = toy_records(60, 0, 3);
    let plant = mistaken(|honest: &dyn Trainer, job: &StageJob, progress: &dyn StageProgress| {
        honest.train(job, &Deaf(progress))
    });
    let world = World::new(&Case::cyclic(), &records, &plant);
    let store = Store::open(&Place::new(world.store())).unwrap();
    let observer = DeletesInTheMiddle { store, records: &records, hit: Mutex::new(None) };
    world.system.train(&observer).unwrap();
    let hit = observer.hit.lock().unwrap().clone().expect("a stage was hit");
    let stages = world.stages();
    assert!(!stages.contains_key(&hit.key), "the dead stage was stored");
    let there = |record: &&Record| world.system.store().address(&record.id).unwrap().is_some();
    let without: Vec<Record> = records.iter().filter(there).cloned().collect();
    let never = World::trained(&Case::cyclic(), &without, &honest).unwrap();
    check_subset(&stages, &never.stages()).unwrap();
    check_subset(&never.stages(), &stages).unwrap();
}

#[test]
fn a_failure_of_the_executor_is_told_from_a_failure_of_training() {
    let died = || ExecutorError::WorkerDied { worker: "worker 9".into(), problem: "signal 9".into() };
    let error = failure(&mistaken(move |_, _, _| Err(died())));
    assert!(matches!(&error, EngineError::Executor(error) if error.is_of_the_worker()), "{error}");
    let error = failure(&mistaken(|honest, job, progress| {
        let mut job = job.clone();
        job.lineage.recipe.training["learning_rate"] = 1e30.into();
        honest.train(&job, progress)
    }));
    assert!(matches!(&error, EngineError::Executor(ExecutorError::Training { .. })), "{error}");
}
