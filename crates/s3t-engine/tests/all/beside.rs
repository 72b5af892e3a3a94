//! Answering, deleting and building side by side: in threads, and in another process's view of the store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::{Case, World, check_subset, honest};
use s3t_core::{Record, StageKey};
use s3t_engine::{EngineError, Observer, Quiet, StageLabel, System, VerifyScope};
use s3t_executor::Step;
use s3t_store::{DeletionRequest, Place, Store};
use s3t_testkit::toy_records;

fn case() -> Case {
    Case::cyclic()
}

type Bits = Option<Vec<Vec<u32>>>;

fn answers(system: &System, records: &[Record]) -> Bits {
    match system.predict(records) {
        Ok(predictions) => {
            Some(predictions.iter().map(|p| p.scores.iter().map(|score| score.to_bits()).collect()).collect())
        }
        Err(EngineError::NothingServes) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_answer_mixes_epochs_and_none_that_starts_after_the_acknowledgement_uses_a_dead_stage() {
    let records = toy_records(60, 0, 3);
    let asked = toy_records(20, 0, 999);
    // Many sequences, so that something is left to answer for long.
    let case = Case { shards: 3, slices: 6, budget: 6, ..case() };
    let world = World::trained(&case, &records, &honest).unwrap();
    let deleting = &world.system;
    // As another process has it: with a connection of its own, and read only.
    let reading = world.open_read_only();
    // The newest deletion that was acknowledged, and what the answers of each epoch are.
    let acknowledged = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let of_epoch: Mutex<BTreeMap<u64, Bits>> = Mutex::new(BTreeMap::from([(0, answers(deleting, &asked))]));
    let seen: Mutex<Vec<(u64, u64, Bits)>> = Mutex::default();
    // The stages that each deletion has cut.
    let cut: Mutex<Vec<(u64, StageKey)>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (acknowledged, over, seen, cut, asked, reading) = (&acknowledged, &over, &seen, &cut, &asked, &reading);
            scope.spawn(move || {
                let system = if thread % 2 == 0 { deleting } else { reading };
                while !over.load(Ordering::SeqCst) {
                    let start = acknowledged.load(Ordering::SeqCst);
                    if thread < 4 {
                        let bits = answers(system, asked);
                        // One may be accepted and not acknowledged yet.
                        let end = acknowledged.load(Ordering::SeqCst) + 1;
                        seen.lock().unwrap().push((start, end, bits));
                    } else {
                        let Ok(members) = system.members() else { continue };
                        let dead = cut.lock().unwrap();
                        for (epoch, key) in dead.iter().filter(|(epoch, _)| *epoch <= start) {
                            let serves = members.iter().any(|member| member.key == Some(*key));
                            assert!(!serves, "stage {key} was cut by deletion {epoch}, but answers");
                        }
                    }
                }
            });
        }
        for (number, record) in (1..).zip(records.iter().take(24)) {
            let deletion = deleting.delete(std::slice::from_ref(&record.id), &[]).unwrap();
            assert_eq!(deletion.epoch.0, number);
            cut.lock().unwrap().extend(deletion.receipt.effect.cut.iter().map(|key| (number, *key)));
            acknowledged.store(number, Ordering::SeqCst);
            of_epoch.lock().unwrap().insert(number, answers(deleting, &asked));
        }
        over.store(true, Ordering::SeqCst);
    });
    let (seen, of_epoch) = (seen.into_inner().unwrap(), of_epoch.into_inner().unwrap());
    let different = of_epoch.values().collect::<std::collections::BTreeSet<_>>().len();
    assert!(seen.len() > 20 && different > 10, "only {} answers of {different} kinds", seen.len());
    for (start, end, bits) in seen {
        let possible = of_epoch.range(start..=end).any(|(_, of_epoch)| *of_epoch == bits);
        assert!(possible, "an answer between deletions {start} and {end} is that of neither");
    }
}

/// Deletes a record in another process's way while a stage that saw it is trained.
struct DeletesInTheMiddle<'a> {
    store: Store,
    records: &'a [Record],
    hit: Mutex<Option<StageLabel>>,
    stopped_late: AtomicU64,
}

impl Observer for DeletesInTheMiddle<'_> {
    fn step(&self, stage: &StageLabel, step: Step) -> ControlFlow<()> {
        let mut hit = self.hit.lock().unwrap();
        match &*hit {
            // A stage of two slices: something is built before it, and it saw several slices.
            None if stage.slices.len() == 2 && step.done > 1 => {
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
            Some(label) if label == stage => drop(self.stopped_late.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn a_deletion_cancels_the_stage_that_it_hits_and_nothing_else_is_lost() {
    let records = toy_records(60, 0, 3);
    let world = World::new(&case(), &records, &honest);
    let observer = DeletesInTheMiddle {
        store: Store::open(&Place::new(world.store())).unwrap(),
        records: &records,
        hit: Mutex::new(None),
        stopped_late: AtomicU64::new(0),
    };
    let report = world.system.train(&observer).unwrap();
    let hit = observer.hit.lock().unwrap().clone().expect("a stage was hit");
    assert_eq!(observer.stopped_late.load(Ordering::SeqCst), 0, "the stage went on after it was hit");
    let stages = world.stages();
    assert!(!stages.contains_key(&hit.key));
    // The plan of what is left was built to the end in the same call.
    assert_eq!(report.planned, stages.len());
    let gone: Vec<&Record> =
        records.iter().filter(|record| world.system.store().address(&record.id).unwrap().is_none()).collect();
    assert_eq!(gone.len(), 1);
    let without: Vec<Record> = records.iter().filter(|record| record.id != gone[0].id).cloned().collect();
    let never = World::trained(&case(), &without, &honest).unwrap();
    check_subset(&stages, &never.stages()).unwrap();
    check_subset(&never.stages(), &stages).unwrap();
    assert!(world.system.verify(VerifyScope::Lineages, &Quiet).unwrap().passed());
}
