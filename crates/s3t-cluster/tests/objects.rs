//! An owner and its workers with object storage between them, which here is a folder: what lies there, what is gone afterwards, and storage
//! that goes away.

#[path = "../../s3t-executor/tests/common/mod.rs"]
mod common;

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Counting, STEPS, job, settings, trained};
use s3t_cluster::s3t_executor::{ExecutorError, Session, Silent, Site, StageJob, StageProgress, work_with_objects};
use s3t_cluster::{Call, ClusterError, Launcher, ObjectStorage, Registration, Settings, Task, TaskState, join, start};
use tempfile::TempDir;

/// An engine that hands its call to the test.
#[derive(Debug)]
struct Engine(Mutex<mpsc::Sender<Call>>);

impl Launcher for Engine {
    fn engine(&self) -> &'static str {
        "test"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        let _ = self.0.lock().unwrap().send(call.clone());
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        Ok((0..9).map(|number| Task { name: number.to_string(), state: TaskState::Queued }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        Ok(())
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}

fn storage(folder: &Path) -> ObjectStorage {
    ObjectStorage { min_kilobytes: 0, ..ObjectStorage::new(format!("file://{}", folder.display())) }
}

fn begin(folder: &Path) -> Result<(Box<dyn Session>, Call), ExecutorError> {
    let (give, calls) = mpsc::channel();
    let trainer = Arc::new(Counting::default());
    let site = Site { store: "store".into(), worker: settings(), threads: NonZero::<usize>::MIN, trainer };
    let (listen, objects) = ("127.0.0.1:0".to_owned(), Some(storage(folder)));
    let settings =
        Settings { workers: 2, listen, host: None, restarts: 0, lease_seconds: 5.0, look_seconds: 0.1, objects };
    let session = start(&site, settings, Box::new(Engine(Mutex::new(give))))?;
    Ok((session, calls.recv().unwrap()))
}

fn worker(call: &Call) {
    let call = call.clone();
    std::thread::spawn(move || {
        let registration = Registration::of_this_process("1".into(), Some(1));
        let joined = join(&call.address, &call.invitation, &registration, Duration::from_secs(5)).unwrap();
        let load = |_: &_| Ok(Arc::new(Counting::default()) as _);
        let _ = work_with_objects(joined.reader, joined.writer, Some(joined.lease), joined.objects, load, |_| {});
    });
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// The objects of all launches, without their entries.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(folder, &mut found);
    found.retain(|path| path.file_name().unwrap() != "launch");
    found
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Notes what is said.
#[derive(Default)]
struct Listening(Mutex<Vec<String>>);

impl StageProgress for Listening {
    fn step(&self, _step: s3t_cluster::s3t_executor::Step) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Continue(())
    }

    fn worker_said(&self, _worker: &str, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

#[test]
fn stages_have_the_same_bits_and_nothing_is_left_at_the_end() {
    let folder = TempDir::new().unwrap();
    let (session, call) = begin(folder.path()).unwrap();
    for _ in 0..2 {
        worker(&call);
    }
    let stages: Vec<StageJob> = (0..8).map(|number| job(&["parent", &format!("slice {number}")])).collect();
    std::thread::scope(|scope| {
        for stage in &stages {
            let session = &session;
            scope.spawn(move || assert_eq!(session.train(stage, &Silent).unwrap(), trained(stage, STEPS)));
        }
    });
    let there = objects(folder.path());
    // The records and the adapters before are the same for all stages, and each has a result.
    assert!(there.len() > 8 && there.len() < 16, "{there:?}");
    for path in &there {
        let bytes = fs::read(path).unwrap();
        for secret in ["a text that nobody else", "record-", "somebody", "query"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path:?} has {secret}");
        }
    }
    session.forget(&[stages[0].records[0].digest]);
    assert_eq!(session.unforgotten(), None);
    assert!(objects(folder.path()).len() <= 3, "{:?}", objects(folder.path()));
    assert_eq!(session.train(&stages[0], &Silent).unwrap(), trained(&stages[0], STEPS));
    session.forget_all();
    assert_eq!(session.unforgotten(), None);
    assert_eq!(objects(folder.path()), [""; 0].map(PathBuf::from));
    drop(session);
    assert!(is_empty(folder.path()));
}

#[test]
fn storage_that_goes_away_costs_bandwidth_and_holds_the_word_back_until_it_is_there_again() {
    let parent = TempDir::new().unwrap();
    let (folder, away) = (parent.path().join("objects"), parent.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let (session, call) = begin(&folder).unwrap();
    worker(&call);
    let stages = [job(&["one"]), job(&["one", "two"])];
    session.train(&stages[0], &Silent).unwrap();
    assert!(!objects(&folder).is_empty());
    // A file stands where the folder was.
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    let listening = Listening::default();
    assert_eq!(session.train(&stages[1], &listening).unwrap(), trained(&stages[1], STEPS));
    session.train(&stages[1], &listening).unwrap();
    let said = listening.0.into_inner().unwrap().join("\n");
    assert!(said.contains("object storage file://"), "{said}");
    session.forget_all();
    let left = session.unforgotten().unwrap();
    assert!(left.contains("object storage file://") && left.contains("nothing is called erased"), "{left}");
    assert!(!objects(&away).is_empty());
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    while session.unforgotten().is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(objects(&folder), [""; 0].map(PathBuf::from));
    drop(session);
    assert!(is_empty(&folder));
}

#[test]
fn objects_of_a_launch_that_was_killed_are_removed_by_the_next_and_those_of_one_that_runs_are_not() {
    let folder = TempDir::new().unwrap();
    let (running, call) = begin(folder.path()).unwrap();
    worker(&call);
    running.train(&job(&["one"]), &Silent).unwrap();
    let there = objects(folder.path());
    let plant = |store: &str, launch: &str, entry: Option<&str>| {
        let path = folder.path().join(store).join(launch);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("0123"), "sealed").unwrap();
        // A put that was killed in the middle leaves a file of such a name.
        fs::write(path.join("4567#1"), "half").unwrap();
        entry.into_iter().for_each(|entry| fs::write(path.join("launch"), entry).unwrap());
        path
    };
    let here = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let ended = serde_json::json!({
        "boot": here("/proc/sys/kernel/random/boot_id"), "namespace": namespace, "number": 1, "started": "another",
    });
    let elsewhere = serde_json::json!({ "boot": "another machine", "namespace": "", "number": 1, "started": "1" });
    let gone = [plant("store", "killed", Some(&ended.to_string())), plant("store", "half-removed", None)];
    let kept = [plant("store", "elsewhere", Some(&elsewhere.to_string())), plant("another-store", "any", None)];
    let (next, _) = begin(folder.path()).unwrap();
    if cfg!(target_os = "linux") {
        assert!(gone.iter().all(|path| !path.exists()));
    }
    assert!(kept.iter().all(|path| path.join("0123").exists()));
    assert!(there.iter().all(|path| path.exists()), "the objects of a launch that runs are gone");
    drop((next, running));
}

#[test]
fn storage_that_cannot_be_used_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let message = begin(&folder.path().join("nowhere")).err().unwrap().to_string();
    assert!(message.contains("executor `test` cannot be started: object storage file://"), "{message}");
    assert!(message.contains("is not there; give a folder that is there"), "{message}");
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(begin(&folder.path().join("file")).is_err());
}
