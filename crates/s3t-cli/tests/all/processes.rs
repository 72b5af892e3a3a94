//! The many-processes law: whatever 2 to 6 processes do to one store at a time, killed, stopped and continued at random, beside a reader
//! that holds an old state: no acknowledged deletion is lost, no record is lost that was not deleted, nothing is called erased whose
//! traces are on disk, no verdict is false, every wait ends and is told, and the store ends as its twin that one process made.
//!
//! 60 seconds, more with `S3T_SOAK=SECONDS`. The seed is the same every time; what the processes do beside each other is not.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use s3t::core::RecordId;
use s3t::core::digest::DigestBuilder;
use s3t::ledger::{Epoch, Event};
use s3t::store::{DeletionRequest, Place, Store};

/// The longest that a command may take, besides the time that it was stopped itself: some waits of 2 seconds, on a machine with
/// fewer cores than processes.
const BOUND: Duration = Duration::from_secs(40);

const RECORDS: u64 = 60;

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A mistake that the law must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Somebody removes what the catalogue does not name without holding the erasing lock.
    RemoverWithoutLock,
    /// A deletion is called erased as soon as its rows are gone, although the log still has them.
    ErasedBeforeTruncation,
}

struct Running {
    child: Child,
    arguments: Vec<String>,
    /// Request id and record of a deletion.
    deletion: Option<(String, String)>,
    started: Instant,
    stopped: Duration,
    /// When it is stopped, and when it goes on.
    stop: Option<(Instant, Instant)>,
    is_stopped: bool,
    kill: Option<Instant>,
}

#[derive(Debug, Default)]
struct Seen {
    commands: u64,
    kills: u64,
    stops: u64,
    readers: u64,
    waits_told: u64,
    deletions: u64,
}

struct World {
    workspace: Workspace,
    numbers: Numbers,
    asked: u64,
    running: Vec<Running>,
    /// Requests that may have been accepted, with their records.
    requests: BTreeMap<String, String>,
    acknowledged: BTreeSet<String>,
    reader: Option<(Connection, Instant)>,
    plant: Option<Plant>,
    seen: Seen,
}

impl Drop for World {
    /// Nobody is left stopped behind a law that was broken.
    fn drop(&mut self) {
        for process in &mut self.running {
            drop(process.child.kill());
            drop(process.child.wait());
        }
    }
}

impl World {
    fn new(seed: u64, plant: Option<Plant>) -> Self {
        let workspace = Workspace::new();
        workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
        workspace.json(&["train", "pipeline.toml"]);
        Self {
            workspace,
            numbers: Numbers(seed),
            asked: 0,
            running: Vec::new(),
            requests: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            reader: None,
            plant,
            seen: Seen::default(),
        }
    }

    fn place(&self) -> Place {
        Place::new(self.workspace.path("store"))
    }

    fn start(&mut self) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut deletion = None;
        // The records of the last sequences stay, so that something can be trained to the end.
        let record = format!("record-{}", self.numbers.below(RECORDS - 12));
        let arguments = match self.numbers.below(20) {
            0..=8 => {
                self.asked += 1;
                let request = format!("request-{}", self.asked);
                deletion = Some((request.clone(), record.clone()));
                self.requests.insert(request.clone(), record.clone());
                words(&["delete", "pipeline.toml", "--record", &record, "--request-id", &request])
            }
            9 => words(&["train", "pipeline.toml"]),
            10 | 11 => words(&["repair", "pipeline.toml"]),
            12 => words(&["repair", "pipeline.toml", "--watch"]),
            13 => words(&["store", "check", "pipeline.toml"]),
            14 | 15 => words(&["store", "check", "pipeline.toml", "--repair"]),
            16 => words(&["verify", "pipeline.toml"]),
            17 => words(&["audit", "pipeline.toml"]),
            18 => {
                self.asked += 1;
                words(&["export", "pipeline.toml", "--to", &format!("exports/{}", self.asked)])
            }
            _ => words(&["predict", "pipeline.toml"]),
        };
        let mut command = self.workspace.command();
        command.args(&arguments).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let now = Instant::now();
        let mut soon = |most: u64| now + Duration::from_millis(self.numbers.below(most));
        let (stop_at, kill_at) = (soon(150), soon(400));
        let resume_at = stop_at + soon(3000).duration_since(now);
        let watches = arguments.contains(&"--watch".to_owned());
        let kill = (watches || self.numbers.chance(25)).then_some(if watches { kill_at + BOUND / 40 } else { kill_at });
        let stop = self.numbers.chance(25).then_some((stop_at, resume_at));
        let (stopped, is_stopped) = (Duration::ZERO, false);
        self.seen.commands += 1;
        self.running.push(Running { child, arguments, deletion, started: now, stopped, stop, is_stopped, kill });
    }

    /// Sends the signals that are due, and looks at the processes that have ended.
    fn tick(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let mut ended = Vec::new();
        for (index, process) in self.running.iter_mut().enumerate() {
            // One that has just ended takes no signal.
            let send = |signal| kill_process(Pid::from_child(&process.child), signal).unwrap_or_default();
            if let Some((from, to)) = process.stop {
                if !process.is_stopped && now >= from {
                    send(Signal::STOP);
                    process.is_stopped = true;
                    self.seen.stops += 1;
                }
                if process.is_stopped && now >= to {
                    send(Signal::CONT);
                    process.stopped += now - from;
                    (process.stop, process.is_stopped) = (None, false);
                }
            }
            if process.kill.is_some_and(|at| now >= at) {
                send(Signal::KILL);
                process.kill = None;
                self.seen.kills += 1;
            }
            if process.child.try_wait().unwrap().is_some() {
                ended.push(index);
            } else if !process.is_stopped && now - process.started > BOUND + process.stopped {
                return Err(format!("{:?} does not end", process.arguments));
            }
        }
        for index in ended.into_iter().rev() {
            let process = self.running.swap_remove(index);
            self.ended(process)?;
        }
        Ok(())
    }

    fn ended(&mut self, process: Running) -> Result<(), String> {
        let output = process.child.wait_with_output().unwrap();
        let Some(code) = output.status.code() else { return Ok(()) };
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let allowed: &[i32] = match &*process.arguments[0] {
            // Deleted before, by another request.
            "delete" => &[0, 3, 6],
            // A deletion may hit what is being exported.
            "export" => &[0, 2, 6, 7],
            "predict" => &[0, 6, 7],
            // Never 5: nobody but the processes themselves has touched the store.
            _ => &[0, 6],
        };
        if !allowed.contains(&code) {
            return Err(format!("{:?} exits with {code}: {stdout}{stderr}", process.arguments));
        }
        if code == 6 {
            let told = format!("{stdout}{stderr}");
            if !told.contains("process") && !told.contains("try again") {
                return Err(format!("{:?} does not say for whom it waited: {told}", process.arguments));
            }
            self.seen.waits_told += 1;
        }
        if let Some((request, _)) = process.deletion
            && (code == 0 || stdout.contains("\"deletion\": {"))
        {
            self.acknowledged.insert(request);
        }
        Ok(())
    }

    /// Checks that a record which is called erased has left no trace of its id on disk.
    fn check_traces(&self) -> Result<(), String> {
        let Ok(store) = Store::open_read_only(&self.place()) else { return Ok(()) };
        let Ok(entries) = store.entries() else { return Ok(()) };
        let erased: BTreeSet<Epoch> = entries
            .iter()
            .filter_map(|entry| match entry.event {
                Event::Erased { epoch } => Some(epoch),
                _ => None,
            })
            .collect();
        let mut gone = Vec::new();
        for (request, record) in &self.requests {
            let Ok(receipt) = store.receipt(request, None) else { continue };
            let digest = DigestBuilder::keyed(store.secret(), "catalogue record").bytes(record.as_bytes()).finish();
            let id = digest.as_bytes()[..16].to_vec();
            let is_erased = match self.plant {
                Some(Plant::ErasedBeforeTruncation) => has_no_row(&self.workspace.path("store/catalogue.db"), &id),
                _ => erased.contains(&receipt.effect.epoch),
            };
            if is_erased {
                gone.push((record, id));
            }
        }
        drop(store);
        let files = ["catalogue.db", "catalogue.db-wal"]
            .map(|name| fs::read(self.workspace.path("store").join(name)).unwrap_or_default());
        for (record, id) in gone {
            if files.iter().any(|file| file.windows(id.len()).any(|at| at == id)) {
                return Err(format!("`{record}` is called erased, but the digest of its id is on disk"));
            }
        }
        Ok(())
    }

    fn hold_reader(&mut self) {
        let now = Instant::now();
        match &self.reader {
            Some((_, until)) if now >= *until => self.reader = None,
            None if self.numbers.chance(2) => {
                let database = self.workspace.path("store/catalogue.db");
                let Ok(connection) = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
                    return;
                };
                if connection.execute_batch("BEGIN; SELECT count(*) FROM records;").is_ok() {
                    self.seen.readers += 1;
                    self.reader = Some((connection, now + Duration::from_millis(self.numbers.below(3000))));
                }
            }
            _ => {}
        }
    }

    /// Everybody has ended: the store is sound, and what it holds is what its twin holds.
    fn finish(mut self) -> Result<Seen, String> {
        self.reader = None;
        for process in &mut self.running {
            kill_process(Pid::from_child(&process.child), Signal::CONT).unwrap_or_default();
            process.child.kill().unwrap();
        }
        for process in std::mem::take(&mut self.running) {
            self.ended(process)?;
        }
        let store = Store::open(&self.place()).map_err(|error| error.to_string())?;
        let check = store.check().map_err(|error| error.to_string())?;
        if !check.passed() || !check.waiting.is_empty() {
            return Err(format!("in the end: {:?} {:?}", check.findings, check.waiting));
        }
        let mut deleted = BTreeSet::new();
        for (request, record) in &self.requests {
            let known = store.knows_request(request).map_err(|error| error.to_string())?;
            if self.acknowledged.contains(request) && !known {
                return Err(format!("the acknowledged deletion {request} is lost"));
            }
            if known {
                deleted.insert(record.clone());
            }
        }
        let mut there = BTreeSet::new();
        for address in store.settings().shape.addresses() {
            let records = store.records(address).map_err(|error| error.to_string())?;
            there.extend(records.into_iter().map(|(_, record)| record.id.to_string()));
        }
        let expected: BTreeSet<String> =
            (0..RECORDS).map(|number| format!("record-{number}")).filter(|record| !deleted.contains(record)).collect();
        if there != expected {
            let lost: Vec<_> = expected.difference(&there).collect();
            let kept: Vec<_> = there.difference(&expected).collect();
            return Err(format!("records lost {lost:?}, records kept {kept:?}"));
        }
        let entries = store.entries().map_err(|error| error.to_string())?;
        if let Some(entry) = entries.iter().find(|entry| matches!(entry.event, Event::Verified { passed: false, .. })) {
            return Err(format!("a false verdict is in the ledger: {entry:?}"));
        }
        drop(store);
        self.check_traces()?;
        // The twin: the same deletions, one after the other, by one process at a time.
        let twin = Workspace::new();
        twin.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
        twin.json(&["train", "pipeline.toml"]);
        let mut arguments = vec!["delete", "pipeline.toml"];
        deleted.iter().for_each(|record| arguments.extend(["--record", record]));
        if !deleted.is_empty() {
            twin.json(&arguments);
        }
        let end = |workspace: &Workspace| -> Result<(String, String), String> {
            let repaired = workspace.run(&["repair", "pipeline.toml"]);
            if repaired.code != 0 {
                return Err(format!("the repair in the end: {}{}", repaired.stdout, repaired.stderr));
            }
            let store = Store::open(&Place::new(workspace.path("store"))).map_err(|error| error.to_string())?;
            let stages = format!("{:?}", store.snapshot().map_err(|error| error.to_string())?.stages());
            Ok((workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string(), stages))
        };
        if end(&self.workspace)? != end(&twin)? {
            return Err("the store is not what its twin is".into());
        }
        let audit = self.workspace.run(&["audit", "pipeline.toml"]);
        if audit.code != 0 {
            return Err(format!("the audit in the end: {}", audit.stdout));
        }
        self.seen.deletions = deleted.len() as u64;
        Ok(std::mem::take(&mut self.seen))
    }
}

/// The mistake of old: what the catalogue does not name is removed without the lock.
fn remove_without_lock(folder: &Path) {
    let database = folder.join("store/catalogue.db");
    let Ok(connection) = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return };
    let named = || -> rusqlite::Result<BTreeSet<String>> {
        let statement = "SELECT (number / 2) || '-' || (number % 2) || '.' || generation FROM slices";
        connection.prepare(statement)?.query_map([], |row| row.get(0))?.collect()
    };
    let Ok(named) = named() else { return };
    for (part, ending) in [("store/records", ".records"), ("store.keys/slices", ".key")] {
        for entry in fs::read_dir(folder.join(part)).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_suffix(ending).is_some_and(|name| !named.contains(name)) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

fn has_no_row(database: &Path, id: &[u8]) -> bool {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    connection.is_ok_and(|connection| {
        let mut query = connection.prepare("SELECT 1 FROM records WHERE id = ?").unwrap();
        query.exists([id]).is_ok_and(|there| !there)
    })
}

/// Runs the law for some time: what was seen, or what does not hold.
fn play(seed: u64, time: Duration, plant: Option<Plant>) -> Result<Seen, String> {
    let mut world = World::new(seed, plant);
    let over = AtomicBool::new(plant != Some(Plant::RemoverWithoutLock));
    let folder = world.workspace.path("");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                remove_without_lock(&folder);
            }
        });
        let held = run(&mut world, time);
        over.store(true, Ordering::Relaxed);
        held
    })?;
    world.finish()
}

/// Lets processes run beside each other for some time.
fn run(world: &mut World, time: Duration) -> Result<(), String> {
    let end = Instant::now() + time;
    let mut look = Instant::now();
    while Instant::now() < end {
        let wanted = 2 + (world.asked % 5) as usize;
        while world.running.len() < wanted {
            world.start();
        }
        world.tick()?;
        world.hold_reader();
        if Instant::now() >= look {
            world.check_traces()?;
            look = Instant::now() + Duration::from_millis(100);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

#[test]
fn whatever_many_processes_do_to_a_store_nothing_is_lost_and_nothing_false_is_said() {
    let seconds = std::env::var("S3T_SOAK").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let (mut left, mut rounds) = (seconds, 0);
    while left > 0 {
        // Worlds of half a minute, so that there is always something to delete.
        let of_round = left.min(30);
        let seen =
            play(100 + rounds, Duration::from_secs(of_round), None).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(seen.commands > 20 && seen.kills > 2 && seen.stops > 2 && seen.deletions > 2, "{seen:?}");
        (left, rounds) = (left - of_round, rounds + 1);
    }
}

#[test]
fn a_remover_without_the_lock_is_caught() {
    let problem = (0..5).find_map(|seed| play(seed, Duration::from_secs(20), Some(Plant::RemoverWithoutLock)).err());
    assert!(problem.is_some(), "a remover without the lock destroys records");
}

#[test]
fn a_word_that_is_given_before_the_log_is_cut_is_caught() {
    let problem =
        (0..5).find_map(|seed| play(seed, Duration::from_secs(20), Some(Plant::ErasedBeforeTruncation)).err());
    let problem = problem.expect("the digests of erased records are in the log");
    assert!(problem.contains("is called erased, but"), "{problem}");
}

#[test]
fn a_process_that_erases_and_stays_keeps_its_locks_of_the_catalogue() {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    workspace.json(&["train", "pipeline.toml"]);
    let store = Store::open(&Place::new(workspace.path("store"))).unwrap();
    let accept = |number: u64| {
        let records = vec![RecordId::new(format!("record-{number}")).unwrap()];
        store.accept(&DeletionRequest { records, ..DeletionRequest::default() }).unwrap().effect.epoch
    };
    // An erasure looks through the catalogue's pages, and looks who holds it. A file that is opened and closed beside SQLite takes the process's
    // locks with it: the next process to close the store would take itself for the last, and take the log of the others away.
    for round in 0..3 {
        accept(3 * round);
        store.erase().unwrap();
        workspace.json(&["delete", "pipeline.toml", "--record", &format!("record-{}", 3 * round + 1)]);
        assert_eq!(accept(3 * round + 2), Epoch(3 * round + 3));
        let status = workspace.json(&["status", "pipeline.toml"]);
        assert_eq!(status["status"]["epoch"], 3 * round + 3, "round {round}");
    }
    store.erase().unwrap();
    drop(store);
    assert_eq!(workspace.run(&["store", "check", "pipeline.toml"]).code, 0);
}
