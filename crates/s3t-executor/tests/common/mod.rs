//! A job, a trainer that trains nothing, and workers at the other end of pipes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeSet;
use std::io::{PipeReader, PipeWriter, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use s3t_core::digest::DigestBuilder;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{
    BlockRange, Digest, Lineage, NumericEnvironment, Payload, Recipe, Record, RecordId, StoreSecret, SubjectId, Target,
    Task, lineage,
};
use s3t_executor::{
    Answer, BaseModel, ExecutorError, Kept, Link, Request, StageJob, StageProgress, StageRecord, Step, TrainedStage,
    Trainer, WorkerSettings, read_frame, write_frame,
};
use serde_json::json;

pub fn digest(name: &str) -> Digest {
    DigestBuilder::new("test").bytes(name.as_bytes()).finish()
}

pub fn environment() -> NumericEnvironment {
    NumericEnvironment {
        backend: "flex".into(),
        library: "burn".into(),
        architecture: "x86_64".into(),
        instructions: vec!["avx2".into()],
        precision: "f32".into(),
        probe: "0123".into(),
    }
}

pub fn settings() -> WorkerSettings {
    let base = BaseModel { folder: "model".into(), digest: digest("base"), options: json!({"max_tokens": null}) };
    WorkerSettings { base, device: "flex".into(), memory: 1 << 20, gradient_checkpointing: false }
}

/// A job of a stage on slices of these names; every kind of content is in its records.
pub fn job(slices: &[&str]) -> StageJob {
    let payloads = [
        Payload::Image { width: 2, height: 1, channels: 1, pixels: vec![0, 255] },
        Payload::Features(vec![0.1, f32::MIN_POSITIVE, -0.0]),
        Payload::Text("a text that nobody else may read".into()),
        Payload::TextPair("one".into(), "é".into()),
    ];
    let targets = [Target::Class(2), Target::Classes(vec![0, 2]), Target::Value(0.3), Target::Text("yes".into())];
    let record = |(row, (payload, target)): (u64, (Payload, Target))| {
        let id = RecordId::new(format!("record-{row}")).unwrap();
        let subject = (row % 2 == 0).then(|| SubjectId::new("somebody").unwrap());
        let record = Record { id, subject, target, ordinal: row, payload };
        StageRecord { digest: record.digest(&StoreSecret::from_bytes([1; 32])), record: Arc::new(record) }
    };
    let depth = slices.len();
    let lineage = Lineage {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: digest("base"),
            peft: json!({"type": "lora", "rank": 4, "targets": ["query"]}),
            // A number of seventeen digits.
            training: json!({"learning_rate": 0.1 + 0.2, "epochs": 2, "seed": u64::MAX}),
            task: Task::Classification { classes: 3 },
            environment: environment(),
        },
        groups: (0..depth).map(|group| BlockRange { start: 9 - group, end: 10 - group }).collect(),
        slices: slices.iter().map(|name| digest(name)).collect(),
    };
    let mut ancestors = StageTensors::default();
    for block in 11 - depth..10 {
        ancestors.insert(block, "a", HostTensor { shape: vec![1, 2], values: vec![f32::NAN, 1e-40] });
    }
    let records = (0..).zip(payloads.into_iter().zip(targets)).map(record).collect();
    StageJob { lineage, records, ancestors: ancestors.blocks }
}

/// The result of a job as the test trainer gives it.
pub fn trained(job: &StageJob, steps: usize) -> TrainedStage {
    let mut tensors = StageTensors::default();
    let values = job.key().seed().iter().map(|byte| f32::from(*byte)).collect();
    tensors.insert(job.lineage.trained().start, "a", HostTensor { shape: vec![4, 8], values });
    tensors.centroid = Some(HostTensor { shape: vec![2], values: vec![-0.0, f32::INFINITY] });
    TrainedStage { key: job.key(), environment: environment(), tensors, steps, loss: 0.25 }
}

/// A trainer that counts steps; fails for the slice `bad`, and takes steps without end for the slice `endless`.
#[derive(Default)]
pub struct Counting {
    pub threads: Mutex<BTreeSet<usize>>,
    pub forgotten: Mutex<Vec<Digest>>,
    pub forgotten_all: AtomicUsize,
}

pub const STEPS: usize = 20;

impl Trainer for Counting {
    fn environment(&self) -> NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let key = job.key();
        if job.lineage.slices.contains(&digest("bad")) {
            return Err(ExecutorError::Training { key, message: format!("stage {key}: the loss is NaN in step 3") });
        }
        let steps = if job.lineage.slices.contains(&digest("endless")) { usize::MAX } else { STEPS };
        for done in 1..=steps {
            self.threads.lock().unwrap().insert(progress.threads());
            let step = Step { done, steps, records: job.records.len(), loss: 1.0 / done as f32 };
            if progress.step(step).is_break() {
                return Err(ExecutorError::Cancelled(key));
            }
            if steps == usize::MAX {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(trained(job, steps))
    }

    fn forget(&self, records: &[Digest]) {
        self.forgotten.lock().unwrap().extend(records);
    }

    fn forget_all(&self) {
        self.forgotten_all.fetch_add(1, Ordering::Relaxed);
    }
}

/// A link to a worker with this trainer, in a thread of this process.
pub fn honest(trainer: Arc<Counting>) -> Link {
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    std::thread::spawn(move || s3t_executor::work(worker_in, worker_out, None, |_| Ok(trainer as _), |_| {}));
    Link::open("worker 1", owner_in, owner_out, &settings(), Duration::from_secs(60)).unwrap()
}

/// A worker that a test writes by hand: its two ends of the pipes.
pub struct Hand {
    pub input: PipeReader,
    pub output: PipeWriter,
    pub kept: Kept,
}

impl Hand {
    pub fn next(&mut self) -> Option<Request<'static>> {
        read_frame(&mut self.input).unwrap_or(None)
    }

    pub fn say(&mut self, answer: &Answer) {
        self.output.write_all(&write_frame(answer).unwrap()).unwrap();
    }

    /// The next job with its number.
    pub fn job(&mut self) -> (u64, StageJob) {
        loop {
            match self.next() {
                Some(Request::Job { number, job, .. }) => {
                    let job = job.whole(&self.kept).unwrap();
                    self.kept.keep(&job);
                    return (number, job);
                }
                Some(_) => {}
                None => panic!("no job comes"),
            }
        }
    }
}

/// A link to a worker that greets as `environment` says and then does what `act` does.
pub fn by_hand(act: impl FnOnce(Hand) + Send + 'static) -> Result<Link, ExecutorError> {
    let (worker_in, owner_out) = std::io::pipe().unwrap();
    let (owner_in, worker_out) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let mut hand = Hand { input: worker_in, output: worker_out, kept: Kept::default() };
        assert_eq!(hand.next(), Some(Request::Hello(settings())));
        act(hand);
    });
    Link::open("worker 1", owner_in, owner_out, &settings(), Duration::from_secs(60))
}

/// Notes every step, and stops after some.
pub struct StopAfter {
    pub steps: Mutex<Vec<Step>>,
    pub stop: usize,
}

impl StopAfter {
    pub fn new(stop: usize) -> Self {
        Self { steps: Mutex::default(), stop }
    }
}

impl StageProgress for StopAfter {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let mut steps = self.steps.lock().unwrap();
        steps.push(step);
        if steps.len() >= self.stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn threads(&self) -> usize {
        3
    }
}
