//! A stage that a deletion hits while its file is written.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::WatchedDisk;
use s3t_core::SliceAddress;
use s3t_store::{DeletionRequest, Folder, Place, Store};

#[test]
fn a_deletion_does_not_wait_for_a_file_and_erased_is_said_when_the_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("store"));
    let store = crate::common::create(&place).unwrap();
    // Does something else before it writes the file of a stage.
    let hook = Arc::new(Mutex::new(None::<Box<dyn FnOnce() + Send>>));
    let before_stages = Arc::clone(&hook);
    let disk = WatchedDisk(move |folder: &Folder| {
        let is_of_stages = folder.path().ends_with("stages");
        let hook = is_of_stages.then(|| before_stages.lock().unwrap().take()).flatten();
        hook.into_iter().for_each(|hook| hook());
        Ok(())
    });
    let slow = Store::open(&Place { disk: Arc::new(disk), ..place.clone() }).unwrap();
    let snapshot = store.snapshot().unwrap();
    let key = *snapshot.missing().first().unwrap();
    let lineage = snapshot.plan().lineage(&key).unwrap();
    let stage = snapshot.plan().stage(&key).unwrap();
    let address = SliceAddress { shard: stage.shard, slice: stage.slices[0] };
    let record = store.records(address).unwrap()[0].1.id.clone();

    let (erased, is_erased) = mpsc::channel();
    let waiting = Arc::new(Mutex::new(None));
    let erasing = Arc::clone(&waiting);
    let at = place.clone();
    *hook.lock().unwrap() = Some(Box::new(move || {
        // The deletion is in effect while the file is being written.
        let other = Store::open_to_accept(&at).unwrap();
        let accepted = other.accept(&DeletionRequest { records: vec![record], ..DeletionRequest::default() }).unwrap();
        assert_eq!(accepted.effect.records, 1);
        let erases = std::thread::spawn(move || {
            other.erase().unwrap();
            // Nobody listens any more if all is well.
            let _ = erased.send(());
        });
        // Nothing is called erased while the file may still come.
        assert_eq!(is_erased.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
        assert!(!Store::open_read_only(&at).unwrap().pending().unwrap().is_empty());
        *erasing.lock().unwrap() = Some(erases);
    }));
    assert!(!slow.add_stage(&lineage, &crate::common::tensors(&key)).unwrap(), "nobody wants the stage any more");
    let erases = waiting.lock().unwrap().take().expect("a file was written");
    erases.join().unwrap();
    assert!(store.pending().unwrap().is_empty() && !store.snapshot().unwrap().has_stage(&key));
    let left: Vec<_> =
        std::fs::read_dir(place.path.join("stages")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    store.publish().unwrap();
    assert!(store.check().unwrap().passed());
}
