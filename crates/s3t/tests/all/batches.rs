//! Batches by tokens and accumulated gradients: a step is that of one batch up to rounding, and has the same bits on every run and
//! number of threads.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use s3t::backends::DeviceSpec;
use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::{BlockTensors, StageTensors};
use s3t::core::{BlockRange, Lineage, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task, lineage};
use s3t::executor::{StageJob, StageProgress, StageRecord, Step, Trainer};
use s3t::models::{Backbone, LoadOptions};
use s3t::peft::PeftMethod;
use s3t::plugins::ia3::Ia3;
use s3t::prelude::*;
use s3t::train::StageTrainer;

/// Prompts and responses of unlike length: the tokens that are learnt are 2 to 13.
fn records() -> Vec<StageRecord> {
    let record = |row: usize| {
        let text = |letter: &str, count: usize| letter.repeat(count);
        let record = Record {
            id: RecordId::new(format!("row-{row}")).unwrap(),
            subject: None,
            target: Target::Text(text(["Q", "Z", "X"][row % 3], 1 + row * 5 % 12)),
            ordinal: 0,
            payload: Payload::Text(text(["K", "W", "V", "J"][row % 4], 2 + row * 7 % 9)),
        };
        StageRecord { digest: record.digest(&StoreSecret::from_bytes([0; 32])), record: Arc::new(record) }
    };
    (0..8).map(record).collect()
}

struct Threads(usize);

impl StageProgress for Threads {
    fn step(&self, step: Step) -> ControlFlow<()> {
        assert!(step.done <= step.steps, "{step:?}");
        ControlFlow::Continue(())
    }

    fn threads(&self) -> usize {
        self.0
    }
}

struct Trained {
    tensors: StageTensors,
    steps: usize,
    loss: f32,
}

/// One pass with factors that start at one, so that nothing of the stage is drawn but the order of the records.
fn train(backbone: &Arc<Backbone>, records: Vec<StageRecord>, training: &TrainingConfig, threads: usize) -> Trained {
    let device: DeviceSpec = "flex".parse().unwrap();
    let method: Box<dyn PeftMethod> = Box::new(Ia3::default());
    let lineage = Lineage {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: serde_json::to_value(&method).unwrap(),
            training: serde_json::to_value(training).unwrap(),
            task: Task::CausalLm,
            environment: device.environment(),
        },
        groups: vec![BlockRange { start: 1, end: 4 }],
        slices: vec![DigestBuilder::new("slice").finish()],
    };
    let trainer = StageTrainer::new(Arc::clone(backbone), device, 1 << 30).unwrap();
    let job = StageJob { lineage, records, ancestors: BlockTensors::new() };
    let stage = trainer.train(&job, &Threads(threads)).unwrap();
    Trained { tensors: stage.tensors, steps: stage.steps, loss: stage.loss }
}

/// With an epsilon of one the first step is `g / (|g| + 1)` of the gradient g, which it gives away.
fn one_step() -> TrainingConfig {
    TrainingConfig {
        epochs: 1,
        batch_size: 8,
        learning_rate: 1.0,
        warmup: 0.0,
        weight_decay: 0.0,
        epsilon: 1.0,
        ..TrainingConfig::default()
    }
}

/// The gradient of each factor.
fn gradients(trained: &Trained) -> Vec<f64> {
    assert_eq!(trained.steps, 1);
    let step = |value: &f32| 1.0 - f64::from(*value);
    let gradient = |step: f64| step / (1.0 - step.abs());
    trained.tensors.named().values().flat_map(|tensor| tensor.values.iter().map(step).map(gradient)).collect()
}

fn difference(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
}

#[test]
fn the_gradient_of_accumulated_batches_is_that_of_one_batch() {
    let device: DeviceSpec = "flex".parse().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let backbone = s3t::models::load(&model, LoadOptions::default(), &device.open().unwrap()).unwrap();
    let all = records();
    let inputs: Vec<_> = all.iter().map(|record| backbone.prepare(&record.record).unwrap()).collect();
    let learnt: Vec<usize> = inputs.iter().map(|input| input.learnt()).collect();
    let longest = inputs.iter().map(|input| input.tokens).max().unwrap();
    let one = train(&backbone, all.clone(), &one_step(), 1);
    let expected = gradients(&one);
    let size = expected.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let tolerance = 1e-4 * size;

    for (batch_size, batch_tokens, accumulate) in
        [(4, None, 2), (2, None, 4), (1, None, 8), (3, None, 3), (8, Some(2 * longest), 8), (8, Some(1), 8)]
    {
        let training = TrainingConfig { batch_size, batch_tokens, accumulate, ..one_step() };
        let made = train(&backbone, all.clone(), &training, 1);
        let far = difference(&gradients(&made), &expected);
        assert!(far < tolerance, "{training:?}: {far} of {size}");
        assert!((made.loss - one.loss).abs() < 1e-4, "{} and {}", made.loss, one.loss);
        for threads in [1, 2, 4] {
            let again = train(&backbone, all.clone(), &training, threads);
            assert_eq!(again.tensors.first_difference(&made.tensors), None, "{threads} threads, {training:?}");
        }
    }

    // The closed form: of two parts, each weighs what is learnt of it. With equal weights it would be another gradient.
    let parts = [&all[..3], &all[3..]].map(|part| gradients(&train(&backbone, part.to_vec(), &one_step(), 1)));
    let counts = [learnt[..3].iter().sum::<usize>() as f64, learnt[3..].iter().sum::<usize>() as f64];
    let mean = |weights: [f64; 2]| -> Vec<f64> {
        let sum = weights[0] + weights[1];
        parts[0].iter().zip(&parts[1]).map(|(one, other)| (one * weights[0] + other * weights[1]) / sum).collect()
    };
    assert!(difference(&mean(counts), &expected) < tolerance);
    assert!(difference(&mean([1.0, 1.0]), &expected) > 100.0 * tolerance);
}

#[test]
fn the_last_step_of_a_pass_has_what_is_left() {
    let device: DeviceSpec = "flex".parse().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let backbone = s3t::models::load(&model, LoadOptions::default(), &device.open().unwrap()).unwrap();
    let steps = |training: TrainingConfig| train(&backbone, records(), &training, 1).steps;
    let slow = || TrainingConfig { learning_rate: 1e-3, ..one_step() };
    assert_eq!(steps(TrainingConfig { epochs: 2, batch_size: 3, accumulate: 2, ..slow() }), 4);
    // A record to a batch.
    assert_eq!(steps(TrainingConfig { epochs: 2, batch_tokens: Some(1), accumulate: 3, ..slow() }), 6);
    assert_eq!(steps(TrainingConfig { epochs: 3, batch_tokens: Some(1 << 40), ..slow() }), 3);
}
