//! Approximate methods that take steps on an adapter: close to training without the records, without a promise for any.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::Record;
use s3t_models::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapter::class_of;
use super::steps::{Cycle, Passes, classes, descend, learn};
use super::{Adapter, Bench, Goal, Learnt, Term, UnlearningMethod};
use crate::EvalError;

/// Fine-tuning on what is left, and hoping that the rest is forgotten (the baseline of Golatkar et al. 2020, arXiv 1911.04933).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FineTuning {
    /// Passes over what is left.
    pub epochs: usize,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self { epochs: 2, rate: 0.5 }
    }
}

#[typetag::serde(name = "fine-tuning")]
impl UnlearningMethod for FineTuning {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, _| {
            let left = bench.tuner().prepare(&adapter.records)?;
            learn(bench.means(), &mut adapter.values, &left, Passes { epochs: self.epochs, rate: self.rate, seed })
        })
    }
}

s3t_core::plugin!(UnlearningMethod, "fine-tuning", FineTuning);

/// `NegGrad+` (Kurmanji et al. 2023, arXiv 2302.09880): down the gradient on what is left and up the gradient on what is forgotten at once, with
/// the loss `beta L_left - (1 - beta) L_forgotten`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NegGradPlus {
    /// The weight of what is left, 0 to 1.
    pub beta: f64,
    /// Passes over what is left.
    pub epochs: usize,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
}

impl Default for NegGradPlus {
    fn default() -> Self {
        Self { beta: 0.95, epochs: 1, rate: 0.2 }
    }
}

impl NegGradPlus {
    /// The loss of a batch of what is left and one of what is forgotten.
    pub fn terms<'r>(&self, left: Vec<&'r Input<'r>>, forgotten: Vec<&'r Input<'r>>) -> Vec<Term<'r>> {
        vec![classes(left, self.beta), classes(forgotten, self.beta - 1.0)]
    }
}

#[typetag::serde(name = "neg-grad-plus")]
impl UnlearningMethod for NegGradPlus {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone| {
            let (left, gone) = (bench.tuner().prepare(&adapter.records)?, bench.tuner().prepare(gone)?);
            let mut forgotten = Cycle::new(&gone, bench.training().batch_size, seed);
            let passes = Passes { epochs: self.epochs, rate: self.rate, seed };
            descend(bench.means(), &mut adapter.values, &left, passes, |batch| self.terms(batch, forgotten.next()))
        })
    }
}

s3t_core::plugin!(UnlearningMethod, "neg-grad-plus", NegGradPlus);

/// Random labels (amnesiac unlearning, Graves et al. 2021, arXiv 2010.10981): each forgotten record gets a wrong class by a draw, and the model
/// learns these beside what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomLabels {
    /// Passes over what is left.
    pub epochs: usize,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
}

impl Default for RandomLabels {
    fn default() -> Self {
        Self { epochs: 1, rate: 0.5 }
    }
}

impl RandomLabels {
    /// A wrong class for each record, uniform over the others.
    pub fn wrong(records: &[&Input<'_>], outputs: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let wrong = |input: &&Input<'_>| {
            let (own, others) = (class_of(&input.record.target), outputs.max(2) as u32 - 1);
            let drawn = rng.random_range(0..others);
            if drawn < own { drawn } else { drawn + 1 }
        };
        records.iter().map(wrong).collect()
    }
}

#[typetag::serde(name = "random-labels")]
impl UnlearningMethod for RandomLabels {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone| {
            let (left, gone) = (bench.tuner().prepare(&adapter.records)?, bench.tuner().prepare(gone)?);
            let outputs = bench.pipeline().task.outputs();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut forgotten = Cycle::new(&gone, bench.training().batch_size, seed);
            let passes = Passes { epochs: self.epochs, rate: self.rate, seed };
            descend(bench.means(), &mut adapter.values, &left, passes, |batch| {
                let wrong = forgotten.next();
                let goal = Goal::Classes(Self::wrong(&wrong, outputs, &mut rng));
                vec![classes(batch, 0.5), Term { goal, batch: wrong, weight: 0.5 }]
            })
        })
    }
}

s3t_core::plugin!(UnlearningMethod, "random-labels", RandomLabels);

/// Task-vector subtraction (Ilharco et al. 2023, arXiv 2212.04089, as MUSE uses it, arXiv 2407.06460): the model is tuned further on what is to
/// be forgotten, and the way that it moves is taken the other way. On the factors of low-rank adapters, as on any other numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskVector {
    /// Passes over what is to be forgotten.
    pub epochs: usize,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
    /// The multiple of the vector that is subtracted.
    pub scale: f64,
}

impl Default for TaskVector {
    fn default() -> Self {
        Self { epochs: 5, rate: 0.2, scale: 1.0 }
    }
}

impl TaskVector {
    /// `values - scale (tuned - values)`.
    pub fn subtracted(&self, values: &[f32], tuned: &[f32]) -> Vec<f32> {
        let scale = self.scale as f32;
        values.iter().zip(tuned).map(|(value, tuned)| value - scale * (tuned - value)).collect()
    }
}

#[typetag::serde(name = "task-vector")]
impl UnlearningMethod for TaskVector {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone: &[Record]| {
            let gone = bench.tuner().prepare(gone)?;
            let mut tuned = adapter.values.clone();
            learn(bench.means(), &mut tuned, &gone, Passes { epochs: self.epochs, rate: self.rate, seed })?;
            adapter.values = self.subtracted(&adapter.values, &tuned);
            Ok(())
        })
    }
}

s3t_core::plugin!(UnlearningMethod, "task-vector", TaskVector);
