//! `s3t train` of the quickstart's size with workers elsewhere, and the bits that it must give.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use s3t::core::digest::DigestBuilder;
use s3t::prelude::*;
use s3t::store::{DeletionRequest, Place, Store, StoreError};

use crate::workspace::Workspace;

/// A workspace of which training takes some seconds, with this table `[executor]`.
pub fn workspace(executor: Option<&str>) -> Workspace {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "epochs = 2", "epochs = 100");
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    if let Some(executor) = executor {
        workspace.edit("pipeline.toml", "[run]", &format!("{executor}[run]"));
    }
    workspace
}

/// Leases that last longer than a worker is held ([`Training::hold_one`]). A training that has lost a worker ends with its lease.
pub fn with_long_leases(workspace: Workspace) -> Workspace {
    workspace.edit("pipeline.toml", "lease_seconds = 5", "lease_seconds = 20");
    workspace
}

fn store(workspace: &Workspace) -> Result<Store, StoreError> {
    Store::open_read_only(&Place::new(workspace.path("store")))
}

pub fn stages(workspace: &Workspace) -> usize {
    store(workspace).map_or(0, |store| store.snapshot().unwrap().stages().len())
}

/// A digest over the keys and the bits of all stages.
pub fn digest(workspace: &Workspace) -> String {
    let store = store(workspace).unwrap();
    let mut digest = DigestBuilder::new("stages");
    for key in store.snapshot().unwrap().stages() {
        digest.bytes(key.to_string().as_bytes());
        for (name, tensor) in store.stage(key).unwrap().1.named() {
            let bits: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            digest.bytes(name.as_bytes()).bytes(&bits);
        }
    }
    digest.finish().to_string()
}

/// The digest of the same store, trained in one process.
pub fn in_process() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let workspace = workspace(None);
        workspace.json(&["train", "pipeline.toml"]);
        digest(&workspace)
    })
}

/// `s3t train`, with what it says in a file.
pub struct Training<'a> {
    workspace: &'a Workspace,
    child: RefCell<Child>,
}

impl<'a> Training<'a> {
    pub fn start(workspace: &'a Workspace, variables: &[(&str, &OsStr)]) -> Self {
        let said = fs::File::create(workspace.path("said")).unwrap();
        let mut command = workspace.command();
        command.args(["train", "pipeline.toml"]).envs(variables.iter().copied());
        Self { workspace, child: RefCell::new(command.stdout(Stdio::null()).stderr(said).spawn().unwrap()) }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.workspace.path("said")).unwrap()
    }

    pub fn wait_for(&self, words: &str) {
        self.wait_until(&format!("nobody said {words:?}"), || self.said().contains(words));
    }

    pub fn wait_for_stages(&self, count: usize) {
        self.wait_until("nothing is trained", || stages(self.workspace) >= count);
    }

    /// The task of the worker that has joined as this one, from 1. Others may be on their way still, and have no stage to lose.
    pub fn joined(&self, number: usize) -> String {
        self.wait_until("too few workers have joined", || self.said().matches("has joined").count() >= number);
        let said = self.said();
        let line = said.lines().filter(|line| line.ends_with("has joined")).nth(number - 1).unwrap();
        line.split(" worker ").nth(1).unwrap().split(" on ").next().unwrap().to_owned()
    }

    /// The process of the worker that has joined as this one, among these.
    pub fn joined_process(&self, number: usize, workers: &dyn Fn() -> Vec<i32>) -> i32 {
        let task = format!("\0--task\0{}\0", self.joined(number));
        let workers = workers();
        let is_it =
            |pid: &&i32| contains(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), task.as_bytes());
        *workers.iter().find(is_it).unwrap_or_else(|| panic!("no process of {task:?} among {workers:?}"))
    }

    /// Stops the first worker that joins, and gives its process. It has a stage, so the training is in its middle until that process goes
    /// on, is lost, or its lease ends ([`with_long_leases`]).
    pub fn hold_one(&self, workers: &dyn Fn() -> Vec<i32>) -> i32 {
        let held = self.joined_process(1, workers);
        send(held, Signal::STOP);
        held
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            let ended = self.child.borrow_mut().try_wait().unwrap();
            assert!(ended.is_none() || is_so(), "{what} before the training ended ({ended:?}): {}", self.said());
            assert!(Instant::now() < until, "{what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Interrupts it, as Ctrl-C does, and waits for the end.
    pub fn interrupt(self) -> String {
        send(i32::try_from(self.child.borrow().id()).unwrap(), Signal::INT);
        self.end(130)
    }

    /// Waits for the end, and gives what was said.
    pub fn end(self, code: i32) -> String {
        let status = self.child.borrow_mut().wait().unwrap();
        let said = self.said();
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }
}

impl Drop for Training<'_> {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A record of the workspace that has a subject.
pub struct Subject {
    pub id: String,
    pub name: String,
    /// Its numbers as they travel, the first four of them.
    pub numbers: Vec<u8>,
}

impl Subject {
    pub fn of(workspace: &Workspace) -> Self {
        let text = fs::read_to_string(workspace.path("train.jsonl")).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let line = lines.find(|line| line["subject"].is_string()).unwrap();
        let word = |field: &str| line[field].as_str().unwrap().to_owned();
        let numbers = line["x"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
        Self { id: word("id"), name: word("subject"), numbers: numbers.take(4).flat_map(f32::to_le_bytes).collect() }
    }

    /// Files below a folder that hold something of the record.
    pub fn traces(&self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for bytes in [self.id.as_bytes(), self.name.as_bytes(), &self.numbers] {
            files_with(folder, bytes, &mut found);
        }
        found
    }
}

/// A deletion by another process while a worker hangs: it is called erased when the lease of that worker has ended, and the worker ends
/// when it is awake.
pub fn delete_while_a_worker_hangs(
    training: Training<'_>,
    workspace: &Workspace,
    workers: &dyn Fn() -> Vec<i32>,
    subject: &Subject,
) {
    training.wait_for_stages(1);
    // A worker that hangs says nothing, and keeps what it has in memory.
    let hanging = training.hold_one(workers);
    let open = Store::open(&Place::new(workspace.path("store"))).unwrap();
    let subjects = vec![SubjectId::new(&subject.name).unwrap()];
    open.accept(&DeletionRequest { subjects, ..DeletionRequest::default() }).unwrap();
    let kept: Vec<_> = open.snapshot().unwrap().stages().iter().copied().collect();
    let error = open.erase().unwrap_err();
    assert!(matches!(error, StoreError::Elsewhere { .. }), "{error}");
    assert!(!open.snapshot().unwrap().unerased().is_empty(), "called erased while a worker may remember the record");
    wait_until("the erasure is never finished", || open.erase().is_ok());
    // Its lease has ended: awake again, it ends, and its late result is read by nobody.
    send(hanging, Signal::CONT);
    wait_until("the worker goes on after its lease", || !workers().contains(&hanging));
    training.end(0);
    assert!(kept.iter().all(|key| open.snapshot().unwrap().has_stage(key)));
}

/// Trains again in this process what a store has, and compares bits.
pub fn verify_here(workspace: &Workspace, executor: &str) {
    workspace.edit("pipeline.toml", executor, "");
    workspace.json(&["verify", "pipeline.toml", "--scope", "all"]);
}

/// Every file below a folder that has these bytes.
pub fn files_with(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let path = entry.path();
        if kind.is_dir() {
            files_with(&path, bytes, found);
        } else if kind.is_file() && fs::read(&path).is_ok_and(|content| contains(&content, bytes)) {
            found.push(path.display().to_string());
        }
    }
}

pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

/// The processes of workers whose command line or environment has these words.
pub fn workers_with(words: &str) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let is_worker = line.split(|byte| *byte == 0).nth(1) == Some(b"worker");
        is_worker && (contains(&line, words.as_bytes()) || contains(&environment, words.as_bytes()))
    };
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    names.filter(is_ours).collect()
}

pub fn send(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The time after which whatever is waited for does not come any more.
const PATIENCE: Duration = Duration::from_secs(240);

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A place for one of the engines that run at a time in a test binary: the machine of a test has few cores, and engines mostly wait.
pub struct Slot {
    /// Its number, from 0.
    pub number: u32,
    _guard: MutexGuard<'static, ()>,
}

impl Slot {
    /// Waits until one of these is free.
    pub fn take(slots: &'static [Mutex<()>]) -> Self {
        loop {
            for (number, slot) in (0..).zip(slots) {
                match slot.try_lock() {
                    Ok(guard) => return Self { number, _guard: guard },
                    Err(TryLockError::Poisoned(poisoned)) => return Self { number, _guard: poisoned.into_inner() },
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Says past the capture of the test harness that a test did not run.
pub fn skipped(words: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: {}", words.trim());
}

/// Runs a script of `xtask`, which may leave processes behind; its exit code and what it said.
pub fn script(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let script = crate::workspace::repository().join("xtask").join(name);
    // The daemons keep what they inherit open.
    let errors = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new(script)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors.reopen().unwrap())
        .status()
        .unwrap();
    (status.code(), fs::read_to_string(errors.path()).unwrap())
}
