//! Failures of disks, files and other processes: reported clearly, noticed always, and nothing acknowledged is lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{WatchedDisk, contents, create, record, train};
use s3t_core::RecordId;
use s3t_store::{DeletionRequest, Folder, Place, Store, StoreError};

fn request(number: u64) -> DeletionRequest {
    DeletionRequest { id: Some(format!("request {number}")), records: vec![record(number).id], subjects: vec![] }
}

/// A trained store that has seen a deletion.
fn world() -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("store"));
    let store = create(&place).unwrap();
    train(&store, usize::MAX).unwrap();
    store.accept(&request(3)).unwrap();
    store.erase().unwrap();
    store.publish().unwrap();
    drop(store);
    (folder, place)
}

/// The problem of a store: the error of opening it, or the findings of the check.
fn complaints(place: &Place) -> Vec<String> {
    match Store::open_read_only(place).and_then(|store| store.check()) {
        Ok(check) => check.findings.into_iter().map(|finding| finding.problem).collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn a_full_or_forbidden_disk_is_told_and_the_deletion_is_finished_when_there_is_room() {
    for (how, told) in
        [(io::ErrorKind::StorageFull, "no storage space"), (io::ErrorKind::PermissionDenied, "permission denied")]
    {
        let (_folder, place) = world();
        let fails = Arc::new(AtomicBool::new(false));
        let told_to = Arc::clone(&fails);
        let disk = WatchedDisk(move |_: &Folder| if told_to.load(Ordering::SeqCst) { Err(how.into()) } else { Ok(()) });
        let place = Place { disk: Arc::new(disk), ..place };
        let store = Store::open(&place).unwrap();
        let lineage = {
            let snapshot = store.snapshot().unwrap();
            snapshot.plan().lineage(snapshot.missing().first().unwrap()).unwrap()
        };
        fails.store(true, Ordering::SeqCst);
        // A stage that cannot be written is not there.
        let error = store.add_stage(&lineage, &crate::common::tensors(&lineage.key())).unwrap_err().to_string();
        assert!(error.contains("stages/") && error.contains(told), "{error}");
        assert!(!store.snapshot().unwrap().has_stage(&lineage.key()));
        let accepted = store.accept(&request(5)).unwrap();
        // An erasure that cannot be done is told; the deletion stays in effect.
        let error = store.erase().unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        let snapshot = store.snapshot().unwrap();
        assert!(accepted.effect.cut.iter().all(|key| !snapshot.has_stage(key)));
        assert!(snapshot.is_erasing() && store.address(&record(5).id).unwrap().is_none());
        fails.store(false, Ordering::SeqCst);
        store.erase().unwrap();
        store.publish().unwrap();
        assert!(store.check().unwrap().passed());
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_told() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, place) = world();
    let read_only = |mode: u32| fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).unwrap();
    read_only(0o500);
    // Whoever may do anything, as in many containers, is refused nothing.
    let powerless = fs::write(place.path.join("probe"), "").is_err();
    if powerless {
        let error = Store::open(&place).unwrap_err().to_string();
        assert!(error.contains("store"), "{error}");
    } else {
        fs::remove_file(place.path.join("probe")).unwrap();
    }
    read_only(0o700);
    Store::open(&place).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

#[test]
fn a_flipped_bit_or_a_cut_end_in_any_file_is_noticed() {
    let (_folder, place) = world();
    assert_eq!(complaints(&place), [""; 0]);
    let all: Vec<PathBuf> = [&place.path, &place.keys_folder()].into_iter().flat_map(|folder| files(folder)).collect();
    let mut kinds = std::collections::BTreeSet::new();
    for path in all {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Empty locks and what SQLite makes anew; the catalogue has a test of its own.
        if ["building.lock", "erasing.lock", "stages.lock"].contains(&name) || name.starts_with("catalogue.db") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            fs::write(&path, &changed).unwrap();
            assert_ne!(complaints(&place), [""; 0], "byte {at} of {name}");
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_ne!(complaints(&place), [""; 0], "{name} cut in half");
        fs::remove_file(&path).unwrap();
        let unnoticed = complaints(&place).is_empty();
        // Without its copy of the newest checkpoint a store opens: it was made before there was one.
        assert!(!unnoticed || path.parent() == Some(&place.keys_folder()), "{name} removed");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(complaints(&place), [""; 0]);
        kinds.insert(path.extension().map_or(name.to_owned(), |ending| ending.to_string_lossy().into_owned()));
    }
    for kind in ["stage", "records", "key", "secret", "pub", "checkpoint"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
}

#[test]
fn a_flipped_bit_in_the_catalogue_is_noticed_or_says_nothing() {
    let (_folder, place) = world();
    let before = contents(&Store::open_read_only(&place).unwrap());
    let path = place.path.join("catalogue.db");
    let bytes = fs::read(&path).unwrap();
    let mut noticed = 0;
    let positions: Vec<usize> = (0..bytes.len()).step_by(bytes.len() / 400).collect();
    for at in &positions {
        let mut changed = bytes.clone();
        changed[*at] ^= 1 << (at % 8);
        fs::write(&path, &changed).unwrap();
        if complaints(&place).is_empty() {
            // Free space, or numbers of SQLite's own: everything that the store says is as before.
            let store = Store::open_read_only(&place).unwrap();
            assert_eq!(contents(&store), before, "byte {at}");
            assert!(store.receipt("request 3", None).unwrap().verify(&store.verifying_key()).is_ok(), "byte {at}");
        } else {
            noticed += 1;
        }
    }
    assert!(noticed > 20, "{noticed} of {} noticed", positions.len());
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_ne!(complaints(&place), [""; 0], "cut in half");
}

#[test]
fn two_writers_take_turns() {
    let (_folder, place) = world();
    let deleted: Vec<u64> = (6..18).collect();
    std::thread::scope(|scope| {
        for half in deleted.chunks(6) {
            let place = &place;
            scope.spawn(move || {
                let store = Store::open(place).unwrap();
                for number in half {
                    store.accept(&request(*number)).unwrap();
                    store.erase().unwrap();
                    store.publish().unwrap();
                }
            });
        }
    });
    let store = Store::open(&place).unwrap();
    assert_eq!(store.snapshot().unwrap().epoch().0, 13);
    for number in deleted {
        assert_eq!(store.address(&record(number).id).unwrap(), None);
        let receipt = store.receipt(&format!("request {number}"), None).unwrap();
        assert!(receipt.verify(&store.verifying_key()).unwrap().erased.is_some());
    }
    assert!(store.check().unwrap().passed(), "{:?}", store.check().unwrap().findings);
    // Building is for one at a time.
    let lock = store.lock_building().unwrap();
    let other = Store::open(&place).unwrap();
    assert!(matches!(other.lock_building(), Err(StoreError::Building { .. })));
    drop(lock);
    other.lock_building().unwrap();
}

#[test]
fn a_batch_with_one_unknown_name_deletes_nothing() {
    let (_folder, place) = world();
    let store = Store::open(&place).unwrap();
    let before = contents(&store);
    let records = vec![record(1).id, RecordId::new("nobody").unwrap(), record(2).id];
    let error = store.accept(&DeletionRequest { records, ..DeletionRequest::default() }).unwrap_err().to_string();
    assert!(error.contains("unknown record `nobody`; nothing was deleted"), "{error}");
    assert_eq!(contents(&store), before);
    // A record that is named twice, by itself and by its subject, is one.
    let subject = record(1).subject.unwrap();
    let of_subject = store.records_of(&subject).unwrap();
    let twice = DeletionRequest { id: None, records: vec![record(1).id, record(1).id], subjects: vec![subject] };
    assert_eq!(store.accept(&twice).unwrap().effect.records, of_subject);
}

#[test]
fn a_deletion_takes_the_copies_along_whoever_they_belong_to() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("store"));
    // Records 2, 7 and 11 show the same; 4 and 5 show the same.
    let mut copies = vec![None; crate::common::RECORDS as usize];
    for (record, group) in [(2, 0), (7, 0), (11, 0), (4, 1), (5, 1)] {
        copies[record] = Some(group);
    }
    let store = crate::common::create_with_copies(&place, &copies).unwrap();
    let accepted = store.accept(&request(7)).unwrap();
    assert_eq!(accepted.effect.records, 3);
    let mut gone: Vec<String> =
        store.erase().unwrap().records.into_iter().map(|record| record.id.to_string()).collect();
    gone.sort();
    assert_eq!(gone, ["record-11", "record-2", "record-7"]);
    // Only the group of what was named: not the other records of a copy's subject.
    let left = |number: u64| store.address(&record(number).id).unwrap().is_some();
    assert!((0..crate::common::RECORDS).filter(|number| ![2, 7, 11].contains(number)).all(left));
    store.publish().unwrap();
    assert!(store.check().unwrap().passed(), "{:?}", store.check().unwrap().findings);
}

#[test]
fn a_request_id_is_for_one_request_even_after_its_erasure() {
    let (_folder, place) = world();
    let store = Store::open(&place).unwrap();
    // Request 3 was erased, so that its names cannot be compared any more.
    assert!(store.accept(&request(3)).unwrap().repeated);
    let other = |records: Vec<u64>| DeletionRequest {
        id: request(3).id,
        records: records.into_iter().map(|number| record(number).id).collect(),
        subjects: vec![],
    };
    for records in [vec![4], vec![3, 4]] {
        assert!(matches!(store.accept(&other(records)), Err(StoreError::OtherRequest(_))));
    }
    assert!(store.address(&record(4).id).unwrap().is_some());
    assert!(matches!(store.accept(&other(vec![])), Err(StoreError::NothingNamed)));
    assert_eq!(store.snapshot().unwrap().epoch().0, 1);
}

#[test]
fn nothing_is_called_erased_before_it_is() {
    let (_folder, place) = world();
    let store = Store::open(&place).unwrap();
    // Two records of one slice, whose file is out of reach for a while.
    let address = |number: u64| store.address(&record(number).id).unwrap();
    let first = 1;
    let second = (2..crate::common::RECORDS).find(|number| *number != 3 && address(*number) == address(first)).unwrap();
    let at = address(first).unwrap();
    store.accept(&request(first)).unwrap();
    store.accept(&request(second)).unwrap();
    let name = format!("{}-{}.", at.shard, at.slice);
    let file =
        files(&place.path.join("records")).into_iter().find(|path| path.display().to_string().contains(&name)).unwrap();
    let away = place.path.with_file_name("away");
    fs::rename(&file, &away).unwrap();
    let error = store.erase().unwrap_err().to_string();
    assert!(error.contains("it is not there"), "{error}");
    let erased = |number: u64| {
        let receipt = store.receipt(&format!("request {number}"), None).unwrap();
        receipt.verify(&store.verifying_key()).unwrap().erased.is_some()
    };
    assert_eq!([erased(first), erased(second)], [false, false]);
    // A store in this state opens, and takes more deletions.
    let other = Store::open(&place).unwrap();
    let third = (2..crate::common::RECORDS).find(|number| ![3, second].contains(number)).unwrap();
    other.accept(&request(third)).unwrap();
    fs::rename(&away, &file).unwrap();
    other.erase().unwrap();
    assert_eq!([erased(first), erased(second), erased(third)], [true; 3]);
    other.publish().unwrap();
    assert!(other.check().unwrap().passed(), "{:?}", other.check().unwrap().findings);
}

#[test]
fn a_sound_store_is_sound_to_others_while_it_is_changed() {
    let (_folder, place) = world();
    let store = Store::open(&place).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let reader = Store::open_read_only(&place).unwrap();
                let check = reader.check().unwrap();
                // What is accepted and not erased yet is told; nothing else is wrong.
                let wrong = check.findings.iter().find(|finding| !finding.problem.contains("not erased yet"));
                assert_eq!(wrong, None);
            }
        });
        train(&store, usize::MAX).unwrap();
        for number in 8..16 {
            store.accept(&request(number)).unwrap();
            store.erase().unwrap();
            train(&store, 4).unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_killed_build_leaves_something_to_tidy_up_and_a_dead_stage_is_a_fault() {
    let (_folder, place) = world();
    let store = Store::open(&place).unwrap();
    let missing = *store.snapshot().unwrap().missing().first().unwrap();
    let stage = |key: &s3t_core::StageKey| place.path.join(format!("stages/{key}.stage"));
    // Killed between the file and the transaction that names the stage; or while the file was written.
    for name in [stage(&missing), place.path.join(format!("stages/.unfinished-{missing}.stage"))] {
        fs::write(&name, b"bytes").unwrap();
        let check = Store::open_read_only(&place).unwrap().check().unwrap();
        assert!(check.passed(), "{:?}", check.findings);
        assert!(matches!(&check.waiting[..], [line] if line.contains("was left by a build that was killed")));
        drop(Store::open(&place).unwrap());
        assert!(!name.exists());
        assert_eq!(store.check().unwrap().waiting, Vec::<String>::new());
    }
    // The stage saw a record that is deleted by now.
    let saw = store.snapshot().unwrap().plan().stage(&missing).unwrap().clone();
    let has_seen = |number: &u64| {
        let address = store.address(&record(*number).id).unwrap();
        address.is_some_and(|address| address.shard == saw.shard && saw.slices.contains(&address.slice))
    };
    store.accept(&request((0..crate::common::RECORDS).find(has_seen).unwrap())).unwrap();
    store.erase().unwrap();
    store.publish().unwrap();
    fs::write(stage(&missing), b"bytes").unwrap();
    assert!(complaints(&place)[0].contains("named by nothing"));
}
