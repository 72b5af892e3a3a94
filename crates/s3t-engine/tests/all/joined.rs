//! Callers that are answered together get what each would get alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::world::{Case, Order, World, honest};
use rayon::prelude::*;
use s3t_core::aggregate::MeanLogits;
use s3t_core::{Aggregator, Payload, Record};
use s3t_engine::{EngineError, JoinedSystem, Prediction, Quiet, System};
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};

fn case() -> Case {
    Case {
        shards: 2,
        slices: 2,
        budget: 2,
        extra_blocks: 0,
        order: Order::Cyclic,
        contiguous: false,
        jobs: 2,
        seed: 11,
        encrypt: false,
    }
}

fn trained() -> World {
    World::trained(&case(), &toy_records(40, 0, 11), &honest).unwrap()
}

/// True if two answers are of the same record by the same stages: their last bits may differ.
fn is_same(one: &Prediction, other: &Prediction) -> bool {
    let near = |(one, other): (&f32, &f32)| (one - other).abs() < 1e-5;
    one.id == other.id
        && one.members.len() == other.members.len()
        && one.members.iter().flatten().zip(other.members.iter().flatten()).all(near)
}

fn are_same(one: &[Prediction], other: &[Prediction]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
}

fn same_moment(one: Option<&[Prediction]>, other: Option<&[Prediction]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => are_same(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[test]
fn each_caller_gets_its_own_answers() {
    let world = trained();
    let system = Arc::new(world.system);
    let asked = toy_records(24, 0, 12);
    let alone: Vec<Prediction> = system.predict(&asked).unwrap();
    // Twelve callers of one record and four of three, in groups of up to seven; a group of one, and no waiting at all.
    for (wait, most) in [(Duration::from_millis(5), 7), (Duration::from_millis(5), 1), (Duration::ZERO, 100)] {
        let joined = JoinedSystem::new(Arc::clone(&system), wait, most);
        let calls: Vec<&[Record]> = asked[..12].chunks(1).chain(asked[12..].chunks(3)).collect();
        let answers: Vec<Vec<Prediction>> = std::thread::scope(|scope| {
            let joined = &joined;
            let call = |records| scope.spawn(move || joined.predict(records).unwrap());
            let started: Vec<_> = calls.into_iter().map(call).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(are_same(&answers.concat(), &alone));
    }
}

#[test]
fn a_group_is_answered_when_it_is_full_and_no_sooner() {
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::MAX, 4);
    let (asked, answered) = (toy_records(12, 0, 12), AtomicUsize::new(0));
    let call = |records: &[Record]| {
        assert_eq!(joined.predict(records).unwrap().len(), records.len());
        answered.fetch_add(1, Ordering::SeqCst);
    };
    // Nothing joins no group: it would take the place of whoever begins one, and leave that one waiting.
    assert!(joined.answer(&[]).unwrap().predictions.is_empty());
    std::thread::scope(|scope| {
        for record in asked[..3].chunks(1) {
            scope.spawn(|| call(record));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(answered.load(Ordering::SeqCst), 0, "three of four wait");
        scope.spawn(|| call(&asked[3..4]));
    });
    // A call that does not fit closes a group, and begins the next.
    std::thread::scope(|scope| {
        scope.spawn(|| call(&asked[..3]));
        std::thread::sleep(Duration::from_millis(20));
        scope.spawn(|| call(&asked[3..5]));
        while answered.load(Ordering::SeqCst) < 5 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(answered.load(Ordering::SeqCst), 5, "the later of them has begun another group, and waits");
        // It closes that one, and is a full group itself.
        scope.spawn(|| call(&asked[5..9]));
    });
    // More than a group holds goes alone.
    call(&asked);
    assert!(joined.predict(&[]).unwrap().is_empty());
}

/// True if the next answer panics.
static PANICS: AtomicBool = AtomicBool::new(false);

/// The mean, except when it is told to panic.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Fragile {}

#[typetag::serde(name = "fragile")]
impl Aggregator for Fragile {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        assert!(!PANICS.swap(false, Ordering::SeqCst), "as it was told to");
        MeanLogits {}.combine(members)
    }
}

#[test]
fn a_panic_reaches_one_caller_and_the_others_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 3).unwrap();
    let mut pipeline = tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    pipeline.serving.aggregator = Box::new(Fragile {});
    let system = System::create(pipeline, &toy_records(40, 0, 11), None).unwrap();
    system.train(&Quiet).unwrap();
    let joined = JoinedSystem::new(Arc::new(system), Duration::MAX, 4);
    let asked = toy_records(8, 0, 12);
    PANICS.store(true, Ordering::SeqCst);
    let panicked: usize = std::thread::scope(|scope| {
        let joined = &joined;
        let call = |record| scope.spawn(move || assert_eq!(joined.predict(record).unwrap().len(), 1));
        let started: Vec<_> = asked[..4].chunks(1).map(call).collect();
        started.into_iter().map(|thread| usize::from(thread.join().is_err())).sum()
    });
    assert_eq!(panicked, 1);
    assert_eq!(joined.predict(&asked[4..]).unwrap().len(), 4);
}

#[test]
fn callers_may_be_threads_of_a_pool() {
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::from_millis(2), 3);
    let asked = toy_records(24, 0, 12);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| asked.par_chunks(1).for_each(|record| assert_eq!(joined.predict(record).unwrap().len(), 1)));
}

#[test]
fn a_record_that_cannot_be_answered_fails_its_own_call_only() {
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::from_millis(5), 100);
    let mut wrong = toy_records(1, 0, 13);
    wrong[0].payload = Payload::Text("not what this model takes".into());
    let good = toy_records(6, 0, 12);
    std::thread::scope(|scope| {
        for record in good.chunks(1) {
            scope.spawn(|| assert_eq!(joined.predict(record).unwrap()[0].id, record[0].id.as_str()));
        }
        scope.spawn(|| assert!(matches!(joined.predict(&wrong), Err(EngineError::Model(_)))));
    });
    let ids: Vec<_> = toy_records(40, 0, 11).into_iter().map(|record| record.id).collect();
    joined.system().delete(&ids, &[]).unwrap();
    std::thread::scope(|scope| {
        for record in good.chunks(1) {
            scope.spawn(|| assert!(matches!(joined.predict(record), Err(EngineError::NothingServes))));
        }
    });
}

#[test]
fn answers_beside_deletions_are_of_one_moment_after_the_call() {
    let asked = toy_records(3, 0, 12);
    let gone: Vec<_> = toy_records(40, 0, 11).into_iter().take(6).map(|record| record.id).collect();
    // What is answered after so many deletions.
    let twin = trained();
    let answers = |system: &System| system.predict(&asked).ok();
    let mut moments = vec![answers(&twin.system)];
    for id in &gone {
        twin.system.delete(std::slice::from_ref(id), &[]).unwrap();
        moments.push(answers(&twin.system));
    }
    assert!(
        moments.windows(2).filter(|pair| !same_moment(pair[0].as_deref(), pair[1].as_deref())).count() >= 3,
        "deletions change answers"
    );
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::from_micros(200), 8);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let before = joined.system().snapshot().unwrap().epoch().0 as usize;
                    let found = match joined.predict(&asked) {
                        Ok(found) => Some(found),
                        Err(EngineError::NothingServes) => None,
                        Err(error) => panic!("{error}"),
                    };
                    answered.fetch_add(1, Ordering::Relaxed);
                    let after = joined.system().snapshot().unwrap().epoch().0 as usize;
                    let fits = |moment: &Option<Vec<Prediction>>| same_moment(moment.as_deref(), found.as_deref());
                    assert!(moments[before..=after].iter().any(fits), "between deletions {before} and {after}");
                }
            });
        }
        for id in &gone {
            let seen = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < seen + 3 {
                std::thread::yield_now();
            }
            joined.system().delete(std::slice::from_ref(id), &[]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_answer_names_the_epoch_and_the_live_stages_that_it_came_from() {
    let world = trained();
    let system = Arc::new(world.system);
    let joined = JoinedSystem::new(Arc::clone(&system), Duration::ZERO, 8);
    let asked = toy_records(3, 0, 12);
    for epoch in 0..4 {
        let snapshot = system.snapshot().unwrap();
        let serves: Vec<_> = snapshot.serves((0..2).map(s3t_core::ShardId));
        let serves: Vec<_> = serves.into_iter().filter(|shard| shard.stage.is_some()).collect();
        let answer = match joined.answer(&asked) {
            Err(EngineError::NothingServes) if serves.is_empty() => break,
            answer => answer.unwrap(),
        };
        assert_eq!((answer.epoch.0, snapshot.epoch().0), (epoch, epoch));
        assert_eq!(answer.stages.to_vec(), serves);
        assert!(answer.stages.iter().all(|shard| shard.stage.is_some_and(|stage| snapshot.has_stage(&stage))));
        assert!(are_same(&answer.predictions, &system.predict(&asked).unwrap()));
        system.delete(&[toy_records(40, 0, 11)[epoch as usize].id.clone()], &[]).unwrap();
    }
}
