//! The bytes that an owner sends and receives over the connections of its workers, with object storage between them and without. The stages
//! are those of one shard with cyclic sequences; nothing is computed.
//!
//! ```text
//! cargo run -p s3t-cluster --example objects -- [workers] [slices] [megabytes of a slice] [megabytes of a stage]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for a person")]

#[path = "../../s3t-executor/tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::{digest, environment, job, settings};
use s3t_cluster::s3t_executor::{
    ExecutorError, Session, Silent, Site, StageJob, StageProgress, StageRecord, TrainedStage, Trainer,
    work_with_objects,
};
use s3t_cluster::{Call, ClusterError, Launcher, ObjectStorage, Registration, Settings, Task, TaskState, join, start};
use s3t_core::digest::DigestBuilder;
use s3t_core::tensors::{BlockTensors, HostTensor, StageTensors};
use s3t_core::{BlockRange, Digest, Lineage, Payload, Record, StageKey};

/// The records of a slice.
const RECORDS: usize = 64;

fn main() {
    let arguments: Vec<f64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let number = |at: usize, default: f64| arguments.get(at).copied().unwrap_or(default);
    let (workers, slices) = (number(0, 8.0) as usize, number(1, 8.0) as usize);
    let (slice, stage) =
        ((number(2, 4.0) * f64::from(1 << 20)) as usize, (number(3, 1.0) * f64::from(1 << 20)) as usize);
    println!(
        "{workers} workers, {slices} cyclic sequences of {slices} slices of {} MB, adapters of {} MB",
        slice >> 20,
        stage >> 20
    );
    let folder = std::env::temp_dir().join(format!("s3t-objects-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    measure("over the connections", None, workers, slices, slice, stage);
    let storage = ObjectStorage::new(format!("file://{}", folder.display()));
    measure("with object storage", Some(storage), workers, slices, slice, stage);
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
    std::fs::remove_dir(&folder).unwrap();
}

fn measure(name: &str, objects: Option<ObjectStorage>, workers: usize, slices: usize, slice: usize, stage: usize) {
    let (give, calls) = mpsc::channel();
    let site = Site {
        store: "store".into(),
        worker: settings(),
        threads: NonZero::<usize>::MIN,
        trainer: Arc::new(Adapters { values: stage / 4 }),
    };
    let (listen, start_of) = ("127.0.0.1:0".to_owned(), Instant::now());
    let settings =
        Settings { workers, listen, host: None, restarts: 0, lease_seconds: 60.0, look_seconds: 1.0, objects };
    let session = start(&site, settings, Box::new(Threads(Mutex::new(give)))).unwrap();
    let call = calls.recv().unwrap();
    let counted = Counted::to(&call.address);
    for _ in 0..workers {
        let call = Call { address: counted.address.clone(), ..call.clone() };
        let trainer: Arc<dyn Trainer> = Arc::new(Adapters { values: stage / 4 });
        std::thread::spawn(move || {
            let registration = Registration::of_this_process(String::new(), Some(1));
            let joined = join(&call.address, &call.invitation, &registration, Duration::from_secs(60)).unwrap();
            let load = |_: &_| Ok(trainer);
            let _ = work_with_objects(joined.reader, joined.writer, Some(joined.lease), joined.objects, load, |_| {});
        });
    }
    train_all(&*session, slices, slice);
    drop(session);
    let megabytes = |bytes: &AtomicU64| bytes.load(Ordering::SeqCst) as f64 / f64::from(1 << 20);
    println!(
        "{name}: the owner sent {:.1} MB and received {:.1} MB, in {:.1} s",
        megabytes(&counted.sent),
        megabytes(&counted.received),
        start_of.elapsed().as_secs_f64()
    );
}

/// Trains every stage of every sequence, those of a depth side by side.
fn train_all(session: &dyn Session, slices: usize, bytes: usize) {
    let template = job(&["one"]);
    let records: Vec<Vec<StageRecord>> = (0..slices).map(|slice| records_of(&template, slice, bytes)).collect();
    let mut adapters: Vec<BlockTensors> = vec![BlockTensors::new(); slices];
    for depth in 1..=slices {
        let trained: Vec<StageTensors> = std::thread::scope(|scope| {
            let train = |first: usize| {
                let order: Vec<usize> = (0..depth).map(|at| (first + at) % slices).collect();
                let group = |at: usize| BlockRange { start: 99 - at, end: 100 - at };
                let lineage = Lineage {
                    groups: (0..depth).map(group).collect(),
                    slices: order.iter().map(|slice| digest(&slice.to_string())).collect(),
                    ..template.lineage.clone()
                };
                let records = order.iter().flat_map(|slice| records[*slice].iter().cloned()).collect();
                let stage = StageJob { lineage, records, ancestors: adapters[first].clone() };
                session.train(&stage, &Silent).unwrap().tensors
            };
            let training: Vec<_> = (0..slices).map(|first| scope.spawn(move || train(first))).collect();
            training.into_iter().map(|stage| stage.join().unwrap()).collect()
        });
        adapters.iter_mut().zip(trained).for_each(|(before, trained)| before.extend(trained.blocks));
    }
}

fn records_of(template: &StageJob, slice: usize, bytes: usize) -> Vec<StageRecord> {
    let record = |number: usize| {
        let name = DigestBuilder::new("record").number(slice as u64).number(number as u64).finish();
        let payload = Payload::Text(name.to_string().repeat(bytes / RECORDS / 64));
        StageRecord { digest: name, record: Arc::new(Record { payload, ..(*template.records[0].record).clone() }) }
    };
    let mut records: Vec<StageRecord> = (0..RECORDS).map(record).collect();
    records.sort_by_key(|record| record.digest);
    records
}

/// Gives adapters of a size that are a function of the key.
struct Adapters {
    values: usize,
}

impl Trainer for Adapters {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, _progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let StageKey(key) = job.key();
        let values = (0..self.values).map(|at| f32::from(key.as_bytes()[at % 32]) + at as f32).collect();
        let mut tensors = StageTensors::default();
        tensors.insert(job.lineage.trained().start, "a", HostTensor { shape: vec![self.values], values });
        Ok(TrainedStage { key: job.key(), environment: environment(), tensors, steps: 1, loss: 0.25 })
    }

    fn forget(&self, _records: &[Digest]) {}

    fn forget_all(&self) {}
}

/// Workers that the example starts.
#[derive(Debug)]
struct Threads(Mutex<mpsc::Sender<Call>>);

impl Launcher for Threads {
    fn engine(&self) -> &'static str {
        "threads"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        let _ = self.0.lock().unwrap().send(call.clone());
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        Ok((0..10_000).map(|number| Task { name: number.to_string(), state: TaskState::Running }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        Ok(())
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}

/// A way to the owner on which bytes are counted.
struct Counted {
    address: String,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Counted {
    fn to(owner: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sent, received) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (owner, counts) = (owner.to_owned(), [Arc::clone(&sent), Arc::clone(&received)]);
        std::thread::spawn(move || {
            for worker in listener.incoming() {
                let (worker, owner) = (worker.unwrap(), TcpStream::connect(&owner).unwrap());
                let ways = [(owner.try_clone().unwrap(), worker.try_clone().unwrap()), (worker, owner)];
                for ((from, to), count) in ways.into_iter().zip(counts.clone()) {
                    std::thread::spawn(move || pass_on(from, to, &count));
                }
            }
        });
        Self { address, sent, received }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
