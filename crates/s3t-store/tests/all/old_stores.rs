//! Stores of earlier formats open. Each fixture is a store as the first program of its format wrote it; nobody writes over one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{RECORDS, contents, create, record, train};
use s3t_store::{DeletionRequest, Place, Store};

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Deletes record 3, so that there is history to read.
fn request() -> DeletionRequest {
    DeletionRequest { id: Some("request 3".into()), records: vec![record(3).id], subjects: vec![] }
}

fn write(folder: &Path) {
    let store = create(&Place::new(folder.join("store"))).unwrap();
    train(&store, usize::MAX).unwrap();
    store.accept(&request()).unwrap();
    store.erase().unwrap();
    store.publish().unwrap();
}

#[test]
fn a_store_of_format_3_opens_answers_deletes_and_is_sound() {
    // `WRITE_FIXTURE=1` writes the fixture of a new format; for one that is there already it does nothing.
    if std::env::var_os("WRITE_FIXTURE").is_some() && !fixture(3).exists() {
        write(&fixture(3));
    }
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture(3), folder.path());
    let store = Store::open(&Place::new(folder.path().join("store"))).unwrap();
    assert!(store.check().unwrap().passed(), "{:?}", store.check().unwrap().findings);
    let (epoch, stages, slices, _) = contents(&store);
    assert_eq!((epoch, slices.concat().len() as u64), (1, RECORDS - 1));
    for (key, tensors) in &stages {
        assert_eq!(tensors, &crate::common::tensors(key));
    }
    assert!(!stages.is_empty());
    assert!(store.receipt("request 3", None).unwrap().verify(&store.verifying_key()).unwrap().erased.is_some());
    // It goes on as a store of today.
    store.accept(&DeletionRequest { records: vec![record(5).id], ..DeletionRequest::default() }).unwrap();
    store.erase().unwrap();
    train(&store, usize::MAX).unwrap();
    store.publish().unwrap();
    assert!(store.check().unwrap().passed());
}
