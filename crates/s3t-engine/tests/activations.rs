//! Remembered activations: how many fit changes no bit, and a deletion drops its record's.

mod world;

use std::sync::Arc;

use s3t_engine::Quiet;
use s3t_testkit::toy_records;
use s3t_train::{StageBuilder, StageTrainer};
use world::{Case, Order, World, check_subset, honest};

fn case() -> Case {
    Case {
        shards: 1,
        slices: 3,
        budget: 3,
        extra_blocks: 1,
        order: Order::Cyclic,
        contiguous: false,
        jobs: 2,
        seed: 5,
        encrypt: true,
    }
}

/// A world whose trainer remembers at most so many bytes, and the trainer.
fn world(limit: usize) -> (World, Arc<StageTrainer>) {
    let records = toy_records(40, 8, 5);
    let mut world = World::new(&case(), &records, &honest);
    let backbone = Arc::clone(world.system.backbone());
    let trainer = Arc::new(StageTrainer::new(backbone, world.system.device().clone(), limit));
    let builder: Arc<dyn StageBuilder> = Arc::clone(&trainer) as _;
    world.system = world.system.with_builder(builder);
    world.system.train(&Quiet).unwrap();
    (world, trainer)
}

#[test]
fn the_memory_limit_changes_no_bit() {
    // Nothing, a few entries, everything.
    let [(none, empty), (few, some), (all, full)] = [0, 3000, 1 << 20].map(world);
    assert_eq!(empty.activations().bytes(), 0);
    assert!((1..=3000).contains(&some.activations().bytes()) && full.activations().bytes() > 3000);
    for other in [&few, &all] {
        check_subset(&none.stages(), &other.stages()).unwrap();
        check_subset(&other.stages(), &none.stages()).unwrap();
    }
}

#[test]
fn what_is_on_disk_changes_no_bit_and_goes_with_its_record() {
    let records = toy_records(40, 8, 5);
    let (all, _) = world(1 << 20);
    let mut spilling = World::new(&case(), &records, &honest);
    let (backbone, device) = (Arc::clone(spilling.system.backbone()), spilling.system.device().clone());
    let folder = tempfile::tempdir().unwrap();
    let trainer = Arc::new(StageTrainer::new(backbone, device, 3000).with_spill(folder.path(), 1 << 20));
    let builder: Arc<dyn StageBuilder> = Arc::clone(&trainer) as _;
    spilling.system = spilling.system.with_builder(builder);
    spilling.system.train(&Quiet).unwrap();
    let before = trainer.activations().spilled_bytes();
    assert!(trainer.activations().bytes() <= 3000 && before > 3000, "{before} bytes on disk");
    check_subset(&all.stages(), &spilling.stages()).unwrap();
    check_subset(&spilling.stages(), &all.stages()).unwrap();
    let ids: Vec<_> = records.into_iter().map(|record| record.id).collect();
    spilling.system.delete(&ids, &[]).unwrap();
    assert_eq!(trainer.activations().spilled_bytes(), 0);
}

#[test]
fn what_another_process_deleted_is_forgotten_before_the_next_build() {
    let (world, trainer) = world(1 << 20);
    assert!(trainer.activations().bytes() > 0);
    let other = s3t_store::Store::open(&world.system.pipeline().place()).unwrap();
    let records: Vec<_> = toy_records(40, 8, 5).into_iter().map(|record| record.id).collect();
    other.accept(&s3t_store::DeletionRequest { id: None, records, subjects: vec![] }).unwrap();
    other.erase().unwrap();
    world.system.train(&Quiet).unwrap();
    assert_eq!(trainer.activations().bytes(), 0);
}

#[test]
fn a_deletion_drops_what_was_remembered_of_its_records() {
    let (world, trainer) = world(1 << 20);
    let before = trainer.activations().bytes();
    let ids: Vec<_> = toy_records(40, 8, 5).into_iter().map(|record| record.id).collect();
    world.system.delete(&ids[..1], &[]).unwrap();
    let one = before - trainer.activations().bytes();
    assert!(one > 0);
    world.system.delete(&ids[1..], &[]).unwrap();
    assert_eq!(trainer.activations().bytes(), 0, "nothing is left of records that are all gone");
}
