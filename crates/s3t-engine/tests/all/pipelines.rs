//! Pipelines that a program puts together: refused or usable, never a broken store or a panic.

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;
use s3t_core::aggregate::StageRouted;
use s3t_core::partition::{Contiguous, KeyedHash};
use s3t_core::sequence::{Cyclic, Single};
use s3t_core::{PartitionShape, Prior, Record, SequenceStrategy, StoreSecret, Task};
use s3t_data::{Duplicates, Labels};
use s3t_engine::{EngineError, Pipeline, PriorSource, System};
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};
use tempfile::TempDir;

/// One model for all cases: it is only read.
fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    let folder = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(folder.path(), 4).unwrap();
        folder
    });
    folder.path()
}

/// Makes a system of a pipeline and looks at it.
fn make(pipeline: Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let system = System::create(pipeline, records, Some(StoreSecret::from_bytes([3; 32])))?;
    system.status()?;
    Ok(())
}

/// Refuses a changed tiny pipeline, and checks that nothing was written.
#[track_caller]
fn check_refused(change: impl Fn(&mut Pipeline), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let changed = || {
        let mut pipeline = tiny_pipeline(model(), &store);
        change(&mut pipeline);
        pipeline
    };
    let checked = changed().check().expect_err("refused").to_string();
    assert!(checked.contains(expected), "{checked}");
    let opened = make(changed(), &toy_records(40, 10, 1)).expect_err("refused").to_string();
    assert_eq!(opened, checked);
    assert!(!store.exists() && !folder.path().join("store.keys").exists());
}

#[test]
fn no_shards_are_refused_before_a_store_is_written() {
    check_refused(|pipeline| pipeline.shape.shards = 0, "`partition.shards` is 0; it takes 1 to 1000000");
    check_refused(|pipeline| pipeline.shape.slices = 0, "`partition.slices` is 0; it takes 1 to 1000000");
    check_refused(|pipeline| pipeline.budget = 0, "`sequences.budget` is 0; it takes 1 to 1000000");
}

#[test]
fn contiguous_slices_without_shards_or_rows_are_refused() {
    let contiguous = |shards, capacity| {
        move |pipeline: &mut Pipeline| {
            pipeline.shape.shards = shards;
            pipeline.partitioner = Box::new(Contiguous { capacity });
        }
    };
    check_refused(contiguous(0, Some(10)), "`partition.shards` is 0");
    check_refused(contiguous(2, Some(1)), "`partition.capacity` is 1, less than the");
    check_refused(contiguous(2, None), "`partition.capacity` is missing");
}

#[test]
fn distances_beyond_the_bits_of_a_picture_hash_are_refused() {
    check_refused(
        |pipeline| pipeline.duplicates.image_distance = Some(64),
        "`image_distance` is 64; it takes 0 to 15 bits",
    );
}

#[test]
fn class_names_and_task_have_to_agree() {
    check_refused(|pipeline| pipeline.task = Task::Classification { classes: 7 }, "names for 7 classes");
    check_refused(|pipeline| pipeline.task = Task::Regression, "`data.labels` is for classes");
    check_refused(|pipeline| pipeline.labels = Labels::none(), "`data.labels` has 0 names");
}

#[test]
fn a_routed_aggregator_needs_centroids() {
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = tiny_pipeline(model(), &folder.path().join("store"));
    pipeline.serving.aggregator = Box::new(StageRouted::default());
    let error = make(pipeline, &toy_records(40, 10, 1)).expect_err("refused").to_string();
    assert!(error.contains("`stage-routed` needs stages that hold the centroids of their records"), "{error}");
    assert!(!folder.path().join("store").exists());
}

#[test]
fn a_checked_pipeline_is_checked_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let checked = tiny_pipeline(model(), &folder.path().join("store")).check().unwrap();
    let error = checked.change(|pipeline| pipeline.wait_seconds = f64::NAN).expect_err("refused").to_string();
    assert!(error.contains("`store.wait_seconds` is NaN; it takes 0 to 86400"), "{error}");
}

/// Small sizes, and the extremes.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 1..4_u32, 1 => Just(0), 1 => Just(1_000_001), 1 => Just(u32::MAX)]
}

/// Any number that a program may come up with.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![40 => 0.0..1.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-1.0), 1 => Just(1e300)]
}

fn prior() -> impl Strategy<Value = PriorSource> {
    prop_oneof![
        3 => Just(PriorSource::Given(Prior::Uniform)),
        2 => prop::collection::vec(number(), 0..4).prop_map(|values| PriorSource::Given(Prior::PerSlice(values))),
        1 => prop::collection::vec(number(), 0..4).prop_map(|values| {
            let subject = |number: usize| s3t_core::SubjectId::new(format!("subject-{number}")).unwrap();
            PriorSource::Subjects(values.into_iter().enumerate().map(|(n, value)| (subject(n), value)).collect())
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_made_in_code_never_panics(
        (shards, slices, budget) in (size(), size(), prop_oneof![20 => 1..4_usize, 1 => Just(0), 1 => Just(usize::MAX)]),
        capacity in prop::option::of(prop::option::weighted(0.9, prop_oneof![10..60_u64, Just(0), Just(u64::MAX)])),
        single in any::<bool>(),
        prior in prior(),
        blocks_per_slice in prop::option::weighted(0.2, prop_oneof![0..4_usize, Just(usize::MAX)]),
        (exact, text_similarity, image_distance) in (any::<bool>(), prop::option::weighted(0.2, 0.6..1.1), prop::option::weighted(0.2, prop_oneof![0..17_u32, Just(64), Just(u32::MAX)])),
        (wait_seconds, warmup, learning_rate) in (number(), number(), number()),
        (epochs, batch_size, jobs) in (prop_oneof![9 => 1..3_usize, 1 => Just(0)], prop_oneof![9 => 1..9_usize, 1 => Just(0)], prop_oneof![0..3_usize, Just(usize::MAX)]),
        (memory, disk) in (prop_oneof![Just(0), Just(1), Just(usize::MAX)], prop_oneof![Just(0), Just(usize::MAX)]),
        task in prop_oneof![
            20 => Just(None),
            1 => (0..5_usize).prop_map(|classes| Some(Task::Classification { classes })),
            1 => (0..5_usize).prop_map(|classes| Some(Task::MultiLabel { classes })),
            1 => Just(Some(Task::Regression)),
            1 => Just(Some(Task::CausalLm)),
        ],
        max_tokens in prop::option::weighted(0.1, prop_oneof![Just(0_usize), Just(usize::MAX)]),
        records in prop_oneof![9 => 1..40_u64, 1 => Just(0)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let mut pipeline = tiny_pipeline(model(), &store);
        pipeline.shape = PartitionShape { shards, slices };
        pipeline.budget = budget;
        pipeline.partitioner = match capacity {
            Some(capacity) => Box::new(Contiguous { capacity }),
            None => Box::new(KeyedHash {}),
        };
        pipeline.strategy = if single { Box::new(Single {}) as Box<dyn SequenceStrategy> } else { Box::new(Cyclic {}) };
        pipeline.prior = prior;
        pipeline.blocks_per_slice = blocks_per_slice;
        pipeline.duplicates = Duplicates { exact, text_similarity, image_distance };
        pipeline.wait_seconds = wait_seconds;
        pipeline.training.warmup = warmup;
        pipeline.training.learning_rate = learning_rate;
        (pipeline.training.epochs, pipeline.training.batch_size) = (epochs, batch_size);
        pipeline.resources.jobs = jobs;
        (pipeline.resources.activation_memory_mb, pipeline.resources.activation_disk_mb) = (memory, disk);
        pipeline.task = task.unwrap_or(pipeline.task);
        pipeline.max_tokens = max_tokens;
        match make(pipeline, &toy_records(records, 10, 1)) {
            Ok(()) => prop_assert!(store.join("catalogue.db").is_file()),
            Err(error) => {
                prop_assert!(!store.exists(), "a store was left behind by a refusal: {error}");
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
