//! Callers that are answered together get what each would get alone.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use s3t_core::{Payload, Record};
use s3t_engine::{EngineError, JoinedSystem, Prediction, System};
use s3t_testkit::toy_records;
use world::{Case, Order, World, honest};

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

/// Whether two answers are of the same record by the same stages: their last bits may differ.
fn is_same(one: &Prediction, other: &Prediction) -> bool {
    let near = |(one, other): (&f32, &f32)| (one - other).abs() < 1e-5;
    one.id == other.id
        && one.members.len() == other.members.len()
        && one.members.iter().flatten().zip(other.members.iter().flatten()).all(near)
}

fn are_same(one: &[Prediction], other: &[Prediction]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
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
fn a_full_group_does_not_wait() {
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::from_secs(3600), 4);
    let asked = toy_records(12, 0, 12);
    std::thread::scope(|scope| {
        for record in asked.chunks(1) {
            scope.spawn(|| assert_eq!(joined.predict(record).unwrap().len(), 1));
        }
    });
    assert!(joined.predict(&[]).unwrap().is_empty());
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
        scope.spawn(|| assert!(matches!(joined.predict(&wrong), Err(EngineError::Backend(_)))));
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
    let world = trained();
    let joined = JoinedSystem::new(Arc::new(world.system), Duration::from_micros(200), 8);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let before = joined.system().snapshot().unwrap().epoch() as usize;
                    let found = joined.predict(&asked).ok();
                    let after = joined.system().snapshot().unwrap().epoch() as usize;
                    let fits = |moment: &Option<Vec<Prediction>>| match (moment, &found) {
                        (Some(expected), Some(found)) => are_same(expected, found),
                        (expected, found) => expected.is_none() && found.is_none(),
                    };
                    assert!(moments[before..=after].iter().any(fits), "between deletions {before} and {after}");
                }
            });
        }
        for id in &gone {
            std::thread::sleep(Duration::from_millis(3));
            joined.system().delete(std::slice::from_ref(id), &[]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
