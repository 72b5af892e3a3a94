//! Conditional sampling.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::digest::DigestBuilder;
use s3t_core::sequence::{check_factorial, factorial};
use s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Conditional sampling (S3T, section 3.3, for more than L sequences): each next slice is drawn from those that are left with
/// weight `1 - p`, so that slices that are seldom hit tend to come first. Every budget from 1 to L! works.
///
/// # Proof note
///
/// *Before*: 1 <= B <= L!. *After*: B distinct permutations, a function of seed, shard, prior, L and B. *Why*: a slice is
/// drawn only where some permutation that starts this way has not been drawn yet, so each draw ends in a new one, and with
/// B <= L! there is always one left. Where all weights are zero the draw is uniform.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conditional {}

#[typetag::serde(name = "conditional")]
impl SequenceStrategy for Conditional {
    /// Meant for more than L sequences (S3T, section 3.3): with fewer, draws are there to compare others with.
    fn is_baseline(&self, request: &SequenceRequest<'_>) -> bool {
        request.budget <= request.slices as usize
    }

    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        drawing_steps(request)
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("conditional", request)?;
        let mut sampler = Sampler::new(request, "conditional");
        (0..request.budget).map(|_| sampler.draw()).collect()
    }
}

plugin!(SequenceStrategy, "conditional", Conditional);

/// The steps of drawing a budget: each slice is drawn among all that are left.
pub(crate) fn drawing_steps(request: &SequenceRequest<'_>) -> f64 {
    4.0 * request.budget as f64 * f64::from(request.slices).powi(2)
}

/// Draws permutations without repeating one.
pub(crate) struct Sampler {
    weights: Vec<f64>,
    rng: ChaCha8Rng,
    /// The largest number of permutations that are drawn. A beginning with more continuations than that is never used up.
    max: u128,
    /// The number of permutations with this beginning that were drawn, for the beginnings that can be used up.
    taken: HashMap<Vec<SliceId>, u128>,
}

impl Sampler {
    pub(crate) fn new(request: &SequenceRequest<'_>, purpose: &'static str) -> Self {
        let seed = DigestBuilder::new(purpose).number(request.seed).number(u64::from(request.shard.0)).finish();
        let probabilities = request.prior.probabilities(request.slices);
        Self {
            weights: probabilities.into_iter().map(|probability| (1.0 - probability).max(0.0)).collect(),
            rng: ChaCha8Rng::from_seed(*seed.as_bytes()),
            max: request.budget as u128,
            taken: HashMap::new(),
        }
    }

    /// Marks a sequence as drawn.
    pub(crate) fn take(&mut self, sequence: &Sequence) {
        let slices = sequence.slices().len();
        for length in 1..=slices {
            if self.continuations(slices - length).is_some() {
                *self.taken.entry(sequence.slices()[..length].to_vec()).or_default() += 1;
            }
        }
    }

    /// The permutations of what is left behind a beginning; `None` if they cannot all be drawn.
    fn continuations(&self, left: usize) -> Option<u128> {
        factorial(left as u32).filter(|continuations| *continuations <= self.max)
    }

    /// A sequence that was not drawn before. There must be one.
    pub(crate) fn draw(&mut self) -> Result<Sequence, CoreError> {
        let slices = self.weights.len() as u32;
        let mut prefix: Vec<SliceId> = Vec::with_capacity(slices as usize);
        let mut left: Vec<SliceId> = (0..slices).map(SliceId).collect();
        while !left.is_empty() {
            let continuations = self.continuations(left.len() - 1);
            let mut open: Vec<usize> = (0..left.len()).collect();
            if let Some(continuations) = continuations {
                open.retain(|index| {
                    prefix.push(left[*index]);
                    let full = self.taken.get(&prefix).is_some_and(|taken| *taken >= continuations);
                    prefix.pop();
                    !full
                });
            }
            let index = self.pick(&left, &open);
            prefix.push(left.remove(index));
        }
        let sequence = Sequence::new(prefix, slices)?;
        self.take(&sequence);
        Ok(sequence)
    }

    fn pick(&mut self, left: &[SliceId], open: &[usize]) -> usize {
        let weights: Vec<f64> = open.iter().map(|index| self.weights[left[*index].index()]).collect();
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return open[self.rng.random_range(0..open.len())];
        }
        let mut point = self.rng.random_range(0.0..total);
        for (index, weight) in open.iter().zip(&weights) {
            if point < *weight {
                return *index;
            }
            point -= weight;
        }
        // Rounding left the point past the end: the last that can be drawn.
        let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
        open[last]
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::sequence::plan_sequences;
    use s3t_core::{Prior, ShardId};

    use super::*;

    fn choose(prior: &Prior, slices: u32, budget: usize, seed: u64) -> Vec<Sequence> {
        plan_sequences(&Conditional {}, &SequenceRequest { shard: ShardId(0), slices, budget, prior, seed }).unwrap()
    }

    #[test]
    fn safe_slices_come_first_more_often() {
        let prior = Prior::PerSlice(vec![0.9, 0.05, 0.05]);
        let first = |slice: u32| {
            (0..2000).filter(|seed| choose(&prior, 3, 1, *seed)[0].slices()[0] == SliceId(slice)).count() as f64
                / 2000.0
        };
        // 0.1 / 2.0 of the weight; five standard errors are 0.025.
        assert!((first(0) - 0.05).abs() < 0.025, "{}", first(0));
        assert!((first(1) - 0.475).abs() < 0.056, "{}", first(1));
    }

    #[test]
    fn all_permutations_can_be_drawn_even_of_certain_slices() {
        assert_eq!(choose(&Prior::PerSlice(vec![1.0, 0.0, 0.0, 0.0, 0.0]), 5, 120, 3).len(), 120);
    }
}
