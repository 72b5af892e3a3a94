//! Our side of `benches/peer/step.py`: trains and answers one batch again and again, a line of standard input at a time.
//!
//! `peer-step MODEL THREADS [DEVICE [FORM]]`: `MODEL` is a Hugging Face folder with the batch's records in `records.jsonl`, `images.bin` or, for a
//! language model, `continuations.jsonl` with a list of a prompt and what follows it in each line. A line `train` takes one optimiser step and a line
//! `forward` answers the batch once, a language model with the likeliest token at each place that is learnt; both print the milliseconds. `memory` prints
//! the megabytes that the process has had at most.

use std::error::Error;
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::BlockTensors;
use s3t::core::{BlockRange, Lineage, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task, lineage};
use s3t::executor::{Silent, StageJob, StageProgress, StageRecord, Step, Trainer};
use s3t::prelude::*;
use s3t::train::{StageModel, StageTrainer};
use s3t_benches::{load_options, peak_megabytes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (model, threads, device, form) = match arguments.as_slice() {
        [_, model, threads] => (model, threads, "flex", "f32"),
        [_, model, threads, device] => (model, threads, device.as_str(), "f32"),
        [_, model, threads, device, form] => (model, threads, device.as_str(), form.as_str()),
        _ => return Err("usage: peer-step MODEL THREADS [DEVICE [FORM]]".into()),
    };
    let options = load_options(form)?;
    let precision = options.precision;
    let (model, threads): (_, usize) = (Path::new(model), threads.parse()?);
    let records = records(model)?;
    let is_causal = records.iter().any(|of| matches!(of.record.target, Target::Text(_)));
    let task = if is_causal { Task::CausalLm } else { Task::Classification { classes: 3 } };
    let device: s3t::backends::DeviceSpec = device.parse()?;
    let opened = device.open()?;
    let backbone = s3t::models::load(model, options, &opened)?;
    let method: Box<dyn s3t::peft::PeftMethod> = Box::new(Lora { rank: 16, alpha: 32.0, ..Lora::default() });
    let training =
        TrainingConfig { epochs: 100_000, batch_size: records.len(), precision, ..TrainingConfig::default() };
    let recipe = |training: &TrainingConfig| -> Result<Recipe, serde_json::Error> {
        Ok(Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: serde_json::to_value(&method)?,
            training: serde_json::to_value(training)?,
            task,
            environment: device.environment(),
        })
    };
    let lineage = |recipe| Lineage {
        recipe,
        groups: vec![BlockRange { start: 0, end: backbone.blocks() }],
        slices: vec![DigestBuilder::new("slice").finish()],
    };
    let job = StageJob { lineage: lineage(recipe(&training)?), records, ancestors: BlockTensors::new() };
    let trainer = StageTrainer::new(Arc::clone(&backbone), device, 1 << 30)?;

    // The model that answers has been trained for one step.
    let once = TrainingConfig { epochs: 1, ..training };
    let once = StageJob { lineage: lineage(recipe(&once)?), ..job.clone() };
    let tensors = trainer.train(&once, &Silent)?.tensors;
    let answering = StageModel::new(&backbone, &opened, &once.lineage, &[&tensors])?;
    let inputs = job.records.iter().map(|record| backbone.prepare(&record.record)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<_> = inputs.iter().collect();
    if let Some(input) = inputs.iter().find(|input| is_causal && input.learnt() + 1 != input.tokens) {
        return Err(format!("{} of {} tokens are learnt, not all but the first", input.learnt(), input.tokens).into());
    }

    let (go, wait) = channel();
    let (done, finished) = channel();
    let progress = Gate { wait: wait.into(), done: done.into(), threads };
    std::thread::scope(|scope| {
        let training = scope.spawn(|| trainer.train(&job, &progress).map(drop));
        for line in std::io::stdin().lock().lines() {
            let started = Instant::now();
            match line?.as_str() {
                "train" => {
                    go.send(())?;
                    while finished.recv_timeout(LOOKS).is_err() {
                        if training.is_finished() {
                            // It ends by itself only where it fails.
                            return Err(training.join().map_or("training panicked".into(), |ended| match ended {
                                Ok(()) => "training ended".into(),
                                Err(error) => Box::<dyn Error>::from(error),
                            }));
                        }
                    }
                }
                "forward" => {
                    s3t::train::on_threads(threads, || {
                        if is_causal {
                            drop(s3t::engine::right_tokens(&backbone, &answering, &inputs));
                        } else {
                            drop(answering.outputs(&backbone, &inputs));
                        }
                    })?;
                }
                "memory" => {
                    writeln!(std::io::stdout(), "{:.1}", peak_megabytes()?)?;
                    continue;
                }
                other => return Err(format!("unknown line `{other}`; known: train, forward, memory").into()),
            }
            writeln!(std::io::stdout(), "{:.3}", started.elapsed().as_secs_f64() * 1e3)?;
        }
        drop(go);
        // Stopping it is how it ends.
        let _ = training.join();
        Ok(())
    })
}

/// The time between two looks whether training still runs.
const LOOKS: Duration = Duration::from_millis(200);

/// Lets one step run for each message.
struct Gate {
    wait: std::sync::Mutex<Receiver<()>>,
    done: std::sync::Mutex<Sender<()>>,
    threads: usize,
}

impl StageProgress for Gate {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let lock = "nothing panics while it is held";
        // The first step starts before it is asked for.
        let told = step.done == 1 || self.done.lock().expect(lock).send(()).is_ok();
        match self.wait.lock().expect(lock).recv() {
            Ok(()) if told => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn threads(&self) -> usize {
        self.threads
    }
}

fn records(model: &Path) -> Result<Vec<StageRecord>, Box<dyn Error>> {
    let secret = StoreSecret::from_bytes([0; 32]);
    let (images, continuations) = (model.join("images.bin"), model.join("continuations.jsonl"));
    let class = |(row, payload)| (payload, Target::Class(row % 3));
    let contents: Vec<(Payload, Target)> = if images.is_file() {
        let side: u32 = 224;
        let size = (side * side * 3) as usize;
        let image = |pixels: &[u8]| Payload::Image { width: side, height: side, channels: 3, pixels: pixels.to_vec() };
        (0..).zip(std::fs::read(images)?.chunks_exact(size).map(image)).map(class).collect()
    } else if continuations.is_file() {
        let texts = std::fs::read_to_string(continuations)?;
        let pair = |line: &str| {
            let (prompt, follows) = serde_json::from_str::<(String, String)>(line)?;
            Ok((Payload::Text(prompt), Target::Text(follows)))
        };
        texts.lines().map(pair).collect::<Result<_, serde_json::Error>>()?
    } else {
        let texts = std::fs::read_to_string(model.join("records.jsonl"))?;
        let text = |(row, line): (u32, &str)| Ok(class((row, Payload::Text(serde_json::from_str(line)?))));
        (0..).zip(texts.lines()).map(text).collect::<Result<_, serde_json::Error>>()?
    };
    let record = |(row, (payload, target)): (u64, (Payload, Target))| {
        let id = RecordId::new(format!("row-{row}"))?;
        let record = Record { id, subject: None, target, ordinal: row, payload };
        Ok(StageRecord { digest: record.digest(&secret), record: Arc::new(record) })
    };
    (0..).zip(contents).map(record).collect()
}
