//! The crash law: whatever the store was doing when it stopped, and wherever, after opening it again no acknowledged deletion is
//! lost, none is half done, no dead stage is there, nothing is left over, and what is there is what a store that never
//! stopped holds.

#[allow(dead_code, reason = "this program uses a part of it")]
#[path = "../all/common/mod.rs"]
mod common;
mod disk;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::{RECORDS, contents, create, record, train};
use disk::StoppingDisk;
use proptest::prelude::*;
use s3t_core::SubjectId;
use s3t_store::{DeletionRequest, Place, Store, StoreError};

/// One thing to do.
#[derive(Debug, Clone)]
enum Step {
    /// Build the missing stages, up to so many.
    Train(usize),
    /// Delete a record.
    Record(u64),
    /// Delete a subject and a record in one request.
    Batch(u64, u64),
    /// Close and open.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<(i64, bool)>)>> {
    let step = prop_oneof![
        4 => (1usize..12).prop_map(Step::Train),
        3 => (0..RECORDS).prop_map(Step::Record),
        2 => (0..5u64, 0..RECORDS).prop_map(|(subject, record)| Step::Batch(subject, record)),
        1 => Just(Step::Reopen),
    ];
    // Where it stops: among the first steps of the disk, or not at all.
    let stop = proptest::option::weighted(0.7, (0i64..60, any::<bool>()));
    proptest::collection::vec((step, stop), 1..10)
}

fn place(folder: &Path, disk: Option<Arc<StoppingDisk>>) -> Place {
    let place = Place::new(folder.join("store"));
    match disk {
        Some(disk) => Place { disk, ..place },
        None => place,
    }
}

/// A store that never stops.
struct Twin {
    store: Store,
    folder: tempfile::TempDir,
    left: BTreeSet<u64>,
}

impl Twin {
    fn request(step: &Step, number: usize) -> Option<DeletionRequest> {
        let (records, subjects) = match step {
            Step::Record(record) => (vec![*record], vec![]),
            Step::Batch(subject, record) => (vec![*record], vec![*subject]),
            Step::Train(_) | Step::Reopen => return None,
        };
        let id = Some(format!("request {number}"));
        let subject = |subject: u64| SubjectId::new(format!("subject-{subject}")).unwrap();
        let (records, subjects) =
            (records.into_iter().map(|of| record(of).id).collect(), subjects.into_iter().map(subject).collect());
        Some(DeletionRequest { id, records, subjects })
    }

    /// `true` if all that a request names is there.
    fn knows(&self, request: &DeletionRequest) -> bool {
        let of_subject = |subject: &SubjectId| self.left.iter().any(|of| record(*of).subject.as_ref() == Some(subject));
        request.records.iter().all(|id| self.left.iter().any(|of| record(*of).id == *id))
            && request.subjects.iter().all(of_subject)
    }

    fn delete(&mut self, request: &DeletionRequest) {
        self.store.accept(request).unwrap();
        self.store.erase().unwrap();
        self.left.retain(|of| {
            let record = record(*of);
            !request.records.contains(&record.id)
                && !record.subject.is_some_and(|subject| request.subjects.contains(&subject))
        });
    }
}

fn fulfil(store: &Store, request: &DeletionRequest) -> Result<(), StoreError> {
    store.accept(request)?;
    store.erase()?;
    store.publish()
}

/// Runs the steps with their stops, and compares with the twin after each.
fn check_law(steps: &[(Step, Option<(i64, bool)>)]) -> Result<(), TestCaseError> {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut store = create(&place(folders[0].path(), None)).unwrap();
    let [folder, twin_folder] = folders;
    let mut twin = Twin {
        store: create(&place(twin_folder.path(), None)).unwrap(),
        folder: twin_folder,
        left: (0..RECORDS).collect(),
    };
    for (number, (step, stop)) in steps.iter().enumerate() {
        let request = Twin::request(step, number);
        let known = request.as_ref().is_none_or(|request| twin.knows(request));
        let disk = stop.map(|(steps, last)| Arc::new(StoppingDisk::after(steps, last)));
        drop(store);
        // Opening may stop too; then the step is not done.
        let opened = Store::open(&place(folder.path(), disk.clone()));
        let result = opened.and_then(|store| match (step, &request) {
            (Step::Train(most), _) => train(&store, *most),
            (_, Some(request)) => fulfil(&store, request),
            _ => Ok(()),
        });
        // The machine starts again, and may stop while it does.
        if let Some((steps, last)) = stop {
            let again = Arc::new(StoppingDisk::after(steps / 2, !last));
            drop(Store::open(&place(folder.path(), Some(again))));
        }
        store = Store::open(&place(folder.path(), None)).unwrap();

        match (&result, &request) {
            (Ok(()), Some(_)) => prop_assert!(known, "a request for what is not there was accepted"),
            (Err(StoreError::UnknownRecord(_) | StoreError::UnknownSubject(_)), Some(_)) => prop_assert!(!known),
            (Err(_), _) => prop_assert!(disk.is_some_and(|disk| disk.stopped()), "{:?}", result),
            _ => {}
        }
        if let Some(request) = &request {
            let done = store.knows_request(request.id.as_deref().unwrap()).unwrap();
            prop_assert!(done || result.is_err(), "an acknowledged deletion is lost");
            if done {
                twin.delete(request);
                // Asking again does nothing.
                prop_assert!(store.accept(request).unwrap().repeated);
            }
        }
        let (epoch, stages, slices, subjects) = contents(&store);
        let (twin_epoch, _, twin_slices, twin_subjects) = contents(&twin.store);
        prop_assert_eq!((epoch, slices, subjects), (twin_epoch, twin_slices, twin_subjects));
        // No dead stage is there, and the live ones have the bits of an undisturbed training.
        train(&twin.store, usize::MAX).unwrap();
        let all = contents(&twin.store).1;
        for (key, found) in &stages {
            prop_assert_eq!(Some(found), all.get(key));
        }
        let check = store.check().unwrap();
        prop_assert!(check.passed(), "{:?}", check.findings);
        prop_assert!(!store.snapshot().unwrap().is_erasing());
    }
    // After a repair nothing tells the two apart.
    train(&store, usize::MAX).unwrap();
    train(&twin.store, usize::MAX).unwrap();
    prop_assert_eq!(contents(&store), contents(&twin.store));
    drop(twin.folder);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_stops_wherever_nothing_acknowledged_is_lost_and_nothing_is_half_done(steps in steps()) {
        check_law(&steps)?;
    }
}

/// More with `S3T_SOAK=N`.
fn cases() -> u32 {
    std::env::var("S3T_SOAK").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

#[test]
fn a_deletion_is_whole_after_a_stop_at_each_of_its_steps() {
    let batch = Step::Batch(1, 3);
    let mut points = 0;
    for last in [false, true] {
        for point in 0.. {
            let disk = Arc::new(StoppingDisk::after(point, last));
            let folder = tempfile::tempdir().unwrap();
            drop(create(&place(folder.path(), None)).unwrap());
            let store = Store::open(&place(folder.path(), Some(Arc::clone(&disk)))).unwrap();
            let request = Twin::request(&batch, 0).unwrap();
            let result = fulfil(&store, &request);
            if !disk.stopped() {
                result.unwrap();
                break;
            }
            drop(store);
            let store = Store::open(&place(folder.path(), None)).unwrap();
            assert!(store.check().unwrap().passed(), "stopped at step {point}: {:?}", store.check().unwrap().findings);
            points += 1;
        }
    }
    assert!(points > 40, "only {points} steps were stopped at");
}

#[test]
fn making_a_store_leaves_all_or_nothing_after_a_stop_at_each_of_its_steps() {
    let mut points = 0;
    for last in [false, true] {
        for point in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let disk = Arc::new(StoppingDisk::after(point, last));
            let made = create(&place(folder.path(), Some(Arc::clone(&disk))));
            if !disk.stopped() {
                made.unwrap();
                break;
            }
            points += 1;
            let place = place(folder.path(), None);
            let store = match Store::open(&place) {
                Ok(store) => store,
                Err(StoreError::NotAStore(_)) => create(&place).unwrap(),
                Err(error) => panic!("stopped at step {point}: {error}"),
            };
            assert!(store.check().unwrap().passed());
            let names: Vec<_> =
                std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "only the store and its keys are left: {names:?}");
        }
    }
    assert!(points > 40, "only {points} steps were stopped at");
}

#[test]
fn a_sound_store_is_sound_after_a_mend_that_stops_at_each_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let store = create(&place(folder.path(), None)).unwrap();
    train(&store, usize::MAX).unwrap();
    fulfil(&store, &Twin::request(&Step::Batch(1, 3), 0).unwrap()).unwrap();
    drop(store);
    let mut points = 0;
    for last in [false, true] {
        for point in 0.. {
            let disk = Arc::new(StoppingDisk::after(point, last));
            let result = Store::mend(&place(folder.path(), Some(Arc::clone(&disk))));
            if !disk.stopped() {
                assert!(result.unwrap().passed());
                break;
            }
            // Nobody has opened it to change it since, as when an audit is next.
            let check = Store::open_read_only(&place(folder.path(), None)).unwrap().check().unwrap();
            assert!(check.passed(), "stopped at step {point}: {:?}", check.findings);
            points += 1;
        }
    }
    assert!(points > 4, "only {points} steps were stopped at");
}
