//! The cost of deletions: acknowledging, batches, taking effect in another process's view, look-ups, encryption, size.
//!
//! `cargo bench --bench store [-- RECORDS]` prints the figures for a million records unless told otherwise, with the raw cost of a sync
//! on the same disk beside. Without `--bench` (as tests run benches) the store is tiny.
#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints a table")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::{HostTensor, StageTensors};
use s3t::core::{LayerGroups, Recipe, Sequence, SequenceRequest, StoreSecret, lineage, sequence::plan_sequences};
use s3t::prelude::*;
use s3t::store::{DeletionRequest, NewStore, Place, Store, StoreSettings};
use s3t_benches::percentiles;

const SHARDS: u32 = 20;
const SLICES: u32 = 8;

/// The environment variable by which this program asks a new process of it to open a store.
const OPEN: &str = "S3T_BENCH_OPEN";

fn main() {
    if let Some(path) = std::env::var_os(OPEN) {
        return open_and_tell(Path::new(&path));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let records: u64 = asked.unwrap_or(if full { 1_000_000 } else { 2_000 });
    let requests = if full { 400 } else { 10 };
    let batch = if full { 20_000.min(records as usize / 4) } else { 100 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store");

    let started = Instant::now();
    let store = make(&path, records);
    line("making the store", &format!("{:.1} s for {records} records", started.elapsed().as_secs_f64()));
    build(&store);
    let size = std::fs::metadata(path.join("catalogue.db")).map_or(0, |metadata| metadata.len());
    line("catalogue on disk", &format!("{:.0} MB, {:.0} B a record", size as f64 / 1e6, size as f64 / records as f64));
    drop(store);
    line("a process that has it open", &resident_of_an_open_store(&path));
    let store = Store::open(&Place::new(&path)).expect("the store opens");

    let sync = percentiles((0..requests).map(|_| raw_sync(folder.path())).collect());
    line("a raw sync of 4 kB", &show(&sync));

    let lookups = 20_000.min(records);
    let look = |of: &dyn Fn(u64)| {
        let started = Instant::now();
        (0..lookups).for_each(|number| of(number * 7919 % records));
        micros(started.elapsed() / lookups as u32)
    };
    line("looking a record up", &look(&|number| assert!(store.address(&id(number)).expect("read").is_some())));
    line("looking a subject up", &look(&|number| assert!(store.records_of(&subject(number)).expect("read") > 0)));

    let reader = Store::open_read_only(&Place::new(&path)).expect("the store opens");
    reader.snapshot().expect("read");
    let (mut acknowledged, mut effective) = (Vec::new(), Vec::new());
    for number in 0..requests as u64 {
        let request = DeletionRequest { id: None, records: vec![id(number)], subjects: vec![] };
        let started = Instant::now();
        let accepted = store.accept(&request).expect("accepted");
        acknowledged.push(started.elapsed());
        // Another connection, as another process has it: until its answers use the new epoch.
        let started = Instant::now();
        while reader.snapshot().expect("read").epoch() < accepted.effect.epoch {}
        effective.push(started.elapsed());
    }
    let acknowledged = percentiles(acknowledged);
    line("acknowledging a deletion", &show(&acknowledged));
    line(
        "  in raw syncs",
        &format!("{:.1} p50, {:.1} p99", ratio(acknowledged.0, sync.0), ratio(acknowledged.1, sync.1)),
    );
    line("in effect in another process", &show(&percentiles(effective)));

    loaded(folder.path(), if full { 100 } else { 4 }, requests as u64);

    let from = requests as u64;
    let names = (from..from + batch as u64).map(id).collect();
    let started = Instant::now();
    store.accept(&DeletionRequest { id: None, records: names, subjects: vec![] }).expect("accepted");
    let accepted = started.elapsed();
    line(
        "accepting a batch",
        &format!("{batch} in {}, {:.0} deletions/s", micros(accepted), batch as f64 / accepted.as_secs_f64()),
    );
    let started = Instant::now();
    let erased = store.erase().expect("erased");
    let took = started.elapsed() + accepted;
    line(
        "accepting and erasing it",
        &format!(
            "{} records in {:.2} s, {:.0} deletions/s",
            erased.records.len(),
            took.as_secs_f64(),
            batch as f64 / took.as_secs_f64()
        ),
    );
    store.publish().expect("published");
    for encrypt in [true, false] {
        let what = if encrypt { "sealing and opening" } else { "the same without encryption" };
        line(what, &seal_rate(folder.path(), encrypt, if full { 64 } else { 1 }));
    }
}

/// The time until a deletion is in effect in a process that answers with so many shards on all cores: from the acknowledgement to the
/// first look at the store that has it, through the store that took it and through another connection to it.
fn loaded(folder: &Path, shards: u32, requests: u64) {
    let path = folder.join("loaded");
    let records: Vec<Record> = (0..u64::from(shards) * 40).map(|number| record(number, 64)).collect();
    let new = NewStore {
        settings: settings(shards, 3),
        partitioner: &KeyedHash {},
        records: &records,
        copies: &[],
        secret: StoreSecret::from_bytes([1; 32]),
        encrypt: true,
        taken_in_with: serde_json::json!({}),
    };
    let store = Store::create(&Place::new(&path), &new).expect("the store is made");
    build(&store);
    let reader = Store::open_read_only(&Place::new(&path)).expect("the store opens");
    let stop = AtomicBool::new(false);
    let (mut here, mut there) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // As an answer does: look at the store, then compute for a millisecond.
                    let snapshot = store.snapshot().expect("read");
                    let started = Instant::now();
                    while started.elapsed() < Duration::from_millis(1) {
                        std::hint::black_box(snapshot.epoch());
                    }
                }
            });
        }
        for number in 0..requests.min(u64::from(shards) * 40) {
            let request = DeletionRequest { id: None, records: vec![id(number)], subjects: vec![] };
            let accepted = store.accept(&request).expect("accepted");
            let started = Instant::now();
            while store.snapshot().expect("read").epoch() < accepted.effect.epoch {}
            here.push(started.elapsed());
            let started = Instant::now();
            while reader.snapshot().expect("read").epoch() < accepted.effect.epoch {}
            there.push(started.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    });
    line(&format!("in effect, {shards} shards, loaded"), &show(&percentiles(here)));
    line("  through another connection", &show(&percentiles(there)));
}

fn line(what: &str, result: &str) {
    println!("{what:30} {result}");
}

fn id(number: u64) -> RecordId {
    RecordId::new(format!("record-{number}")).expect("a well-formed id")
}

fn subject(number: u64) -> SubjectId {
    SubjectId::new(format!("subject-{}", number / 4)).expect("a well-formed id")
}

fn settings(shards: u32, slices: u32) -> StoreSettings {
    let of_shard = |shard| -> Vec<Sequence> {
        let request =
            SequenceRequest { shard: ShardId(shard), slices, budget: slices as usize, prior: &Prior::Uniform, seed: 0 };
        plan_sequences(&Cyclic {}, &request).expect("the budget is L")
    };
    StoreSettings {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: DigestBuilder::new("base").finish(),
            peft: "lora".into(),
            training: "none".into(),
            task: Task::Classification { classes: 10 },
            environment: "flex".parse::<s3t::backends::DeviceSpec>().expect("a known device").environment(),
        },
        groups: LayerGroups::from_top(slices as usize, slices, None).expect("a block a slice"),
        shape: PartitionShape { shards, slices },
        partitioner: "keyed-hash".into(),
        sequences: (0..shards).map(of_shard).collect(),
        labels: Vec::new(),
    }
}

fn record(number: u64, bytes: usize) -> Record {
    Record {
        id: id(number),
        subject: Some(subject(number)),
        target: Target::Class(0),
        ordinal: number,
        payload: Payload::Text("x".repeat(bytes)),
    }
}

fn make(path: &Path, count: u64) -> Store {
    let records: Vec<Record> = (0..count).map(|number| record(number, 64)).collect();
    let new = NewStore {
        settings: settings(SHARDS, SLICES),
        partitioner: &KeyedHash {},
        records: &records,
        copies: &[],
        secret: StoreSecret::from_bytes([1; 32]),
        encrypt: true,
        taken_in_with: serde_json::json!({}),
    };
    Store::create(&Place::new(path), &new).expect("the store is made")
}

/// A stage for every key, so that deletions have something to cut.
fn build(store: &Store) {
    let snapshot = store.snapshot().expect("read");
    let mut tensors = StageTensors::default();
    tensors.insert_head("weight", HostTensor { shape: vec![256], values: vec![0.5; 256] });
    for key in snapshot.missing() {
        let lineage = snapshot.plan().lineage(&key).expect("planned");
        store.add_stage(&lineage, &tensors).expect("added");
    }
}

fn raw_sync(folder: &Path) -> Duration {
    let path = folder.join("sync");
    let mut file = File::create(path).expect("a file");
    file.write_all(&[7; 4096]).expect("written");
    let started = Instant::now();
    file.sync_all().expect("synced");
    started.elapsed()
}

/// Megabytes of sealed records that are written and read back in a second: a slice of so many megabytes.
fn seal_rate(folder: &Path, encrypt: bool, megabytes: usize) -> String {
    let path = folder.join(format!("sealed-{encrypt}"));
    let records: Vec<Record> = (0..megabytes as u64).map(|number| record(number, 1 << 20)).collect();
    let new = NewStore {
        settings: settings(1, 1),
        partitioner: &KeyedHash {},
        records: &records,
        copies: &[],
        secret: StoreSecret::from_bytes([1; 32]),
        encrypt,
        taken_in_with: serde_json::json!({}),
    };
    let started = Instant::now();
    let store = Store::create(&Place::new(&path), &new).expect("the store is made");
    let written = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let read = store.records(s3t::core::SliceAddress::new(0, 0)).expect("read");
    assert_eq!(read.len(), megabytes);
    let opened = started.elapsed().as_secs_f64();
    format!("{:.0} MB/s written, {:.0} MB/s read", megabytes as f64 / written, megabytes as f64 / opened)
}

/// The memory of a new process that has opened the store, read its snapshot and looked up two thousand records, in MB.
fn resident_of_an_open_store(path: &Path) -> String {
    let program = std::env::current_exe().expect("this program");
    let child = std::process::Command::new(program).env(OPEN, path).output().expect("started");
    String::from_utf8_lossy(&child.stdout).trim().to_owned()
}

/// The work of the process that answers.
fn open_and_tell(path: &Path) {
    let store = Store::open(&Place::new(path)).expect("the store opens");
    store.snapshot().expect("read");
    for number in 0..2000 {
        store.address(&id(number)).expect("read");
    }
    println!("{:.0} MB", resident());
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn show((median, high): &(Duration, Duration)) -> String {
    format!("{} p50, {} p99", micros(*median), micros(*high))
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-9)
}

fn micros(time: Duration) -> String {
    let micros = 1e6 * time.as_secs_f64();
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1000.0) }
}
