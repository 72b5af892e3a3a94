//! Steps of an optimiser over batches, as methods take them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_engine::Observer;
use s3t_models::Input;
use s3t_train::TrainingConfig;

use super::adapter::{Goal, Term, Tuner};
use crate::EvalError;

/// `AdamW` (Loshchilov and Hutter 2019), with the moments of all numbers of an adapter.
#[derive(Debug, Clone)]
pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl AdamW {
    /// A fresh state for so many numbers.
    pub fn new(numbers: usize) -> Self {
        Self { first: vec![0.0; numbers], second: vec![0.0; numbers], steps: 0 }
    }

    /// Takes a step down a gradient.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], config: &TrainingConfig, learning_rate: f64) {
        self.steps += 1;
        let (beta1, beta2) = (config.beta1 as f32, config.beta2 as f32);
        let (correct1, correct2) =
            (1.0 - config.beta1.powi(self.steps) as f32, 1.0 - config.beta2.powi(self.steps) as f32);
        let (rate, decay) = (learning_rate as f32, (learning_rate * config.weight_decay) as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, slope), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            *first = beta1 * *first + (1.0 - beta1) * slope;
            *second = beta2 * *second + (1.0 - beta2) * slope * slope;
            let direction = (*first / correct1) / ((*second / correct2).sqrt() + config.epsilon as f32);
            *value -= decay * *value + rate * direction;
        }
    }
}

/// Passes over records in a drawn order.
#[derive(Debug, Clone, Copy)]
pub struct Passes {
    /// Passes.
    pub epochs: usize,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
    /// The seed of the order.
    pub seed: u64,
}

/// The means of taking steps.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub tuner: &'a Tuner,
    pub config: &'a TrainingConfig,
    pub observer: &'a dyn Observer,
}

impl Means<'_> {
    /// Refuses to go on once somebody wants to stop.
    pub(crate) fn check_stopped(self) -> Result<(), EvalError> {
        if self.observer.is_stopped() { Err(EvalError::Stopped) } else { Ok(()) }
    }
}

/// Takes steps over `records`: `terms` makes the loss of each batch. The learning rate rises and falls as the pipeline's does.
pub(crate) fn descend<'r>(
    means: Means<'_>,
    values: &mut [f32],
    records: &'r [Input<'r>],
    passes: Passes,
    mut terms: impl FnMut(Vec<&'r Input<'r>>) -> Vec<Term<'r>>,
) -> Result<(), EvalError> {
    let config = means.config;
    let size = config.batch_size.max(1);
    let steps = passes.epochs * records.len().div_ceil(size);
    let (mut state, mut done) = (AdamW::new(values.len()), 0);
    let mut rng = ChaCha8Rng::seed_from_u64(passes.seed);
    for _ in 0..passes.epochs {
        for batch in batches(records, size, &mut rng) {
            means.check_stopped()?;
            let (_, gradient) = means.tuner.gradient(values, &terms(batch))?;
            state.step(values, &gradient, config, passes.rate * config.learning_rate_at(done, steps));
            done += 1;
        }
    }
    Ok(())
}

/// Learns the classes of records.
pub(crate) fn learn<'r>(
    means: Means<'_>,
    values: &mut [f32],
    records: &'r [Input<'r>],
    passes: Passes,
) -> Result<(), EvalError> {
    descend(means, values, records, passes, |batch| vec![classes(batch, 1.0)])
}

/// A term that learns a batch's own classes.
pub(crate) fn classes<'r>(batch: Vec<&'r Input<'r>>, weight: f64) -> Term<'r> {
    Term { goal: Goal::classes(&batch), batch, weight }
}

/// The records in a drawn order, in batches.
pub(crate) fn batches<'r>(records: &'r [Input<'r>], size: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<&'r Input<'r>>> {
    let mut order: Vec<&Input<'_>> = records.iter().collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.random_range(0..=at));
    }
    order.chunks(size).map(<[_]>::to_vec).collect()
}

/// Batches without end, in a new order after each pass.
pub(crate) struct Cycle<'r> {
    records: &'r [Input<'r>],
    size: usize,
    rng: ChaCha8Rng,
    waiting: Vec<Vec<&'r Input<'r>>>,
}

impl<'r> Cycle<'r> {
    pub(crate) fn new(records: &'r [Input<'r>], size: usize, seed: u64) -> Self {
        Self { records, size, rng: ChaCha8Rng::seed_from_u64(seed), waiting: Vec::new() }
    }

    /// The next batch; empty if there are no records.
    pub(crate) fn next(&mut self) -> Vec<&'r Input<'r>> {
        if self.waiting.is_empty() {
            self.waiting = batches(self.records, self.size, &mut self.rng);
        }
        self.waiting.pop().unwrap_or_default()
    }
}
