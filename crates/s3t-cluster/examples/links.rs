//! The owner's side of many workers: its processor time, its memory and how busy it keeps them. The workers are threads of another process,
//! over real connections, and their stages take a second without computing anything.
//!
//! ```text
//! cargo run --release -p s3t-cluster --example links -- [workers] [stages a worker] [kilobytes of a stage]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a measurement for a person")]

#[path = "../../s3t-executor/tests/common/mod.rs"]
mod common;

use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Counting, environment, job, settings};
use s3t_cluster::s3t_executor::{
    ExecutorError, Silent, Site, StageJob, StageProgress, Step, TrainedStage, Trainer, work,
};
use s3t_cluster::{
    Call, ClusterError, INVITATION, Invitation, Launcher, Registration, Settings, Task, TaskState, join, start,
};
use s3t_core::Digest;
use s3t_core::tensors::{HostTensor, StageTensors};

/// The steps of a stage, of which a worker tells.
const STEPS: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--workers") {
        return work_for(&arguments[1], arguments[2].parse().unwrap(), arguments[3].parse().unwrap());
    }
    let number = |at: usize, default: usize| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    own(number(0, 1000), number(1, 10), number(2, 64));
}

/// Starts all workers as one process.
#[derive(Debug, Default)]
struct Threads {
    kilobytes: usize,
    child: Mutex<Option<Child>>,
}

impl Launcher for Threads {
    fn engine(&self) -> &'static str {
        "threads"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--workers", &call.address, &workers.to_string(), &self.kilobytes.to_string()]);
        command.env(INVITATION, &*call.invitation.text()).stdout(Stdio::null());
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        Ok((0..10_000).map(|number| Task { name: number.to_string(), state: TaskState::Running }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        let mut child = self.child.lock().unwrap().take().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        Ok(())
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}

fn own(workers: usize, each: usize, kilobytes: usize) {
    let site = Site {
        store: "store".into(),
        worker: settings(),
        threads: NonZero::<usize>::MIN,
        trainer: Arc::new(Counting::default()),
    };
    let listen = "127.0.0.1:0".to_owned();
    let settings =
        Settings { workers, listen, host: None, restarts: 0, lease_seconds: 60.0, look_seconds: 1.0, objects: None };
    let session = start(&site, settings, Box::new(Threads { kilobytes, ..Threads::default() })).unwrap();
    let stages: Vec<StageJob> = (0..workers * each).map(|number| job(&[&*format!("slice {number}")])).collect();
    let (session, stages) = (&session, &stages);
    let (before, first) = (processor_seconds(), Instant::now());
    // Until all have joined, one stage for each.
    std::thread::scope(|scope| {
        for stage in &stages[..workers] {
            let train = || drop(session.train(stage, &Silent).unwrap());
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, train).unwrap();
        }
    });
    println!(
        "{workers} workers joined and trained a stage each in {:.1} s, {:.1} s of processor time",
        first.elapsed().as_secs_f64(),
        processor_seconds() - before
    );
    let memory = resident_megabytes();
    let (before, start) = (processor_seconds(), Instant::now());
    let next = AtomicUsize::new(workers);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let train = || {
                while let Some(stage) = stages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    session.train(stage, &Silent).unwrap();
                }
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, train).unwrap();
        }
    });
    let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
    let trained = (stages.len() - workers) as f64;
    println!(
        "{trained} stages of 1 s in {seconds:.2} s: efficiency {:.1} %",
        100.0 * trained / (seconds * workers as f64)
    );
    println!(
        "processor {processor:.2} s, {:.2} cores; memory {memory} megabytes before, {} after",
        processor / seconds,
        resident_megabytes()
    );
}

/// The processor time of this process.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_megabytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn work_for(address: &str, workers: usize, kilobytes: usize) {
    let invitation: Invitation = std::env::var(INVITATION).unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        for number in 0..workers {
            let invitation = &invitation;
            let run = move || {
                let registration = Registration::of_this_process(number.to_string(), Some(1));
                let joined = join(address, invitation, &registration, Duration::from_secs(60)).unwrap();
                let trainer: Arc<dyn Trainer> = Arc::new(Second { kilobytes });
                let _ = work(joined.reader, joined.writer, Some(joined.lease), |_| Ok(trainer), |_| {});
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).unwrap();
        }
    });
}

/// Trains every stage in a second.
struct Second {
    kilobytes: usize,
}

impl Trainer for Second {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        for done in 1..=STEPS {
            std::thread::sleep(Duration::from_secs(1) / STEPS as u32);
            if progress.step(Step { done, steps: STEPS, records: 32, loss: 0.5 }).is_break() {
                return Err(ExecutorError::Cancelled(job.key()));
            }
        }
        let mut tensors = StageTensors::default();
        let values = vec![0.5; self.kilobytes * 256];
        tensors.insert(job.lineage.trained().start, "a", HostTensor { shape: vec![values.len()], values });
        Ok(TrainedStage { key: job.key(), environment: environment(), tensors, steps: STEPS, loss: 0.25 })
    }

    fn forget(&self, _records: &[Digest]) {}

    fn forget_all(&self) {}
}
