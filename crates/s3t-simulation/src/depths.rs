//! The best depths of a planned system as requests come in.

use s3t_core::budget::depth::{DepthLaw, MAX_EXACT_SLICES, retention_lemma_2};
use s3t_core::{CoreError, PartitionShape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CurvePoint, PlannedSystem, SimulationError};

/// The best depth of a shard after some requests to the system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DepthFigures {
    /// Requests.
    pub requests: u64,
    /// The expected best depth, averaged over shards.
    pub expected_depth: f64,
    /// The half-width of a 95 % confidence interval, if the figure is an estimate: exact ones go up to 20 slices.
    pub confidence: Option<f64>,
    /// `P[depth >= k]` for k in `1..=L`, averaged over shards.
    pub retention: Vec<f64>,
    /// The paper's Lemma 2 for the same k, an approximation for slices that are equally likely; empty where they are not.
    pub lemma_2: Vec<f64>,
    /// The largest difference of the two over k; `None` for estimates and where there is no Lemma 2.
    pub lemma_2_error: Option<f64>,
    /// The expected utility, if utilities were given.
    pub expected_utility: Option<f64>,
}

impl PlannedSystem {
    /// The best depth after each of these numbers of requests to the system; `utility[k]` is what a model of depth k is
    /// worth (depth 0: a dead shard).
    ///
    /// # Errors
    ///
    /// [`SimulationError::Core`] for an invalid prior, or unless there are L + 1 utilities.
    pub fn depths(&self, at: &[u64], utility: Option<&[f64]>) -> Result<Vec<DepthFigures>, SimulationError> {
        let PartitionShape { shards, slices } = self.shape;
        if let Some(utility) = utility.filter(|utility| utility.len() != slices as usize + 1) {
            let problem = format!("has {} values; give {}, for depth 0 to {slices}", utility.len(), slices + 1);
            return Err(CoreError::field("utility", problem).into());
        }
        let uniform = self.rates_are_equal();
        let budget = self.sequences.get(0).len() as u64;
        let lemma_2 = |requests: u64| -> Vec<f64> {
            let depths = 1..=if uniform { slices } else { 0 };
            depths.map(|depth| retention_lemma_2(depth, requests, shards, slices, budget)).collect()
        };
        let figures = |requests: u64, law: &[f64], confidence: Option<f64>| {
            let weighted = |worth: &dyn Fn(usize) -> f64| -> f64 {
                law.iter().enumerate().map(|(depth, chance)| chance * worth(depth)).sum()
            };
            let retention: Vec<f64> = (1..law.len()).map(|depth| law[depth..].iter().sum()).collect();
            let lemma_2 = lemma_2(requests);
            let error = |(exact, lemma): (&f64, &f64)| (exact - lemma).abs();
            let largest = retention.iter().zip(&lemma_2).map(error).reduce(f64::max);
            DepthFigures {
                requests,
                expected_depth: weighted(&|depth| depth as f64),
                confidence,
                lemma_2_error: largest.filter(|_| confidence.is_none()),
                retention,
                lemma_2,
                expected_utility: utility.map(|utility| weighted(&|depth| utility[depth])),
            }
        };
        if slices > MAX_EXACT_SLICES {
            // A trial averages over shards, so many shards need few trials.
            let trials = (2000 / shards as usize).max(20);
            let curve = self.simulation(trials).curve(at)?;
            let of_point =
                |point: &CurvePoint| figures(point.requests, &point.depths, Some(1.96 * point.standard_error));
            return Ok(curve.iter().map(of_point).collect());
        }
        // One law at a time: each takes 2^L bytes.
        let mut laws = vec![vec![0.0; slices as usize + 1]; at.len()];
        for (shard, count) in self.kinds() {
            let (kind, share) = (DepthLaw::new(self.sequences.get(shard), self.rates.get(shard))?, count as f64);
            for (law, requests) in laws.iter_mut().zip(at) {
                let chances = kind.distribution(*requests);
                law.iter_mut().zip(chances).for_each(|(sum, chance)| *sum += share / f64::from(shards) * chance);
            }
        }
        Ok(at.iter().zip(&laws).map(|(requests, law)| figures(*requests, law, None)).collect())
    }
}
