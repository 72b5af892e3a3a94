//! Jobs and results of which large parts travel as objects: what is left, what is refused, and what is gone after a word to forget.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Counting, STEPS, digest, job, settings, trained};
use s3t_core::{Digest, Payload, Record};
use s3t_executor::{
    ExecutorError, LAUNCH_OBJECT, Link, ObjectFolder, Relay, Silent, StageJob, Trainer, work_with_objects,
};

/// A folder in memory that can be away.
#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    puts: Mutex<Vec<String>>,
    is_away: AtomicBool,
}

impl Memory {
    fn there(&self) -> Result<(), ExecutorError> {
        let problem = "does not answer".to_owned();
        let is_away = self.is_away.load(Ordering::SeqCst);
        if is_away { Err(ExecutorError::Storage { place: self.place(), problem }) } else { Ok(()) }
    }

    fn names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.objects.lock().unwrap().keys().cloned().collect();
        names.remove(LAUNCH_OBJECT);
        names
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        self.objects.lock().unwrap().values().any(|object| object.windows(bytes.len()).any(|window| window == bytes))
    }
}

impl ObjectFolder for Memory {
    fn place(&self) -> String {
        "memory:".into()
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError> {
        self.there()?;
        self.puts.lock().unwrap().push(name.into());
        self.objects.lock().unwrap().insert(name.into(), bytes);
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError> {
        self.there()?;
        let missing = || ExecutorError::NoObject { place: self.place(), name: name.into() };
        self.objects.lock().unwrap().get(name).cloned().ok_or_else(missing)
    }

    fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
        self.there()?;
        self.objects.lock().unwrap().retain(|name, _| !names.contains(name));
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, ExecutorError> {
        self.there()?;
        Ok(self.objects.lock().unwrap().keys().cloned().collect())
    }
}

/// Random enough for a test: no two calls give the same.
#[allow(clippy::unnecessary_wraps, reason = "as a relay calls it")]
fn count(bytes: &mut [u8]) -> Result<(), ExecutorError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    bytes[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::SeqCst).to_le_bytes());
    Ok(())
}

fn relay(folder: &Arc<Memory>, min: u64) -> Relay {
    folder.put(LAUNCH_OBJECT, Vec::new()).unwrap();
    folder.puts.lock().unwrap().clear();
    Relay::new(Arc::clone(folder) as _, "launch".into(), min, count)
}

fn worker(folder: &Arc<impl ObjectFolder + 'static>) -> Link {
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    let objects = Some(Arc::clone(folder) as Arc<dyn ObjectFolder>);
    let load = |_: &_| Ok(Arc::new(Counting::default()) as Arc<dyn Trainer>);
    std::thread::spawn(move || work_with_objects(worker_in, worker_out, None, objects, load, |_| {}));
    Link::open("worker 1", owner_in, owner_out, &settings(), Duration::from_secs(60)).unwrap()
}

/// A job of two slices of two records each, in the order in which a slice has them.
fn two_slices() -> StageJob {
    let mut job = job(&["one", "two"]);
    job.records[..2].sort_by_key(|record| record.digest);
    job.records[2..].sort_by_key(|record| record.digest);
    // The end of the first slice has a higher digest than the beginning of the second, or they are told apart as one.
    if job.records[1].digest < job.records[2].digest {
        job.records.rotate_left(2);
    }
    job
}

const SECRET: &[u8] = b"a text that nobody else may read";

#[test]
fn everything_large_is_left_once_for_all_workers_and_nothing_can_be_read_there() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    let first = two_slices();
    let parent = StageJob {
        lineage: first.lineage.parent().unwrap(),
        records: first.records[..2].to_vec(),
        ancestors: BTreeMap::default(),
    };
    for (number, mut link) in [worker(&folder), worker(&folder)].into_iter().enumerate() {
        assert_eq!(link.train_by(&parent, &Silent, Some(&relay)).unwrap(), trained(&parent, STEPS));
        assert_eq!(link.train_by(&first, &Silent, Some(&relay)).unwrap(), trained(&first, STEPS));
        // Two slices and the adapters before, and each worker's results.
        assert_eq!(folder.puts.lock().unwrap().len(), 3 + 2 * (number + 1));
    }
    assert!(!folder.holds(SECRET) && !folder.holds(b"somebody") && !folder.holds(b"record-"));
    relay.purge().unwrap();
    // Equal results of two workers are kept once.
    assert_eq!(folder.names().len(), 5);
    relay.forget(None);
    relay.purge().unwrap();
    assert!(folder.names().is_empty());
}

#[test]
fn small_parts_go_over_the_link() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 1 << 20);
    let job = two_slices();
    assert_eq!(worker(&folder).train_by(&job, &Silent, Some(&relay)).unwrap(), trained(&job, STEPS));
    assert!(folder.puts.lock().unwrap().is_empty());
}

#[test]
fn a_record_that_is_forgotten_takes_every_object_along_that_depends_on_it_and_no_other() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    let job = two_slices();
    let mut link = worker(&folder);
    link.train_by(&job, &Silent, Some(&relay)).unwrap();
    assert_eq!(folder.names().len(), 4);
    let before = folder.names();
    relay.forget(Some(&[digest("somebody else's")]));
    relay.purge().unwrap();
    assert_eq!(folder.names(), before);
    relay.forget(Some(&[job.records[2].digest]));
    assert!(relay.unforgotten().is_none(), "the storage is there");
    // The other slice stays; the adapters may have been trained on the record.
    assert_eq!(folder.names().len(), 1);
    assert!(folder.names().is_subset(&before));
    // They are left again under other names and keys for a job that needs them.
    assert!(link.handle().forget(None, Duration::from_secs(60)));
    assert_eq!(link.train_by(&job, &Silent, Some(&relay)).unwrap(), trained(&job, STEPS));
    assert_eq!(folder.names().intersection(&before).count(), 1);
}

#[test]
fn what_a_lost_worker_left_is_removed_and_a_storage_that_is_away_keeps_the_word_back() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    worker(&folder).train_by(&two_slices(), &Silent, Some(&relay)).unwrap();
    folder.put("left by a worker that was lost", SECRET.to_vec()).unwrap();
    relay.forget(None);
    folder.is_away.store(true, Ordering::SeqCst);
    let error = relay.purge().unwrap_err().to_string();
    assert_eq!(error, "object storage memory: does not answer");
    let left = relay.unforgotten().unwrap();
    assert!(left.ends_with("nothing is called erased before its objects are removed"), "{left}");
    assert_eq!(relay.news(), [left]);
    folder.is_away.store(false, Ordering::SeqCst);
    while relay.unforgotten().is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(folder.names().is_empty());
}

#[test]
fn an_owner_whose_storage_is_away_sends_everything_over_the_link() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    let mut link = worker(&folder);
    folder.is_away.store(true, Ordering::SeqCst);
    let job = two_slices();
    assert_eq!(link.train_by(&job, &Silent, Some(&relay)).unwrap(), trained(&job, STEPS));
    assert!(relay.is_resting());
    assert!(relay.news()[0].contains("does not answer; records and stages go over the links"));
}

/// A change of an object, by its name.
type Change = fn(&Memory, &str) -> Option<Vec<u8>>;

/// The folder as a worker sees it whose objects somebody has changed.
struct Spoilt {
    folder: Arc<Memory>,
    how: Mutex<Change>,
    is_gone_for_puts: AtomicBool,
}

impl ObjectFolder for Spoilt {
    fn place(&self) -> String {
        "memory:".into()
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError> {
        if self.is_gone_for_puts.load(Ordering::SeqCst) {
            return Err(ExecutorError::Storage { place: self.place(), problem: "is full".into() });
        }
        self.folder.put(name, bytes)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError> {
        if name == LAUNCH_OBJECT {
            return self.folder.get(name);
        }
        let missing = || ExecutorError::NoObject { place: self.place(), name: name.into() };
        let how = *self.how.lock().unwrap();
        how(&self.folder, name).ok_or_else(missing)
    }

    fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
        self.folder.delete(names)
    }

    fn list(&self) -> Result<Vec<String>, ExecutorError> {
        self.folder.list()
    }
}

#[test]
fn a_missing_a_damaged_and_a_foreign_object_are_named_and_the_job_is_trained_over_the_link() {
    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    let honest = |folder: &Memory, name: &str| folder.get(name).ok();
    let how = Mutex::new(honest as Change);
    let spoilt = Arc::new(Spoilt { folder: Arc::clone(&folder), how, is_gone_for_puts: AtomicBool::new(false) });
    let mut link = worker(&spoilt);
    let job = two_slices();
    let ways: [(Change, &str); 4] = [
        (|_, _| None, "has no object `"),
        (
            |folder, name| {
                let mut bytes = folder.get(name).ok()?;
                bytes[3] ^= 1;
                Some(bytes)
            },
            "is not the one that was left there: its seal is broken; ",
        ),
        (|folder, name| folder.get(name).ok().map(|bytes| bytes[1..].to_vec()), " bytes, and "),
        (
            |folder, name| {
                let objects = folder.objects.lock().unwrap();
                let length = objects.get(name)?.len();
                // Another object of the launch; of the same length where there is one.
                let others = objects.iter().filter(|(other, _)| *other != name && *other != LAUNCH_OBJECT);
                others.min_by_key(|(_, bytes)| bytes.len().abs_diff(length)).map(|(_, bytes)| bytes.clone())
            },
            "is not the one that was left there: it",
        ),
    ];
    for (way, words) in ways {
        *spoilt.how.lock().unwrap() = way;
        let error = link.train_by(&job, &Silent, Some(&relay)).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, ExecutorError::Unfetched { .. }) && message.contains(words), "{message}");
        assert!(
            message.starts_with("worker 1 could not fetch its job: ") && message.contains("while stages are trained")
        );
        // The worker has none of the records, and is sent all of them.
        assert!(link.is_fit());
        assert_eq!(link.train(&job, &Silent).unwrap(), trained(&job, STEPS));
        assert!(link.handle().forget(None, Duration::from_secs(60)));
    }
    // A result that cannot be left comes over the link.
    *spoilt.how.lock().unwrap() = honest;
    spoilt.is_gone_for_puts.store(true, Ordering::SeqCst);
    assert_eq!(link.train_by(&job, &Silent, Some(&relay)).unwrap(), trained(&job, STEPS));
}

#[test]
fn a_worker_that_cannot_read_the_storage_is_not_taken_and_says_why() {
    let folder = Arc::<Memory>::default();
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    let objects = Some(Arc::clone(&folder) as Arc<dyn ObjectFolder>);
    let load = |_: &_| -> Result<Arc<dyn Trainer>, _> { panic!("nothing is loaded") };
    std::thread::spawn(move || work_with_objects(worker_in, worker_out, None, objects, load, |_| {}));
    let opened = Link::open("worker 1", owner_in, owner_out, &settings(), Duration::from_secs(60));
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("memory: has no object `launch`") && message.contains("own credentials"), "{message}");
}

#[test]
fn a_record_that_was_forgotten_while_its_object_was_fetched_is_not_kept() {
    /// Has the worker forget everything while the first object is fetched.
    struct Forgets(Arc<Memory>, Mutex<Option<s3t_executor::LinkHandle>>);

    impl ObjectFolder for Forgets {
        fn place(&self) -> String {
            self.0.place()
        }

        fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError> {
            self.0.put(name, bytes)
        }

        fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError> {
            if let Some(handle) = self.1.lock().unwrap().take() {
                assert!(handle.forget(None, Duration::from_secs(60)));
            }
            self.0.get(name)
        }

        fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
            self.0.delete(names)
        }

        fn list(&self) -> Result<Vec<String>, ExecutorError> {
            self.0.list()
        }
    }

    let folder = Arc::<Memory>::default();
    let relay = relay(&folder, 0);
    let forgets = Arc::new(Forgets(Arc::clone(&folder), Mutex::default()));
    let mut link = worker(&forgets);
    *forgets.1.lock().unwrap() = Some(link.handle());
    let mut job = two_slices();
    let long = Record { payload: Payload::Text("long ".repeat(20_000)), ..(*job.records[0].record).clone() };
    job.records[0].record = Arc::new(long);
    // Both sides agree that nothing is kept, so that every record is fetched again.
    link.train_by(&job, &Silent, Some(&relay)).unwrap();
    let digests: Vec<Digest> = job.records.iter().map(|record| record.digest).collect();
    assert_eq!(digests.len(), 4);
    assert_eq!(link.train_by(&job, &Silent, Some(&relay)).unwrap(), trained(&job, STEPS));
    assert_eq!(link.train(&job, &Silent).unwrap(), trained(&job, STEPS));
}
