//! Remembered activations: how many fit changes no bit, and a deletion drops its record's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use crate::world::{Case, Order, World, check_subset};
use s3t_backends::DeviceSpec;
use s3t_core::tensors::StageTensors;
use s3t_core::{Record, StageKey, StoreSecret};
use s3t_engine::{Pipeline, Quiet, System, VerifyScope};
use s3t_executor::{Executor, Local, Site};
use s3t_models::{LoadOptions, WeightFormat};
use s3t_testkit::{Planted, tiny_pipeline, toy_records, write_tiny_model};
use s3t_train::{Precision, StageTrainer};

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

/// An executor that remembers at most so many bytes, and so many on disk in a folder; and its trainer once it is started.
fn remembering(limit: usize, disk: Option<(PathBuf, u64)>) -> (Box<dyn Executor>, Arc<OnceLock<Arc<StageTrainer>>>) {
    let slot: Arc<OnceLock<Arc<StageTrainer>>> = Arc::default();
    let filled = Arc::clone(&slot);
    let executor = Planted::new(move |site| {
        let device: DeviceSpec = site.worker.device.parse().unwrap();
        let folder = &site.worker.base.folder;
        let backbone = s3t_models::load(folder, LoadOptions::default(), &device.open().unwrap()).unwrap();
        let trainer = StageTrainer::new(backbone, device, limit).unwrap();
        let trainer = Arc::new(match &disk {
            Some((folder, limit)) => trainer.with_spill(folder, *limit),
            None => trainer,
        });
        filled.set(Arc::clone(&trainer)).unwrap_or_else(|_| panic!("it is started once"));
        Local {}.start(Site { trainer, ..site })
    });
    (executor, slot)
}

/// A world whose trainer remembers at most so many bytes, and the trainer.
fn world(limit: usize) -> (World, Arc<StageTrainer>) {
    let records = toy_records(40, 8, 5);
    let (executor, trainer) = remembering(limit, None);
    let world = World::new(&case(), &records, &once(executor));
    world.system.train(&Quiet).unwrap();
    (world, Arc::clone(trainer.get().unwrap()))
}

/// A plant that gives an executor away.
fn once(executor: Box<dyn Executor>) -> impl Fn(&[Record]) -> Box<dyn Executor> {
    let executor = Mutex::new(Some(executor));
    move |_| executor.lock().unwrap().take().unwrap()
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
    let folder = tempfile::tempdir().unwrap();
    let (executor, trainer) = remembering(3000, Some((folder.path().into(), 1 << 20)));
    let spilling = World::new(&case(), &records, &once(executor));
    spilling.system.train(&Quiet).unwrap();
    let trainer = trainer.get().unwrap();
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

/// The stages of a system whose frozen outputs have a precision and so many bytes of memory and disk, by key, and what is
/// in memory at the end.
fn stages(activations: Precision, memory: usize, disk: u64) -> (BTreeMap<StageKey, StageTensors>, usize) {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 7).unwrap();
    let mut pipeline = tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    pipeline.training.activations = activations;
    let (executor, trainer) = remembering(memory, Some((folder.path().into(), disk)));
    pipeline.executor = executor;
    let secret = StoreSecret::from_bytes([3; 32]);
    let system = System::create(pipeline, &toy_records(40, 8, 5), Some(secret)).unwrap();
    system.train(&Quiet).unwrap();
    let trainer = trainer.get().unwrap();
    let snapshot = system.snapshot().unwrap();
    let stages = snapshot.stages().iter().map(|key| (*key, system.store().stage(key).unwrap().1));
    (stages.collect(), trainer.activations().bytes())
}

#[test]
fn a_system_in_bfloat16_trains_deletes_repairs_and_verifies_and_is_no_system_in_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 7).unwrap();
    let single = || tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    let mut pipeline = single();
    pipeline.training.precision = Precision::Bf16;
    let system = System::create(pipeline, &toy_records(40, 8, 5), None).unwrap();
    system.train(&Quiet).unwrap();
    let ids: Vec<_> = toy_records(40, 8, 5).into_iter().map(|record| record.id).collect();
    system.delete(&ids[..1], &[]).unwrap();
    system.train(&Quiet).unwrap();
    assert!(system.verify(VerifyScope::All, &Quiet).unwrap().passed());
    let lineage = {
        let snapshot = system.snapshot().unwrap();
        system.store().stage(snapshot.stages().iter().next().unwrap()).unwrap().0
    };
    assert_eq!(lineage.recipe.training["precision"], "bf16");
    drop(system);
    // The store is asked for in another precision, and the stage of a trainer that has the model in another.
    let error = System::open(single()).map(drop).unwrap_err().to_string();
    assert!(error.contains("training.precision"), "{error}");
    let Pipeline { device, model, .. } = single();
    let backbone = s3t_models::load(&model, LoadOptions::default(), &device.open().unwrap()).unwrap();
    let trainer = StageTrainer::new(backbone, device, 1 << 20).unwrap();
    let records = toy_records(4, 0, 5).into_iter().map(|record| s3t_executor::StageRecord {
        digest: record.digest(&StoreSecret::from_bytes([3; 32])),
        record: Arc::new(record),
    });
    let job = s3t_executor::StageJob { lineage, records: records.collect(), ancestors: BTreeMap::new() };
    let error = s3t_executor::Trainer::train(&trainer, &job, &s3t_executor::Silent).unwrap_err().to_string();
    assert!(error.contains("is trained in bf16, but the base model was loaded in f32"), "{error}");
}

#[test]
fn a_system_with_rounded_weights_trains_deletes_repairs_and_verifies_and_is_no_system_with_full_weights() {
    for form in [WeightFormat::Int8, WeightFormat::Nf4] {
        check_rounded_weights(form);
    }
}

fn check_rounded_weights(form: WeightFormat) {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 7).unwrap();
    let full = || tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    let mut pipeline = full();
    pipeline.weights = form;
    let system = System::create(pipeline, &toy_records(40, 8, 5), None).unwrap();
    system.train(&Quiet).unwrap();
    let ids: Vec<_> = toy_records(40, 8, 5).into_iter().map(|record| record.id).collect();
    system.delete(&ids[..1], &[]).unwrap();
    system.train(&Quiet).unwrap();
    assert!(system.verify(VerifyScope::All, &Quiet).unwrap().passed());
    drop(system);
    let error = System::open(full()).map(drop).unwrap_err().to_string();
    assert!(error.contains("`model.weights`"), "{error}");
}

#[test]
fn rounded_outputs_take_half_the_memory_and_where_they_are_changes_no_bit() {
    let (full, bytes) = stages(Precision::F32, 1 << 20, 0);
    let (rounded, half) = stages(Precision::Bf16, 1 << 20, 0);
    assert_eq!(2 * half, bytes);
    assert!(rounded.keys().all(|key| !full.contains_key(key)), "another precision is another lineage");
    for (memory, disk) in [(0, 0), (half / 3, 0), (half / 3, 1 << 20), (0, 1 << 20)] {
        let (other, bytes) = stages(Precision::Bf16, memory, disk);
        assert!(bytes <= memory);
        assert!(other == rounded, "{memory} bytes of memory and {disk} of disk");
    }
}
