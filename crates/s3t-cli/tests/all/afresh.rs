//! Starting afresh beside deletions: a deletion that was acknowledged is never lost without consent, and an interrupted removal is finished.
use std::process::Stdio;
use std::time::Duration;

use crate::workspace::Workspace;
use s3t::core::RecordId;
use s3t::engine::CheckedPipeline;
use s3t::ledger::Epoch;
use s3t::prelude::*;
use s3t::store::{DeletionRequest, Place, Store, StoreError};
use s3t_testkit::copy_folder;

fn pipeline_of(workspace: &Workspace) -> CheckedPipeline {
    Pipeline::read(&workspace.path("pipeline.toml")).unwrap()
}

/// A store without stages.
fn made() -> (Workspace, Place) {
    let workspace = Workspace::new();
    let pipeline = pipeline_of(&workspace);
    let place = pipeline.place();
    drop(System::open(pipeline).unwrap());
    (workspace, place)
}

fn deletion_of(record: &str) -> DeletionRequest {
    DeletionRequest { records: vec![RecordId::new(record).unwrap()], ..DeletionRequest::default() }
}

/// Whoever starts afresh looks for deletions and removes the store in two steps; one that is accepted between them counts.
#[test]
fn starting_afresh_without_consent_takes_no_deletion_that_was_acknowledged() {
    for moment in 0..40 {
        let (workspace, place) = made();
        let store = Store::open(&place).unwrap();
        let request = deletion_of("record-1");
        let (accepted, afresh) = std::thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(250 * moment));
                store.accept(&request)
            });
            let afresh = System::start_afresh(&pipeline_of(&workspace), false);
            (accepting.join().unwrap(), afresh)
        });
        match (accepted, afresh) {
            (Ok(_), Err(EngineError::Resurrection { .. })) => {
                assert_eq!(Store::open(&place).unwrap().snapshot().unwrap().epoch().0, 1);
            }
            (Err(StoreError::Removed(_)), Ok(Some(0))) => {
                assert!(!place.path.exists());
            }
            (accepted, afresh) => panic!("at moment {moment}: {accepted:?} and {afresh:?}"),
        }
    }
}

#[test]
fn a_store_that_another_has_changed_is_not_removed_and_a_removal_is_finished_without_consent() {
    let (workspace, place) = made();
    let store = Store::open(&place).unwrap();
    let request = deletion_of("record-1");
    store.accept(&request).unwrap();
    assert!(matches!(Store::remove(&place, Some(Epoch(0))), Err(StoreError::Changed(_))));
    assert_eq!(Store::open(&place).unwrap().snapshot().unwrap().epoch().0, 1);
    // A removal that stopped after the keys: the mark is there, and the folder keeps its name.
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&place.path, &kept.path().join("store")).unwrap();
    Store::remove(&place, None).unwrap();
    let Err(StoreError::Removed(_)) = store.accept(&request) else { panic!("accepted in a removed store") };
    assert!(!place.path.exists());
    copy_folder(&kept.path().join("store"), &place.path).unwrap();
    let catalogue = rusqlite::Connection::open(place.path.join("catalogue.db")).unwrap();
    catalogue.execute("INSERT INTO store (key, value) VALUES ('removed', x'01')", []).unwrap();
    drop(catalogue);
    assert!(matches!(Store::open(&place), Err(StoreError::Removed(_))));
    assert_eq!(System::start_afresh(&pipeline_of(&workspace), false).unwrap(), Some(0));
    assert!(!place.path.exists());
}

#[test]
fn commands_that_start_afresh_and_delete_at_once_leave_a_store_that_has_the_deletion_or_never_had() {
    for moment in 0..6 {
        let (workspace, place) = made();
        let mut afresh =
            workspace.command().args(["train", "pipeline.toml", "--fresh"]).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 * moment));
        let deleted = workspace.run(&["delete", "pipeline.toml", "--record", "record-1"]);
        afresh.wait().unwrap();
        let epoch = Store::open(&place).unwrap().snapshot().unwrap().epoch().0;
        let stands = deleted.code == 0 || deleted.stderr.contains("stands");
        assert_eq!(epoch, u64::from(stands), "{}{}", deleted.stdout, deleted.stderr);
    }
}
