//! Sequence strategies side by side.

use std::time::Instant;

use s3t_core::budget::depth::{DepthLaw, MAX_EXACT_SLICES};
use s3t_core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t_core::sequence::{PrefixTree, SequenceRequest, diversity, plan_sequences};
use s3t_core::{PartitionShape, PerShard, Prior, Sequence, SequenceStrategy, ShardId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Simulation, SimulationError, Stream};

/// The system that strategies are compared on.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Sequences of each shard.
    pub budget: usize,
    /// The probability that a request hits each slice of a shard.
    pub prior: Prior,
    /// The seed of strategies that draw, and of estimates.
    pub seed: u64,
    /// Requests to the system at which depths are compared.
    pub requests: Vec<u64>,
    /// The exponent of the score.
    pub t: u32,
    /// Trials of estimates, where depths cannot be exact.
    pub trials: usize,
}

/// The figures of one strategy. The sequences are those of shard 0; all shards have sequences like these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StrategyFigures {
    /// The strategy's plugin name.
    pub strategy: String,
    /// The reason for the choice, if the strategy gives one.
    pub reason: Option<String>,
    /// The sequences.
    pub sequences: Vec<Sequence>,
    /// Distinct first slices.
    pub heads: usize,
    /// The mean Hamming distance of two of them.
    pub diversity: f64,
    /// The sum of their published scores.
    pub score: f64,
    /// The requests that the system lasts.
    pub lifetime: Lifetime,
    /// Expected requests until every shard is dead; as in `lifetime`.
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean_deletions: f64,
    /// The expected best depth after each number of requests.
    pub depth: Vec<f64>,
    /// The half-width of a 95 % confidence interval of the worst of `depth`; `None` if they are exact.
    pub depth_confidence: Option<f64>,
    /// Distinct stages of a shard.
    pub stages: usize,
    /// Seconds that choosing the sequences took.
    pub seconds: f64,
}

impl Comparison {
    /// The figures of one strategy.
    ///
    /// # Errors
    ///
    /// The strategy's own refusal; [`SimulationError::Core`] for an invalid prior.
    pub fn of(&self, strategy: &dyn SequenceStrategy) -> Result<StrategyFigures, SimulationError> {
        let PartitionShape { shards, slices } = self.shape;
        let request =
            SequenceRequest { shard: ShardId(0), slices, budget: self.budget, prior: &self.prior, seed: self.seed };
        let start = Instant::now();
        let sequences = plan_sequences(strategy, &request)?;
        let seconds = start.elapsed().as_secs_f64();
        let probabilities = self.prior.probabilities(slices);
        let rates: Vec<f64> = probabilities.iter().map(|probability| probability / f64::from(shards)).collect();
        let first_slices = FirstSlices::of(shards.into(), &sequences, &rates);
        let (depth, depth_confidence) = if slices <= MAX_EXACT_SLICES {
            let law = DepthLaw::new(&sequences, &rates)?;
            (self.requests.iter().map(|requests| law.expected_depth(*requests)).collect(), None)
        } else {
            let simulation = Simulation {
                shape: self.shape,
                sequences: PerShard::alike(sequences.clone()),
                stream: Stream::of(&self.prior),
                records: None,
                trials: self.trials,
                seed: self.seed,
                max_requests: u64::MAX,
            };
            let curve = simulation.curve(&self.requests)?;
            let worst = curve.iter().map(|point| 1.96 * point.standard_error).fold(0.0, f64::max);
            (curve.into_iter().map(|point| point.depth).collect(), Some(worst))
        };
        let mut prefixes = PrefixTree::default();
        for sequence in &sequences {
            sequence.slices().iter().fold(PrefixTree::EMPTY, |prefix, slice| prefixes.extend(prefix, *slice).0);
        }
        let lifetime = Lifetime::of(std::slice::from_ref(&first_slices), Requests::Independent);
        Ok(StrategyFigures {
            strategy: strategy.typetag_name().to_owned(),
            reason: strategy.reason(&request),
            heads: first_slices.rates.len(),
            diversity: diversity(&sequences),
            score: sequences.iter().map(|sequence| sequence.score(&probabilities, self.t)).sum(),
            lifetime,
            mean_deletions: lifetime.all_dead,
            depth,
            depth_confidence,
            stages: prefixes.len(),
            seconds,
            sequences,
        })
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::sequence::{Cyclic, Single};

    use super::*;

    #[test]
    fn rotations_by_hand() {
        let comparison = Comparison {
            shape: PartitionShape { shards: 1, slices: 3 },
            budget: 3,
            prior: Prior::Uniform,
            seed: 0,
            requests: vec![0, 1],
            t: 1,
            trials: 100,
        };
        let figures = comparison.of(&Cyclic {}).unwrap();
        assert_eq!((figures.heads, figures.diversity, figures.stages), (3, 3.0, 9));
        // Each: 1 x 2/3 + 2 x 1/3.
        assert!((figures.score - 4.0).abs() < 1e-12);
        // One request to the one shard leaves a rotation with depth 2.
        assert!((figures.depth[0] - 3.0).abs() < 1e-12 && (figures.depth[1] - 2.0).abs() < 1e-12);
        assert!((figures.mean_deletions - 5.5).abs() < 1e-9);
        assert!(comparison.of(&Single {}).unwrap_err().to_string().contains("exactly 1"));
        let many = Comparison { shape: PartitionShape { shards: 2, slices: 22 }, ..comparison };
        assert!(many.of(&Cyclic {}).unwrap().depth_confidence.is_some());
    }
}
