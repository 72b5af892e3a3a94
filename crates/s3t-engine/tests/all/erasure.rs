//! After a deletion the bytes of the record and of dead tensors are nowhere under the store.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::world::{Case, World, honest};
use s3t_core::tensors::StageTensors;
use s3t_core::{Payload, Record};
use s3t_engine::{AuditRequest, System, VerifyScope};
use s3t_store::{DeletionRequest, Place, Store};
use s3t_testkit::{copy_folder, toy_records};

fn case() -> Case {
    Case { jobs: 2, ..Case::cyclic() }
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

/// The traces of a record that must not be found: its id, its subject, its content.
fn traces(record: &Record) -> Vec<Vec<u8>> {
    let Payload::Features(values) = &record.payload else { unreachable!("toy records are features") };
    let content: Vec<u8> = values.iter().take(8).flat_map(|value| value.to_le_bytes()).collect();
    let subject = record.subject.as_ref().map(|subject| subject.as_str().as_bytes().to_vec());
    // The byte before an id is its length, so that `record-1` is not found in `record-11`.
    let mut id = vec![record.id.as_str().len() as u8];
    id.extend_from_slice(record.id.as_str().as_bytes());
    [Some(id), subject, Some(content)].into_iter().flatten().collect()
}

fn bytes(tensors: &StageTensors) -> Vec<Vec<u8>> {
    let of_tensor = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    tensors.named().values().map(|tensor| of_tensor(&tensor.values)).filter(|bytes| bytes.len() >= 32).collect()
}

/// A case whose store is not encrypted, so that a search finds what is there.
fn searchable() -> Case {
    Case { encrypt: false, ..case() }
}

#[test]
fn no_trace_is_left_of_a_deleted_subject_and_of_dead_tensors() {
    let records = toy_records(60, 8, 3);
    let world = World::trained(&searchable(), &records, &honest).unwrap();
    let subject = records[1].subject.clone().unwrap();
    let before = world.stages();
    let of_subject: Vec<&Record> = records.iter().filter(|record| record.subject.as_ref() == Some(&subject)).collect();
    for trace in of_subject.iter().flat_map(|record| traces(record)) {
        assert!(!files_with(&world.store(), &trace).is_empty(), "the search must be able to find what is there");
    }
    let digests: Vec<Vec<u8>> = of_subject.iter().map(|record| world.catalogue_id(&record.id)).collect();
    let subject_digest = world.catalogue_subject(&subject);
    for digest in digests.iter().chain([&subject_digest]) {
        assert!(!files_with(&world.store(), digest).is_empty(), "the catalogue holds digests of ids");
    }

    world.system.delete(&[], std::slice::from_ref(&subject)).unwrap();

    for trace in of_subject.iter().flat_map(|record| traces(record)).chain(digests).chain([subject_digest]) {
        assert_eq!(files_with(world.folder(), &trace), Vec::<String>::new());
    }
    let after = world.stages();
    let dead: Vec<_> = before.iter().filter(|(key, _)| !after.contains_key(key)).collect();
    assert_eq!(dead.len(), 6, "half of the stages of one shard of cyclic sequences, and their later stages");
    for tensor in dead.iter().flat_map(|(_, tensors)| bytes(tensors)) {
        assert_eq!(files_with(world.folder(), &tensor), Vec::<String>::new());
    }
    for tensor in after.values().flat_map(bytes) {
        assert_eq!(files_with(&world.store(), &tensor).len(), 1, "live tensors stay");
    }
}

#[test]
fn a_copy_of_an_encrypted_store_says_nothing_and_after_an_erasure_not_even_with_its_keys() {
    let records = toy_records(60, 8, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    for trace in records.iter().flat_map(traces) {
        assert_eq!(files_with(&world.store(), &trace), Vec::<String>::new(), "nothing is in the clear");
    }
    for tensor in world.stages().values().flat_map(bytes) {
        assert_eq!(files_with(&world.store(), &tensor), Vec::<String>::new());
    }
    // A backup of the store from before the deletion, with the keys as they are after it.
    let backup = world.folder().join("backup");
    copy_folder(&world.store(), &backup).unwrap();
    let address = world.system.store().address(&records[1].id).unwrap().unwrap();
    let before = world.system.snapshot().unwrap();
    let deletion = world.system.delete(std::slice::from_ref(&records[1].id), &[]).unwrap();
    let keys = world.folder().join("store.keys");
    let place = Place { keys: Some(keys.clone()), ..Place::new(&backup) };
    let rolled_back = Store::open(&place).unwrap_err().to_string();
    assert!(rolled_back.contains("was rolled back"), "{rolled_back}");
    // Even past that check, no file of the slice opens, and no stage that saw it.
    fs::remove_file(keys.join("checkpoint")).unwrap();
    let store = Store::open_read_only(&place).unwrap();
    assert!(store.records(address).unwrap_err().to_string().contains("cannot read the key"));
    for key in &deletion.receipt.effect.cut {
        assert!(store.stage(key).unwrap_err().to_string().contains("cannot read the key"));
    }
    let readable = before.stages().iter().filter(|key| store.stage(key).is_ok()).count();
    assert_eq!(readable, before.stages().len() - deletion.receipt.effect.cut.len(), "the others open");
}

#[test]
fn models_of_dead_stages_leave_the_memory_with_the_erasure() {
    let records = toy_records(60, 0, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let members = world.system.members().unwrap();
    let known: Vec<_> = members.iter().map(|member| (member.key.unwrap(), Arc::downgrade(member))).collect();
    drop(members);
    assert!(known.iter().all(|(_, member)| member.upgrade().is_some()), "they stay for the next answer");
    let deletion = world.system.delete(std::slice::from_ref(&records[4].id), &[]).unwrap();
    let (left, gone): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, member)| member.upgrade().is_some());
    let cut = &deletion.receipt.effect.cut;
    assert!(!left.is_empty() && !gone.is_empty());
    assert!(left.iter().all(|(key, _)| !cut.contains(key)) && gone.iter().all(|(key, _)| cut.contains(key)));
}

#[test]
fn an_audit_does_not_call_gone_what_waits_to_be_erased() {
    let records = toy_records(60, 0, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let gone = records[4].id.clone();
    world
        .system
        .store()
        .accept(&DeletionRequest { records: vec![gone.clone()], ..DeletionRequest::default() })
        .unwrap();
    let request = AuditRequest { absent_records: vec![gone], scope: VerifyScope::Lineages, ..AuditRequest::default() };
    let look = || {
        let report = world.system.audit(&request, &s3t_engine::Quiet).unwrap();
        report.checks.into_iter().find(|check| check.what == "What must be gone is gone").unwrap()
    };
    let waiting = look();
    assert_eq!(waiting.passed, Some(false));
    assert!(waiting.problems[0].contains("could not be looked through"), "{:?}", waiting.problems);
    assert!(world.system.erase_pending().1.is_none());
    assert_eq!(look().passed, Some(true));
}

#[test]
fn a_deletion_names_its_own_records_whatever_it_erases_with_them() {
    let records = toy_records(60, 0, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let [earlier, own] = [4, 7].map(|number: usize| records[number].id.clone());
    let request = |id| DeletionRequest { records: vec![id], ..DeletionRequest::default() };
    world.system.store().accept(&request(earlier)).unwrap();
    let deletion = world.system.fulfil(&request(own.clone())).unwrap();
    assert_eq!(deletion.records, [own]);
    assert!(!world.system.snapshot().unwrap().is_erasing(), "the earlier one is erased too");
}

#[test]
fn an_accepted_deletion_survives_a_crash_before_the_erasure() {
    let records = toy_records(60, 0, 3);
    let gone = records[4].id.clone();
    let twin = World::trained(&searchable(), &records, &honest).unwrap();
    twin.system.delete(std::slice::from_ref(&gone), &[]).unwrap();

    let world = World::trained(&searchable(), &records, &honest).unwrap();
    let path = world.store();
    let folder = world.close();
    let store = Store::open(&Place::new(&path)).unwrap();
    store.accept(&DeletionRequest { records: vec![gone.clone()], ..DeletionRequest::default() }).unwrap();
    // The crash: nothing was erased yet.
    drop(store);
    assert!(!files_with(&path, &traces(&records[4])[1]).is_empty());
    let world = World::open(folder, &searchable());
    assert_eq!(files_with(&path, &traces(&records[4])[1]), Vec::<String>::new());
    assert!(!world.system.snapshot().unwrap().is_erasing());
    assert_eq!(world.answers(), twin.answers());
    assert!(world.system.verify(VerifyScope::All, &s3t_engine::Quiet).unwrap().passed());
}

#[test]
fn deleting_everything_leaves_nothing_that_answers_and_repair_needs_no_record() {
    let records = toy_records(20, 0, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let all: Vec<_> = records.iter().map(|record| record.id.clone()).collect();
    let deletion = world.system.delete(&all, &[]).unwrap();
    assert_eq!(deletion.records.len(), 20);
    assert_eq!(world.answers(), None);
    assert_eq!(world.stages().len(), 0);
    assert_eq!(world.system.train(&s3t_engine::Quiet).unwrap().planned, 0);
    let world = world.reopened();
    let again = world.system.delete(&all[..1], &[]).unwrap_err().to_string();
    assert_eq!(
        again,
        "unknown record `record-0`; nothing was deleted. What was deleted before leaves no trace to tell it by"
    );
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
                let key = *system.snapshot().unwrap().stages().first().unwrap();
                let (lineage, mut tensors) = system.store().stage(&key).unwrap();
                let head = tensors.head.as_mut().unwrap().get_mut("weight").unwrap();
                head.values[3] = f32::from_bits(head.values[3].to_bits() ^ 1);
                // Written through the store, so that its seal is right and only the replay can tell.
                assert!(system.store().add_stage(&lineage, &tensors).unwrap());
            },
            "tensor `head.weight` position 3",
        );
    }

    #[test]
    fn a_flipped_bit_in_a_stage_file() {
        check(
            |system, store| {
                let key = *system.snapshot().unwrap().stages().first().unwrap();
                flip(&store.join(format!("stages/{key}.stage")), 100);
            },
            "its seal is broken",
        );
    }

    #[test]
    fn a_dead_stage_that_came_back() {
        check(
            |system, store| {
                let key = *system.snapshot().unwrap().stages().first().unwrap();
                let name = format!("stages/{}.stage", "ab".repeat(32));
                fs::copy(store.join(format!("stages/{key}.stage")), store.join(name)).unwrap();
            },
            "is named by nothing",
        );
    }

    #[test]
    fn a_stage_under_the_name_of_another() {
        check(
            |system, store| {
                let snapshot = system.snapshot().unwrap();
                let mut paths = snapshot.stages().iter().map(|key| store.join(format!("stages/{key}.stage")));
                fs::copy(paths.next().unwrap(), paths.next().unwrap()).unwrap();
            },
            "its seal is broken",
        );
    }

    #[test]
    fn a_record_that_was_changed() {
        check(|_, store| flip(&store.join("records/0-0.0.records"), 40), "its seal is broken");
    }

    #[test]
    fn a_slice_that_was_replaced_by_another() {
        check(
            |_, store| {
                fs::copy(store.join("records/0-0.0.records"), store.join("records/0-1.0.records")).unwrap();
            },
            "its seal is broken",
        );
    }

    #[test]
    fn a_file_that_is_not_the_stores() {
        check(|_, store| fs::write(store.join("records/0-0.bak"), b"a copy").unwrap(), "0-0.bak");
    }

    fn flip(path: &Path, byte: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[byte] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn emptied_slices_leave_the_cuts_and_the_worst_case_right() {
    let case = Case { shards: 1, ..case() };
    let records = toy_records(40, 0, 3);
    let world = World::trained(&case, &records, &honest).unwrap();
    let slice = |world: &World, record: &Record| world.system.store().address(&record.id).unwrap().unwrap().slice;
    let emptied = slice(&world, &records[0]);
    let (gone, left): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| slice(&world, record) == emptied);
    let gone: Vec<_> = gone.into_iter().map(|record| record.id.clone()).collect();
    world.system.delete(&gone, &[]).unwrap();
    world.system.train(&s3t_engine::Quiet).unwrap();
    assert_eq!(
        world.system.snapshot().unwrap().sizes()[0].iter().filter(|size| **size == 0).count(),
        1,
        "one slice is empty"
    );
    assert_eq!(world.system.status().unwrap().shards[0].adversarial_budget, 2, "two first slices are left to hit");
    let deletion = world.system.delete(std::slice::from_ref(&left[0].id), &[]).unwrap();
    assert_eq!(deletion.cuts[0].after, world.system.snapshot().unwrap().availability().serving(s3t_core::ShardId(0)));
}

#[test]
fn what_a_crash_left_of_making_a_store_is_removed() {
    let records = toy_records(20, 5, 3);
    let world = World::new(&case(), &records, &honest);
    let folder = world.close();
    let leftover = folder.path().join(".unfinished-store");
    fs::create_dir_all(leftover.join("records")).unwrap();
    fs::write(leftover.join("records/0-0.0.records"), &traces(&records[1])[0]).unwrap();
    let world = World::open(folder, &case());
    assert!(!leftover.exists(), "opening the store removes it");
    drop(world);
}
