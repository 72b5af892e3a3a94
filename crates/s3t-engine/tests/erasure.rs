//! After a deletion the bytes of the record and of dead tensors are nowhere under the store.

mod world;

use std::fs;
use std::path::Path;

use s3t_core::{Payload, Record};
use s3t_engine::{System, VerifyScope};
use s3t_peft::NamedTensors;
use s3t_testkit::toy_records;
use world::{Case, Order, World, honest};

fn case() -> Case {
    Case { shards: 2, slices: 3, budget: 3, extra_blocks: 0, order: Order::Cyclic, contiguous: false, jobs: 2, seed: 3 }
}

/// The files below a folder whose bytes hold `needle`.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// What must not be found of a record: its id, its subject, its content.
fn traces(record: &Record) -> Vec<Vec<u8>> {
    let Payload::Features(values) = &record.payload else { unreachable!("toy records are features") };
    let content: Vec<u8> = values.iter().take(8).flat_map(|value| value.to_le_bytes()).collect();
    let subject = record.subject.as_ref().map(|subject| subject.as_str().as_bytes().to_vec());
    // The byte before an id is its length, so that `record-1` is not found in `record-11`.
    let mut id = vec![record.id.as_str().len() as u8];
    id.extend_from_slice(record.id.as_str().as_bytes());
    [Some(id), subject, Some(content)].into_iter().flatten().collect()
}

fn bytes(tensors: &NamedTensors) -> Vec<Vec<u8>> {
    let of_tensor = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    tensors.values().map(|tensor| of_tensor(&tensor.values)).filter(|bytes| bytes.len() >= 32).collect()
}

#[test]
fn no_trace_is_left_of_a_deleted_subject_and_of_dead_tensors() {
    let records = toy_records(60, 8, 3);
    let mut world = World::trained(&case(), &records, &honest).unwrap();
    let subject = records[1].subject.clone().unwrap();
    let before = world.stages();
    let of_subject: Vec<&Record> = records.iter().filter(|record| record.subject.as_ref() == Some(&subject)).collect();
    for trace in of_subject.iter().flat_map(|record| traces(record)) {
        assert!(!files_with(&world.store(), &trace).is_empty(), "the search must be able to find what is there");
    }

    world.system.delete(&[], std::slice::from_ref(&subject)).unwrap();

    for trace in of_subject.iter().flat_map(|record| traces(record)) {
        assert_eq!(files_with(&world.store(), &trace), Vec::<String>::new());
    }
    let after = world.stages();
    let dead: Vec<_> = before.iter().filter(|(key, _)| !after.contains_key(key)).collect();
    assert_eq!(dead.len(), 6, "half of the stages of one shard of cyclic sequences, and their later stages");
    for tensor in dead.iter().flat_map(|(_, tensors)| bytes(tensors)) {
        assert_eq!(files_with(&world.store(), &tensor), Vec::<String>::new());
    }
    for tensor in after.values().flat_map(bytes) {
        assert_eq!(files_with(&world.store(), &tensor).len(), 1, "live tensors stay");
    }
}

#[test]
fn an_accepted_deletion_survives_a_crash_before_the_erasure() {
    let records = toy_records(60, 0, 3);
    let gone = records[4].id.clone();
    let mut twin = World::trained(&case(), &records, &honest).unwrap();
    twin.system.delete(std::slice::from_ref(&gone), &[]).unwrap();

    let world = World::trained(&case(), &records, &honest).unwrap();
    let path = world.store();
    let folder = world.close();
    let mut store = s3t_store::Store::open(&path).unwrap();
    store.accept(std::slice::from_ref(&gone), &[]).unwrap();
    // The crash: nothing was erased yet.
    drop(store);
    assert!(!files_with(&path, &traces(&records[4])[1]).is_empty());
    let world = World::open(folder, &case());
    assert_eq!(files_with(&path, &traces(&records[4])[1]), Vec::<String>::new());
    assert!(world.system.store().manifest().pending.is_empty());
    assert_eq!(world.answers(), twin.answers());
    assert!(world.system.verify(VerifyScope::All, &s3t_engine::Quiet).unwrap().passed());
}

#[test]
fn deleting_everything_leaves_nothing_that_answers_and_repair_needs_no_record() {
    let records = toy_records(20, 0, 3);
    let mut world = World::trained(&case(), &records, &honest).unwrap();
    let all: Vec<_> = records.iter().map(|record| record.id.clone()).collect();
    let deletion = world.system.delete(&all, &[]).unwrap();
    assert_eq!(deletion.records.len(), 20);
    assert_eq!(world.answers(), None);
    assert_eq!(world.stages().len(), 0);
    assert_eq!(world.system.train(&s3t_engine::Quiet).unwrap().planned, 0);
    let mut world = world.reopened();
    let again = world.system.delete(&all[..1], &[]).unwrap_err().to_string();
    assert_eq!(again, "record `record-0` was deleted already; nothing else was deleted");
}

mod verification_notices {
    //! A verification that cannot fail would prove nothing.

    use super::*;

    #[track_caller]
    fn check(damage: impl FnOnce(&System, &Path), expected: &str) {
        let records = toy_records(60, 0, 3);
        let world = World::trained(&case(), &records, &honest).unwrap();
        assert!(world.system.verify(VerifyScope::All, &s3t_engine::Quiet).unwrap().passed());
        damage(&world.system, &world.store());
        let report = world.system.verify(VerifyScope::All, &s3t_engine::Quiet).unwrap();
        assert!(!report.passed());
        let differences = report.stages.iter().filter_map(|stage| stage.difference.as_ref());
        let mut found: Vec<String> = differences.map(ToString::to_string).collect();
        found.extend(report.problems);
        assert!(found.iter().any(|text| text.contains(expected)), "{found:?}");
    }

    #[test]
    fn a_changed_bit_in_a_tensor() {
        check(
            |system, _| {
                let key = *system.store().stages().unwrap().first().unwrap();
                let (lineage, mut tensors) = system.store().stage(&key).unwrap();
                let head = tensors.get_mut("head.weight").unwrap();
                head.values[3] = f32::from_bits(head.values[3].to_bits() ^ 1);
                // Written through the store, so that checksums are right and only the replay can tell.
                system.store().write_stage(&lineage, &tensors).unwrap();
            },
            "tensor `head.weight` position 3",
        );
    }

    #[test]
    fn a_flipped_bit_in_a_stage_file() {
        check(
            |system, store| {
                let key = *system.store().stages().unwrap().first().unwrap();
                let path = store.join(format!("stages/{key}.safetensors"));
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            "its tensors do not match their digest",
        );
    }

    #[test]
    fn a_dead_stage_that_came_back() {
        check(
            |system, store| {
                let key = *system.store().stages().unwrap().first().unwrap();
                let name = format!("stages/{}.safetensors", "ab".repeat(32));
                fs::copy(store.join(format!("stages/{key}.safetensors")), store.join(name)).unwrap();
            },
            "is dead but on disk",
        );
    }

    #[test]
    fn a_record_that_was_changed() {
        check(
            |_, store| {
                let path = store.join("records/0-0.bin");
                let mut bytes = fs::read(&path).unwrap();
                bytes[40] ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            "its checksum does not match",
        );
    }

    #[test]
    fn a_slice_that_was_replaced_by_another() {
        check(
            |_, store| assert!(fs::copy(store.join("records/0-0.bin"), store.join("records/0-1.bin")).is_ok()),
            "the records of shard 0 slice 1 are not those the manifest names",
        );
    }
}

#[test]
fn emptied_slices_leave_the_cuts_and_the_worst_case_right() {
    let case = Case { shards: 1, ..case() };
    let records = toy_records(40, 0, 3);
    let mut world = World::trained(&case, &records, &honest).unwrap();
    let slice =
        |world: &World, record: &Record| world.system.store().index().address(record.id.as_str()).unwrap().slice;
    let emptied = slice(&world, &records[0]);
    let (gone, left): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| slice(&world, record) == emptied);
    let gone: Vec<_> = gone.into_iter().map(|record| record.id.clone()).collect();
    world.system.delete(&gone, &[]).unwrap();
    world.system.train(&s3t_engine::Quiet).unwrap();
    assert_eq!(world.system.slice_sizes()[0].iter().filter(|size| **size == 0).count(), 1, "one slice is empty");
    assert_eq!(world.system.status().shards[0].adversarial_budget, 2, "two first slices are left to hit");
    let deletion = world.system.delete(std::slice::from_ref(&left[0].id), &[]).unwrap();
    assert_eq!(deletion.cuts[0].after, world.system.availability().serving(s3t_core::ShardId(0)));
}

#[test]
fn what_a_crash_left_of_making_a_store_is_removed() {
    let records = toy_records(20, 5, 3);
    let world = World::new(&case(), &records, &honest);
    let folder = world.close();
    let leftover = folder.path().join(".unfinished-store");
    fs::create_dir_all(leftover.join("records")).unwrap();
    fs::write(leftover.join("records/0-0.bin"), &traces(&records[1])[0]).unwrap();
    let world = World::open(folder, &case());
    assert!(!leftover.exists(), "opening the store removes it");
    drop(world);
}

#[test]
fn verification_names_dead_stages_and_foreign_files() {
    let records = toy_records(40, 8, 3);
    let mut world = World::trained(&case(), &records, &honest).unwrap();
    let stages = world.store().join("stages");
    let copies: Vec<_> = fs::read_dir(&stages)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    world.system.delete(std::slice::from_ref(&records[1].id), &[]).unwrap();
    let (path, bytes) = copies.iter().find(|(path, _)| !path.exists()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::write(world.store().join("records/0-0.bin.bak"), b"a copy").unwrap();
    let world = world.reopened();
    let problems = world.system.verify(VerifyScope::Lineages, &s3t_engine::Quiet).unwrap().problems.join("; ");
    assert!(problems.contains("dead stage") && problems.contains("0-0.bin.bak"), "{problems}");
}
