//! SCRUB: a student that leaves its teacher on some records and stays with it on the others.

use s3t_core::Record;
use s3t_models::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::steps::{Passes, classes, descend};
use super::{Adapter, Bench, Goal, Learnt, Term, UnlearningMethod};
use crate::EvalError;

/// SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): in turns a pass away from the old model on what is forgotten, and a pass near it, by
/// `alpha` times the divergence and `gamma` times the loss, on what is left. The last passes are of the second kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// Passes over what is left.
    pub epochs: usize,
    /// Passes over what is forgotten, each before a pass over what is left.
    pub max_epochs: usize,
    /// The weight of the divergence from the old model on what is left.
    pub alpha: f64,
    /// The weight of the loss on what is left.
    pub gamma: f64,
    /// The temperature of divergences.
    pub temperature: f64,
    /// The learning rate, as a share of the pipeline's.
    pub rate: f64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { epochs: 2, max_epochs: 1, alpha: 0.5, gamma: 1.0, temperature: 4.0, rate: 0.2 }
    }
}

impl Scrub {
    fn teacher(&self, logits: Vec<Vec<f32>>) -> Goal {
        Goal::Teacher { logits, temperature: self.temperature }
    }

    /// The loss of a step away from the old model, whose outputs are given.
    pub fn away<'r>(&self, forgotten: Vec<&'r Input<'r>>, old: Vec<Vec<f32>>) -> Vec<Term<'r>> {
        vec![Term { batch: forgotten, goal: self.teacher(old), weight: -1.0 }]
    }

    /// The loss of a step near the old model, whose outputs are given.
    pub fn near<'r>(&self, left: Vec<&'r Input<'r>>, old: Vec<Vec<f32>>) -> Vec<Term<'r>> {
        let goal = self.teacher(old);
        vec![Term { batch: left.clone(), goal, weight: self.alpha }, classes(left, self.gamma)]
    }
}

#[typetag::serde(name = "scrub")]
impl UnlearningMethod for Scrub {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone| {
            let (left, gone) = (bench.tuner().prepare(&adapter.records)?, bench.tuner().prepare(gone)?);
            let teacher = adapter.values.clone();
            let of_left = bench.tuner().logits(&teacher, &left)?;
            let of_gone = bench.tuner().logits(&teacher, &gone)?;
            for epoch in 0..self.epochs.max(self.max_epochs) {
                let passes = Passes { epochs: 1, rate: self.rate, seed: seed.wrapping_add(epoch as u64) };
                if epoch < self.max_epochs {
                    descend(bench.means(), &mut adapter.values, &gone, passes, |batch| {
                        let old = rows(&batch, &gone, &of_gone);
                        self.away(batch, old)
                    })?;
                }
                descend(bench.means(), &mut adapter.values, &left, passes, |batch| {
                    let old = rows(&batch, &left, &of_left);
                    self.near(batch, old)
                })?;
            }
            Ok(())
        })
    }
}

/// The outputs for the records of a batch, which are some of `all`.
fn rows(batch: &[&Input<'_>], all: &[Input<'_>], outputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let of = |input: &&Input<'_>| {
        let place = all.iter().position(|other| std::ptr::eq(*input, other));
        place.map(|place| outputs[place].clone()).unwrap_or_default()
    };
    batch.iter().map(of).collect()
}

s3t_core::plugin!(UnlearningMethod, "scrub", Scrub);
