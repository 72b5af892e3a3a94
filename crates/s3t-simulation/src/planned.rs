//! A system as it is planned, with its cost and lifetime.

use std::collections::BTreeMap;

use s3t_core::budget::cost::{CostModel, ModelShape, PlanCost};
use s3t_core::budget::depth::MAX_EXACT_SLICES;
use s3t_core::budget::lifetime::{FirstSlices, Lifetime, Requests, expected_requests_until_all_dead};
use s3t_core::{LayerGroups, PartitionShape, PerShard, Sequence, SliceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Simulation, Stream};

/// Simulated lives, where the law of a lifetime has no closed form.
pub(crate) const LIVES: usize = 20_000;

/// A system as it is planned.
#[derive(Debug, Clone)]
pub struct PlannedSystem {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// The sequences of each shard.
    pub sequences: PerShard<Vec<Sequence>>,
    /// The probability that a request to the system hits each slice of each shard.
    pub rates: PerShard<Vec<f64>>,
    /// The records of each slice of each shard.
    pub slice_sizes: PerShard<Vec<u64>>,
    /// The layer groups.
    pub groups: LayerGroups,
    /// The model.
    pub model: ModelShape,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// The seed of estimates, where figures cannot be exact.
    pub seed: u64,
}

/// The requests that a planned system lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LifetimeFigures {
    /// With requests that follow the prior and slices that never run out.
    pub independent: Lifetime,
    /// With every record deleted once, in random order.
    pub finite: Lifetime,
    /// Expected requests until every shard is dead with the first sequence of each shard only (SISA), under the same
    /// requests.
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub sisa: f64,
}

impl PlannedSystem {
    /// The cost of training and storage.
    pub fn cost(&self) -> PlanCost {
        let costs = CostModel { groups: &self.groups, model: self.model, epochs: self.epochs };
        self.kinds().into_iter().fold(PlanCost::default(), |sum, (shard, count)| {
            let orders: Vec<&[SliceId]> = self.sequences.get(shard).iter().map(Sequence::slices).collect();
            let one = costs.shard(&orders, self.slice_sizes.get(shard));
            PlanCost { shared: sum.shared + one.shared * count, unshared: sum.unshared + one.unshared * count }
        })
    }

    /// The requests that the system lasts.
    pub fn lifetime(&self) -> LifetimeFigures {
        let sizes = |shard: usize| self.slice_sizes.get(shard).iter().map(|size| *size as f64).collect();
        LifetimeFigures {
            independent: Lifetime::of(&self.own_first_slices(), Requests::Independent),
            finite: Lifetime::of(&self.first_slices(&sizes), Requests::Finite(self.records())),
            sisa: expected_requests_until_all_dead(&self.sisa().own_first_slices(), Requests::Independent),
        }
    }

    /// About how many elementary steps [`depths`](Self::depths) at so many numbers of requests and [`upkeep`](Self::upkeep) over
    /// `requests` take.
    pub fn steps(&self, points: usize, requests: u64) -> f64 {
        let PartitionShape { shards, slices } = self.shape;
        let (shards, slices, requests) = (f64::from(shards), f64::from(slices), requests as f64);
        let entries = self.entries() as f64;
        let places: usize = self.sequences.entries().iter().map(Vec::len).sum();
        let places = places as f64 * slices;
        let uniform = self.rates_are_equal();
        let depths = if self.shape.slices <= MAX_EXACT_SLICES {
            let laws = if uniform { 1.0 } else { points as f64 };
            // Shards that are alike share a law; they are at most so many as there are entries.
            entries * slices * slices.exp2() * (1.0 + laws)
        } else {
            let trials = (2000.0 / shards).max(20.0);
            trials * (shards * slices * 20.0 + places / self.sequences.entries().len() as f64 * shards)
        };
        // Of S3T and of SISA: by the chain of heads, or by simulated lives.
        let lives = if uniform { shards * slices * requests.min(2e9) } else { f64::INFINITY };
        let upkeep = 2.0 * lives.min(LIVES as f64 * (shards * (1.0 + slices / 64.0) + 10.0 * requests));
        depths + upkeep + requests * requests + 20.0 * places
    }

    /// All records.
    pub fn records(&self) -> u64 {
        let each = self.slice_sizes.entries().iter().flatten().fold(0u64, |sum, size| sum.saturating_add(*size));
        if self.slice_sizes.is_alike() { each.saturating_mul(u64::from(self.shape.shards)) } else { each }
    }

    /// The same system with the first sequence of each shard only: SISA.
    #[must_use]
    pub fn sisa(&self) -> Self {
        let first = |sequences: &Vec<Sequence>| sequences.iter().take(1).cloned().collect();
        Self { sequences: self.sequences.map(first), ..self.clone() }
    }

    pub(crate) fn own_first_slices(&self) -> Vec<FirstSlices> {
        self.first_slices(&|shard| self.rates.get(shard).clone())
    }

    fn first_slices(&self, rates: &dyn Fn(usize) -> Vec<f64>) -> Vec<FirstSlices> {
        let of = |(shard, count): (usize, u64)| FirstSlices::of(count, self.sequences.get(shard), &rates(shard));
        self.kinds().into_iter().map(of).collect()
    }

    pub(crate) fn simulation(&self, trials: usize) -> Simulation {
        Simulation {
            shape: self.shape,
            sequences: self.sequences.clone(),
            stream: Stream::Rates(self.rates.clone()),
            records: None,
            trials,
            seed: self.seed,
            max_requests: u64::MAX,
        }
    }

    /// `true` if a request hits every slice of the system with the same probability.
    pub(crate) fn rates_are_equal(&self) -> bool {
        let mut rates = self.rates.entries().iter().flatten();
        rates.next().is_none_or(|first| rates.all(|rate| rate == first))
    }

    /// The largest number of entries of sequences, sizes and rates: 1, or the number of shards.
    fn entries(&self) -> usize {
        self.sequences.entries().len().max(self.slice_sizes.entries().len()).max(self.rates.entries().len())
    }

    /// The shards that differ in sequences, sizes or rates, one of each kind with the number of its like.
    pub(crate) fn kinds(&self) -> Vec<(usize, u64)> {
        type Kind<'a> = (&'a [Sequence], &'a [u64], Vec<u64>);
        let entries = self.entries();
        if entries == 1 {
            return vec![(0, self.shape.shards.into())];
        }
        let mut kinds: BTreeMap<Kind<'_>, (usize, u64)> = BTreeMap::new();
        for shard in 0..entries {
            let rates = self.rates.get(shard).iter().map(|rate| rate.to_bits()).collect();
            kinds.entry((self.sequences.get(shard), self.slice_sizes.get(shard), rates)).or_insert((shard, 0)).1 += 1;
        }
        let mut kinds: Vec<(usize, u64)> = kinds.into_values().collect();
        kinds.sort_unstable();
        kinds
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::budget::lifetime::deletion_rate;
    use s3t_core::budget::prior::rates_of_prior;
    use s3t_core::sequence::{Cyclic, SequenceRequest, SequenceStrategy};
    use s3t_core::{Prior, ShardId};

    use super::*;

    fn system(shards: u32, slices: u32, budget: usize, prior: &Prior) -> PlannedSystem {
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior, seed: 0 };
        let sequences = PerShard::alike(Cyclic {}.sequences(&request).unwrap());
        PlannedSystem {
            shape: PartitionShape { shards, slices },
            sequences,
            rates: rates_of_prior(prior, PartitionShape { shards, slices }),
            slice_sizes: PerShard::alike(vec![100; slices as usize]),
            groups: LayerGroups::from_top(2 * slices as usize, slices, None).unwrap(),
            model: ModelShape::transformer(2 * slices as usize, 64, 256, 17, 8, 10),
            epochs: 3,
            seed: 0,
        }
    }

    #[test]
    fn shards_that_are_alike_may_be_given_once_or_each() {
        let once = system(3, 4, 5, &Prior::Uniform);
        let mut each = once.clone();
        each.sequences = PerShard::each(vec![once.sequences.first().clone(); 3]).unwrap();
        each.slice_sizes = PerShard::each(vec![once.slice_sizes.first().clone(); 3]).unwrap();
        each.rates = PerShard::each(vec![once.rates.first().clone(); 3]).unwrap();
        let (one, other) = (once.cost(), each.cost());
        assert!((one.shared.flops / other.shared.flops - 1.0).abs() < 1e-12);
        assert_eq!(one.shared.stages, other.shared.stages);
        assert_eq!(once.lifetime(), each.lifetime());
        assert!((once.lifetime().independent.all_dead - deletion_rate(3, 4, 4)).abs() < 1e-9);
        let depth = |system: &PlannedSystem| system.depths(&[5], None).unwrap()[0].expected_depth;
        assert!((depth(&once) - depth(&each)).abs() < 1e-12);
    }

    #[test]
    fn many_slices_are_estimated_and_say_so() {
        let utility: Vec<f64> = (0..25).map(f64::from).collect();
        let depths = system(2, 24, 3, &Prior::Uniform).depths(&[0, 10], Some(&utility)).unwrap();
        assert_eq!(depths[1].expected_utility, Some(depths[1].expected_depth));
        assert_eq!((depths[0].retention[23], depths[0].retention.len(), depths[1].lemma_2_error), (1.0, 24, None));
        assert_eq!(depths[0].expected_depth, 24.0);
        assert!(depths[1].confidence.is_some_and(|width| width > 0.0 && width < 1.0));
        let exact = system(2, 4, 3, &Prior::Uniform).depths(&[0], Some(&[0.0, 0.1, 0.2, 0.3, 0.9])).unwrap();
        assert_eq!((exact[0].confidence, exact[0].expected_utility), (None, Some(0.9)));
        assert!(system(2, 4, 3, &Prior::Uniform).depths(&[0], Some(&[0.5])).is_err());
    }

    #[test]
    fn exact_and_simulated_laws_of_the_lifetime_agree() {
        let (exact, estimated) = system(2, 3, 3, &Prior::Uniform).law_of_lifetime(60).unwrap();
        assert!(!estimated);
        // All but equal, so that the law is simulated.
        let simulated = system(2, 3, 3, &Prior::PerSlice(vec![1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0 - 1e-9]));
        let (simulated, estimated) = simulated.law_of_lifetime(60).unwrap();
        assert!(estimated);
        // The Kolmogorov distance of 20,000 draws is below 0.0138 but for one in 10^3.
        let distance = exact.iter().zip(simulated).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
        assert!(distance < 0.0138, "{distance}");
    }

    #[test]
    fn sisa_and_lemma_2_are_for_the_requests_at_hand() {
        let system = system(2, 3, 3, &Prior::PerSlice(vec![0.6, 0.3, 0.1]));
        // One head of rate 0.3 in each of two shards: 1/0.3 + 1/0.6.
        assert!((system.lifetime().sisa - 5.0).abs() < 1e-9);
        assert!(system.depths(&[3], None).unwrap()[0].lemma_2.is_empty());
    }

    #[test]
    fn sequences_pay_off_over_a_long_stream() {
        let upkeep = system(5, 4, 4, &Prior::Uniform).upkeep(1000, 20).unwrap();
        let total: Vec<f64> = upkeep.iter().map(|policy| policy.total[1000]).collect();
        assert!(total[0] > total[1], "full retraining costs most");
        // Two lives of a build cost 4 builds of SISA each, and last 1.58 times as long.
        let lives = (upkeep[1].total[1000] / upkeep[1].build, upkeep[2].total[1000] / upkeep[2].build);
        assert!((lives.0 / lives.1 - 72.0 / 45.7).abs() < 0.08, "{lives:?}");
        assert!(system(1, 2, 1, &Prior::Uniform).upkeep(10, 0).is_err());
        assert!(system(1, 2, 1, &Prior::Uniform).upkeep(u64::MAX, 1).is_err());
    }
}
