//! The law of the project: what survives a deletion is, bit for bit, what would be there had the record never been there.

use crate::world::{Case, Order, Plant, World, check_subset, garbage, honest};
use proptest::prelude::*;
use s3t_core::{Record, RecordId, SubjectId};
use s3t_engine::Quiet;
use s3t_testkit::toy_records;

fn cases() -> impl Strategy<Value = Case> {
    let orders = prop_oneof![Just(Order::Single), Just(Order::Cyclic), Just(Order::Random), Just(Order::Subjects)];
    (
        1u32..=3,
        1u32..=3,
        1usize..=3,
        0usize..=2,
        orders,
        any::<bool>(),
        prop_oneof![Just(1usize), Just(2), Just(4)],
        0u64..200,
    )
        .prop_map(|(shards, slices, budget, extra_blocks, order, contiguous, jobs, seed)| {
            let budget = match order {
                Order::Single => 1,
                Order::Cyclic => budget.min(slices as usize),
                Order::Random | Order::Subjects => budget.min((1..=slices as usize).product()),
            };
            // Places by order are not known before the records are.
            let contiguous = contiguous && order != Order::Subjects;
            Case { shards, slices, budget, extra_blocks, order, contiguous, jobs, seed, encrypt: seed % 2 == 0 }
        })
}

/// A deletion: a record with its whole subject, or the record alone.
#[derive(Debug, Clone)]
struct Request {
    which: usize,
    subject: bool,
    repair_after: bool,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (0usize..1000, any::<bool>(), prop::bool::weighted(0.3));
    let request = request.prop_map(|(which, subject, repair_after)| Request { which, subject, repair_after });
    proptest::collection::vec(request, 1..4)
}

/// The records of a case; with a contiguous partition nobody has a subject, because the place of a subject is that of its
/// first row, which is an input there.
fn records_of(case: &Case) -> Vec<Record> {
    toy_records(40, if case.contiguous { 0 } else { 8 }, case.seed)
}

/// The names in each request, given the deletions before it.
fn named(records: &[Record], requests: &[Request]) -> Vec<(Vec<RecordId>, Vec<SubjectId>, bool)> {
    let mut left: Vec<&Record> = records.iter().collect();
    let mut named = Vec::new();
    for request in requests {
        let record = left[request.which % left.len()];
        match record.subject.as_ref().filter(|_| request.subject) {
            Some(subject) => {
                left.retain(|other| other.subject.as_ref() != Some(subject));
                named.push((vec![], vec![subject.clone()], request.repair_after));
            }
            None => {
                left.retain(|other| other.id != record.id);
                named.push((vec![record.id.clone()], vec![], request.repair_after));
            }
        }
    }
    named
}

/// Trains, deletes, and compares with the worlds in which the deleted records were other records, or never there.
/// With `pieces`, training is interrupted and the store opened again after every so many stages.
fn check_law(case: &Case, requests: &[Request], pieces: Option<usize>, plant: &Plant<'_>) -> Result<(), String> {
    let records = records_of(case);
    let named = named(&records, requests);
    let gone = |record: &Record| {
        named.iter().any(|(ids, subjects, _)| {
            ids.contains(&record.id) || record.subject.as_ref().is_some_and(|subject| subjects.contains(subject))
        })
    };
    let without: Vec<Record> = records.iter().filter(|record| !gone(record)).cloned().collect();
    let replaced: Vec<Record> =
        records.iter().map(|record| if gone(record) { garbage(record) } else { record.clone() }).collect();
    let error = |error: s3t_engine::EngineError| error.to_string();

    let delete_all = |world: &World| -> Result<(), String> {
        for (ids, subjects, repair_after) in &named {
            let deletion = world.system.delete(ids, subjects).map_err(error)?;
            for cut in &deletion.cuts {
                if cut.after != world.system.snapshot().map_err(error)?.availability().serving(cut.address.shard) {
                    return Err(format!("the deletion told {cut:?}, but something else serves"));
                }
            }
            if *repair_after {
                world.system.train(&Quiet).map_err(error)?;
            }
        }
        Ok(())
    };
    let with = match pieces {
        Some(pieces) => World::trained_in_pieces(case, &records, pieces),
        None => World::trained(case, &records, plant).map_err(error)?,
    };
    let other = World::trained(case, &replaced, plant).map_err(error)?;
    let never = World::trained(case, &without, plant).map_err(error)?;
    delete_all(&with)?;
    delete_all(&other)?;

    // Survivors are stages of the world without, and the same whatever the deleted records were.
    check_subset(&with.stages(), &never.stages())?;
    check_subset(&with.stages(), &other.stages())?;
    check_subset(&other.stages(), &with.stages())?;
    if with.answers() != other.answers() {
        return Err("answers depend on what the deleted records were".into());
    }
    // Closing and opening the store changes nothing.
    let with = with.reopened();
    if with.answers() != other.answers() {
        return Err("answers changed when the store was opened again".into());
    }
    // After a repair nothing tells the world from one in which the records were never there.
    let with = with.reopened_with(plant(&records));
    with.system.train(&Quiet).map_err(error)?;
    check_subset(&with.stages(), &never.stages())?;
    check_subset(&never.stages(), &with.stages())?;
    if with.answers() != never.answers() {
        return Err("answers after the repair differ from those of the world without".into());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn survivors_are_what_would_be_there_without_the_record(
        case in cases(), requests in requests(), pieces in proptest::option::of(1usize..3),
    ) {
        check_law(&case, &requests, pieces, &honest).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn stopping_and_going_on_changes_no_bit(case in cases(), pieces in 1usize..3) {
        let records = records_of(&case);
        let whole = World::trained(&case, &records, &honest).unwrap();
        let in_pieces = World::trained_in_pieces(&case, &records, pieces);
        check_subset(&whole.stages(), &in_pieces.stages()).map_err(TestCaseError::fail)?;
        check_subset(&in_pieces.stages(), &whole.stages()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(whole.answers(), in_pieces.answers());
    }
}

#[test]
fn the_number_of_jobs_changes_no_bit() {
    let case = |jobs| Case {
        shards: 2,
        slices: 3,
        budget: 3,
        extra_blocks: 1,
        order: Order::Cyclic,
        contiguous: false,
        jobs,
        seed: 5,
        encrypt: true,
    };
    let records = records_of(&case(1));
    let one = World::trained(&case(1), &records, &honest).unwrap();
    for jobs in [2, 4] {
        let several = World::trained(&case(jobs), &records, &honest).unwrap();
        check_subset(&one.stages(), &several.stages()).unwrap();
        check_subset(&several.stages(), &one.stages()).unwrap();
        assert_eq!(one.answers(), several.answers());
    }
}

mod planted_leaks {
    //! The law can fail: each mistake that is known to happen is planted, and must be caught.

    use std::sync::Arc;

    use s3t_core::tensors::StageTensors;
    use s3t_core::{BlockRange, Digest, NumericEnvironment, Payload};
    use s3t_executor::{Executor, ExecutorError, StageJob, StageProgress, StageRecord, TrainedStage, Trainer};
    use s3t_testkit::Planted;

    use super::*;

    /// A trainer that changes the job before an honest one trains it, or the tensors after, and says nothing of it.
    struct Leaky<F> {
        honest: Arc<dyn Trainer>,
        train: Arc<F>,
    }

    impl<F> Trainer for Leaky<F>
    where
        F: Fn(&dyn Trainer, &StageJob, &dyn StageProgress) -> Result<TrainedStage, ExecutorError> + Send + Sync,
    {
        fn environment(&self) -> NumericEnvironment {
            self.honest.environment()
        }

        fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
            let trained = (self.train)(&*self.honest, job, progress)?;
            Ok(TrainedStage { key: job.key(), ..trained })
        }

        fn forget(&self, records: &[Digest]) {
            self.honest.forget(records);
        }

        fn forget_all(&self) {
            self.honest.forget_all();
        }
    }

    fn leaky<F>(train: F) -> Box<dyn Executor>
    where
        F: Fn(&dyn Trainer, &StageJob, &dyn StageProgress) -> Result<TrainedStage, ExecutorError>
            + Send
            + Sync
            + 'static,
    {
        let train = Arc::new(train);
        Planted::trainer(move |honest| Arc::new(Leaky { honest, train: Arc::clone(&train) }))
    }

    /// A seed whose system is routed.
    const ROUTED: u64 = 15;

    #[track_caller]
    fn check_caught(plant: &Plant<'_>, expected: &str) {
        check_caught_with(1, plant, expected);
    }

    #[track_caller]
    fn check_caught_with(seed: u64, plant: &Plant<'_>, expected: &str) {
        // Two slices and one request: a first stage survives, so there is something for the leak to show in.
        let case = Case {
            shards: 1,
            slices: 2,
            budget: 2,
            extra_blocks: 0,
            order: Order::Cyclic,
            contiguous: true,
            jobs: 1,
            seed,
            encrypt: true,
        };
        let request = Request { which: 0, subject: false, repair_after: false };
        check_law(&case, std::slice::from_ref(&request), None, &honest).unwrap();
        let message = check_law(&case, &[request], None, plant).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_seed_from_the_number_of_records_is_caught() {
        let plant = |records: &[Record]| {
            let count = records.len();
            leaky(move |honest, job, progress| {
                let mut job = job.clone();
                job.lineage.recipe.training["seed"] = count.into();
                honest.train(&job, progress)
            })
        };
        check_caught(&plant, "tensor");
    }

    #[test]
    fn normalisation_from_the_data_is_caught() {
        let plant = |records: &[Record]| {
            let values = |record: &Record| match &record.payload {
                Payload::Features(values) => values.clone(),
                _ => unreachable!("toy records are features"),
            };
            let all: Vec<f32> = records.iter().flat_map(values).collect();
            let mean = all.iter().sum::<f32>() / all.len() as f32;
            leaky(move |honest, job, progress| {
                let mut job = job.clone();
                for StageRecord { record, digest } in &mut job.records {
                    let shifted = values(record).iter().map(|value| value - mean).collect();
                    *record = Arc::new(Record { payload: Payload::Features(shifted), ..(**record).clone() });
                    // The remembered activations are by digest; these are other inputs.
                    *digest = record.digest(&s3t_core::StoreSecret::from_bytes([0; 32]));
                }
                honest.train(&job, progress)
            })
        };
        check_caught(&plant, "tensor");
    }

    /// A plant that takes a part of a stage that saw all records.
    fn later(part: fn(&mut StageTensors, StageTensors)) -> impl Fn(&[Record]) -> Box<dyn Executor> {
        move |records| {
            let secret = s3t_core::StoreSecret::from_bytes([0; 32]);
            let all: Vec<StageRecord> = records
                .iter()
                .map(|record| StageRecord { digest: record.digest(&secret), record: Arc::new(record.clone()) })
                .collect();
            leaky(move |honest, job, progress| {
                let mut trained = honest.train(job, progress)?;
                let later = honest.train(&StageJob { records: all.clone(), ..job.clone() }, progress)?;
                part(&mut trained.tensors, later.tensors);
                Ok(trained)
            })
        }
    }

    #[test]
    fn a_head_of_a_later_stage_is_caught() {
        check_caught(&later(|own, later| own.head = later.head), "head.");
    }

    #[test]
    fn a_centroid_of_a_later_stage_is_caught() {
        check_caught_with(ROUTED, &later(|own, later| own.centroid = later.centroid), "centroid");
    }

    #[test]
    fn layers_matched_by_substring_are_caught() {
        // With 12 blocks in 12 groups, `blocks.1` as a substring is in `blocks.10` and `blocks.11` too.
        let case = Case {
            shards: 1,
            slices: 12,
            budget: 1,
            extra_blocks: 0,
            order: Order::Cyclic,
            contiguous: true,
            jobs: 1,
            seed: 1,
            encrypt: true,
        };
        let plant = |_records: &[Record]| {
            leaky(|honest, job, progress| {
                let mut trained = honest.train(job, progress)?;
                let substring = format!("blocks.{}", job.lineage.trained().start);
                for block in 0..12 {
                    if !job.lineage.trained().contains(block) && format!("blocks.{block}").contains(&substring) {
                        let mut wrong = job.clone();
                        wrong.ancestors.clear();
                        wrong.lineage.groups =
                            vec![BlockRange { start: block, end: 12.min(block + 1) }; job.lineage.depth()];
                        let of_block = honest.train(&wrong, progress)?;
                        trained.tensors.blocks.extend(of_block.tensors.blocks);
                    }
                }
                Ok(trained)
            })
        };
        let records = toy_records(40, 0, 1);
        World::trained(&case, &records, &honest).unwrap();
        let message = World::trained(&case, &records, &plant).err().expect("the leak is caught").to_string();
        assert!(message.contains("blocks.10") && message.contains("its group is the blocks 1"), "{message}");
    }
}
