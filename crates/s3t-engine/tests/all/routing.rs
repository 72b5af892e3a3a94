//! Answers in which a member weighs the more, the nearer the question is to the records that it has seen.

use std::path::Path;

use s3t_core::aggregate::{DepthWeighted, StageRouted};
use s3t_core::partition::Contiguous;
use s3t_core::{Aggregator, PartitionShape, Payload, Record, RecordId};
use s3t_engine::{Pipeline, Prediction, Quiet, System};
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};

/// Records of one source: all features of source 0 are far above those of source 1.
fn of_source(source: usize, count: u64, name: &str) -> Vec<Record> {
    let mut records = toy_records(count, 0, source as u64 + 3);
    for record in &mut records {
        record.id = RecordId::new(format!("{name}-{source}-{}", record.ordinal)).unwrap();
        let Payload::Features(values) = &mut record.payload else { unreachable!("toy records are features") };
        values.iter_mut().for_each(|value| *value += [4.0, -4.0][source]);
    }
    records
}

/// Forty records of source 0 and then forty of source 1.
fn two_sources() -> Vec<Record> {
    let records = [of_source(0, 40, "train"), of_source(1, 40, "train")].concat();
    records.into_iter().zip(0..).map(|(record, ordinal)| Record { ordinal, ..record }).collect()
}

/// A shard for each source.
fn pipeline(folder: &Path, aggregator: impl Aggregator + 'static) -> Pipeline {
    let mut pipeline = tiny_pipeline(&folder.join("model"), &folder.join("store"));
    pipeline.shape = PartitionShape { shards: 2, slices: 2 };
    pipeline.budget = 2;
    pipeline.partitioner = Box::new(Contiguous { capacity: Some(80) });
    pipeline.training.centroid = true;
    pipeline.serving.aggregator = Box::new(aggregator);
    pipeline
}

fn near(one: &[f32], other: &[f32]) -> bool {
    one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-4)
}

#[test]
fn a_question_is_answered_by_the_shard_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let sharp = StageRouted { sharpness: 500.0, ..StageRouted::default() };
    let system = System::create(pipeline(folder.path(), sharp), &two_sources(), None).unwrap();
    system.train(&Quiet).unwrap();
    for source in [0, 1] {
        for Prediction { id, scores, members, .. } in system.predict(&of_source(source, 9, "asked")).unwrap() {
            assert_eq!(members.len(), 2);
            assert!(!near(&members[0], &members[1]), "{id}");
            assert!(near(&scores, &members[source]), "{id}: {scores:?} of {members:?}");
        }
    }
    // A question has the same answer alone and among others.
    let asked = [of_source(0, 3, "asked"), of_source(1, 3, "asked")].concat();
    let together = system.predict(&asked).unwrap();
    let alone: Vec<Prediction> = asked.chunks(1).flat_map(|one| system.predict(one).unwrap()).collect();
    assert!(together.iter().zip(&alone).all(|(one, other)| one.id == other.id && near(&one.scores, &other.scores)));
    drop(system);

    // The stages hold what any routed aggregator needs: the service chooses another one.
    let blunt = StageRouted { sharpness: 0.0, ..StageRouted::default() };
    let unrouted = System::open(pipeline(folder.path(), blunt)).unwrap().predict(&asked).unwrap();
    let by_depth = System::open(pipeline(folder.path(), DepthWeighted::default())).unwrap().predict(&asked).unwrap();
    assert_eq!(unrouted, by_depth);
}

#[test]
fn a_stage_has_the_centroid_of_its_own_records() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let records = two_sources();
    let system = System::create(pipeline(folder.path(), StageRouted::default()), &records, None).unwrap();
    system.train(&Quiet).unwrap();
    let snapshot = system.snapshot().unwrap();
    let backbone = &**system.backbone();
    for stage in snapshot.plan().stages() {
        // Rows 0..20 are slice 0 of shard 0, and so on.
        let slices = stage.slices.iter().map(|slice| (2 * stage.shard.0 + slice.0) as usize);
        let seen: Vec<&Record> = slices.flat_map(|slice| &records[20 * slice..20 * (slice + 1)]).collect();
        let mut sum = vec![0.0; backbone.hidden()];
        for record in &seen {
            let input = backbone.prepare(record).unwrap();
            let embedding = s3t_train::embeddings(backbone, &[&input]).remove(0);
            sum.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += value / seen.len() as f32);
        }
        let (_, tensors) = system.store().stage(&stage.key).unwrap();
        let centroid = tensors.centroid.unwrap();
        assert_eq!(centroid.shape, [backbone.hidden()]);
        assert!(near(&centroid.values, &sum), "{:?} and {sum:?}", centroid.values);
    }
}
