//! Repair without end: due after a deletion, ended by its observer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use s3t_core::{RecordId, StoreSecret};
use s3t_engine::{Observer, Quiet, RepairObserver, RepairPolicy, RepairReport, System};
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};

/// Stops the watch after the first repair.
#[derive(Default)]
struct UntilRepaired {
    looks: AtomicUsize,
    repairs: AtomicUsize,
    stopped: AtomicBool,
}

impl RepairObserver for UntilRepaired {
    fn progress(&self) -> &dyn Observer {
        &Quiet
    }

    fn repaired(&self, report: &RepairReport, _took: Duration) {
        assert!(report.build.as_ref().is_some_and(|build| build.trained > 0), "{report:?}");
        self.repairs.fetch_add(1, Ordering::SeqCst);
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.stopped.load(Ordering::SeqCst)
    }
}

#[test]
fn a_watch_repairs_after_a_deletion_and_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let pipeline = tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    let records = toy_records(40, 10, 1);
    let system = System::create(pipeline, &records, Some(StoreSecret::from_bytes([5; 32]))).unwrap();
    system.train(&Quiet).unwrap();

    // Nothing is due, and the watch is stopped before it begins: it looks once and ends.
    let stopped = UntilRepaired { stopped: AtomicBool::new(true), ..UntilRepaired::default() };
    system.watch(&RepairPolicy::default(), &stopped).unwrap();
    assert_eq!((stopped.looks.into_inner(), stopped.repairs.into_inner()), (1, 0));

    // A deletion beside a watch makes a repair due.
    let watched = UntilRepaired::default();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| system.watch(&RepairPolicy::default(), &watched));
        while watched.looks.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        system.delete(&[RecordId::new("record-0").unwrap()], &[]).unwrap();
        watch.join().unwrap().unwrap();
    });
    assert_eq!(watched.repairs.into_inner(), 1);
    assert!(system.snapshot().unwrap().missing().is_empty());
}
