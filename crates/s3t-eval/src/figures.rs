//! The figures of a plan, found before anything is trained.

use std::collections::BTreeMap;

use s3t_core::cost::{CostModel, ModelShape, PlanCost};
use s3t_core::deletion::{Lifetime, Requests, ShardHeads, expected_requests_until_all_dead, probability_all_dead};
use s3t_core::depth::{DepthLaw, MAX_EXACT_SLICES, retention_lemma_2};
use s3t_core::sequence::PrefixTree;
use s3t_core::upkeep::{cost_with_repairs, cost_with_retraining, repair_cost};
use s3t_core::{CoreError, LayerGroups, PartitionShape, Sequence, SliceId};
use serde::Serialize;

use crate::EvalError;
use crate::simulate::{CurvePoint, Simulation, Stream};

/// The most requests that upkeep is counted over.
const MOST_REQUESTS: u64 = 20_000;

/// Simulated lives, where the law of a lifetime has no closed form.
const LIVES: usize = 20_000;

/// A system as it is planned.
#[derive(Debug, Clone)]
pub struct PlannedSystem {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// The sequences of each shard; one entry stands for all shards.
    pub sequences: Vec<Vec<Sequence>>,
    /// The probability that a request to the system hits each slice, `[shard][slice]`; one entry stands for all shards, each
    /// with these.
    pub rates: Vec<Vec<f64>>,
    /// Records of each slice, `[shard][slice]`; one entry stands for all shards.
    pub slice_sizes: Vec<Vec<u64>>,
    /// The layer groups.
    pub groups: LayerGroups,
    /// The model.
    pub model: ModelShape,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// The seed of estimates, where figures cannot be exact.
    pub seed: u64,
}

/// The best depth of a shard after some requests to the system.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// What a stream of requests costs, first build included, in FLOPs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upkeep {
    /// What is done about deletions.
    pub policy: String,
    /// The first build.
    pub build: f64,
    /// Whether the law of the lifetime was simulated: it is exact where all first slices are equally likely.
    pub estimated: bool,
    /// Everything up to each number of requests `0..=n`.
    pub total: Vec<f64>,
}

/// How long a planned system lasts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LifetimeFigures {
    /// With requests that follow the prior and slices that never run out.
    pub independent: Lifetime,
    /// With every record deleted once, in random order.
    pub finite: Lifetime,
    /// Expected requests until every shard is dead with the first sequence of each shard only (SISA), under the same
    /// requests.
    pub sisa: f64,
}

impl PlannedSystem {
    /// What it costs to train and to keep.
    pub fn cost(&self) -> PlanCost {
        let costs = CostModel { groups: &self.groups, model: self.model, epochs: self.epochs };
        self.kinds().into_iter().fold(PlanCost::default(), |sum, (shard, count)| {
            let orders: Vec<&[SliceId]> = self.sequences_of(shard).iter().map(Sequence::slices).collect();
            let one = costs.shard(&orders, self.sizes_of(shard));
            PlanCost { shared: sum.shared + one.shared * count, unshared: sum.unshared + one.unshared * count }
        })
    }

    /// How many requests it lasts.
    pub fn lifetime(&self) -> LifetimeFigures {
        let sizes = |shard: usize| self.sizes_of(shard).iter().map(|size| *size as f64).collect();
        LifetimeFigures {
            independent: Lifetime::of(&self.own_heads(), Requests::Independent),
            finite: Lifetime::of(&self.heads(&sizes), Requests::Finite(self.records())),
            sisa: expected_requests_until_all_dead(&self.sisa().own_heads(), Requests::Independent),
        }
    }

    /// About how many elementary steps [`depths`](Self::depths) at so many numbers of requests and [`upkeep`](Self::upkeep) over
    /// `requests` take.
    pub fn steps(&self, points: usize, requests: u64) -> f64 {
        let PartitionShape { shards, slices } = self.shape;
        let (shards, slices, requests) = (f64::from(shards), f64::from(slices), requests as f64);
        let entries = self.sequences.len().max(self.slice_sizes.len()).max(self.rates.len()) as f64;
        let places: usize = self.sequences.iter().map(Vec::len).sum();
        let places = places as f64 * slices;
        let uniform = self.rates.iter().flatten().all(|rate| *rate == self.rates[0][0]);
        let depths = if self.shape.slices <= MAX_EXACT_SLICES {
            let laws = if uniform { 1.0 } else { points as f64 };
            // Shards that are alike share a law; they are at most so many as there are entries.
            entries * slices * slices.exp2() * (1.0 + laws)
        } else {
            let trials = (2000.0 / shards).max(20.0);
            trials * (shards * slices * 20.0 + places / self.sequences.len() as f64 * shards)
        };
        // Of S3T and of SISA: by the chain of heads, or by simulated lives.
        let lives = if uniform { shards * slices * requests.min(2e9) } else { f64::INFINITY };
        let upkeep = 2.0 * lives.min(LIVES as f64 * (shards * (1.0 + slices / 64.0) + 10.0 * requests));
        depths + upkeep + requests * requests + 20.0 * places
    }

    /// All records.
    pub fn records(&self) -> u64 {
        let each = self.slice_sizes.iter().flatten().fold(0u64, |sum, size| sum.saturating_add(*size));
        if self.slice_sizes.len() == 1 { each.saturating_mul(u64::from(self.shape.shards)) } else { each }
    }

    /// The same system with the first sequence of each shard only: SISA.
    #[must_use]
    pub fn sisa(&self) -> Self {
        let first = |sequences: &Vec<Sequence>| sequences.iter().take(1).cloned().collect();
        Self { sequences: self.sequences.iter().map(first).collect(), ..self.clone() }
    }

    fn own_heads(&self) -> Vec<ShardHeads> {
        self.heads(&|shard| self.rates_of(shard).to_vec())
    }

    fn heads(&self, rates: &dyn Fn(usize) -> Vec<f64>) -> Vec<ShardHeads> {
        let of = |(shard, count): (usize, u64)| ShardHeads::of(count, self.sequences_of(shard), &rates(shard));
        self.kinds().into_iter().map(of).collect()
    }

    /// The best depth after each of these numbers of requests to the system; `utility[k]` is what a model of depth k is
    /// worth (depth 0: a dead shard).
    ///
    /// # Errors
    ///
    /// [`EvalError::Core`] for a prior that is none, or unless there are L + 1 utilities.
    pub fn depths(&self, at: &[u64], utility: Option<&[f64]>) -> Result<Vec<DepthFigures>, EvalError> {
        let PartitionShape { shards, slices } = self.shape;
        if let Some(utility) = utility.filter(|utility| utility.len() != slices as usize + 1) {
            let problem = format!("has {} values; give {}, for depth 0 to {slices}", utility.len(), slices + 1);
            return Err(CoreError::field("utility", problem).into());
        }
        let uniform = self.rates.iter().flatten().all(|rate| *rate == self.rates[0][0]);
        let budget = self.sequences_of(0).len() as u64;
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
            let (kind, share) = (DepthLaw::new(self.sequences_of(shard), self.rates_of(shard))?, count as f64);
            for (law, requests) in laws.iter_mut().zip(at) {
                let chances = kind.distribution(*requests);
                law.iter_mut().zip(chances).for_each(|(sum, chance)| *sum += share / f64::from(shards) * chance);
            }
        }
        Ok(at.iter().zip(&laws).map(|(requests, law)| figures(*requests, law, None)).collect())
    }

    /// What `requests` deletions cost in training, first build included: retraining everything at each (full retraining),
    /// SISA and S3T trained again when every shard is dead, and S3T repaired after every `every` requests (S3T, figure 9).
    ///
    /// # Errors
    ///
    /// [`EvalError::InvalidField`] if `every` is 0 or `requests` above 20,000 (the sum takes their square), or for a system that cannot be simulated where the law of its lifetime
    /// has no closed form.
    pub fn upkeep(&self, requests: u64, every: u64) -> Result<Vec<Upkeep>, EvalError> {
        if every == 0 {
            return Err(EvalError::InvalidField {
                field: "repair_every".into(),
                problem: "is 0; use at least 1".into(),
            });
        }
        if requests > MOST_REQUESTS {
            let problem = format!("is {requests}; it takes up to {MOST_REQUESTS}");
            return Err(EvalError::InvalidField { field: "requests".into(), problem });
        }
        // One model over all blocks and all records, with as many passes over a record as a sequence of L stages takes.
        let passes = self.epochs.saturating_mul(u64::from(self.shape.slices) + 1).div_ceil(2);
        let whole = LayerGroups::from_top(self.groups.blocks(), 1, None)?;
        let full = CostModel { groups: &whole, model: self.model, epochs: passes }.stage(1, self.records()).flops;
        let sisa = self.sisa();
        let (sisa_law, sisa_estimated) = sisa.law_of_lifetime(requests)?;
        let (law, estimated) = self.law_of_lifetime(requests)?;
        let (own, of_sisa) = (self.cost().shared.flops, sisa.cost().shared.flops);
        let budget = self.sequences_of(0).len();
        Ok(vec![
            Upkeep {
                policy: "full retraining at each request".into(),
                build: full,
                total: cost_with_repairs(full, full, 1, requests),
                estimated: false,
            },
            Upkeep {
                policy: "SISA, retrained when dead".into(),
                build: of_sisa,
                total: cost_with_retraining(of_sisa, &sisa_law),
                estimated: sisa_estimated,
            },
            Upkeep {
                policy: format!("S3T with {budget} sequences, retrained when dead"),
                build: own,
                total: cost_with_retraining(own, &law),
                estimated,
            },
            Upkeep {
                policy: format!("S3T with {budget} sequences, repaired after {every}"),
                build: own,
                total: cost_with_repairs(own, self.repair(every), every, requests),
                estimated: false,
            },
        ])
    }

    /// The expected cost in FLOPs of a repair after so many requests since the last.
    fn repair(&self, every: u64) -> f64 {
        let costs = CostModel { groups: &self.groups, model: self.model, epochs: self.epochs };
        let of_shard = |shard: usize| {
            let (sizes, rates) = (self.sizes_of(shard), self.rates_of(shard));
            let (mut tree, mut stages) = (PrefixTree::default(), Vec::new());
            for sequence in self.sequences_of(shard) {
                let (mut hit, mut records, mut prefix) = (0.0, 0u64, PrefixTree::EMPTY);
                for (depth, slice) in (1..).zip(sequence.slices()) {
                    hit += rates[slice.index()];
                    records = records.saturating_add(sizes[slice.index()]);
                    let is_new;
                    (prefix, is_new) = tree.extend(prefix, *slice);
                    if is_new {
                        stages.push((hit, costs.stage(depth, records).flops));
                    }
                }
            }
            repair_cost(stages, every)
        };
        self.kinds().into_iter().map(|(shard, count)| count as f64 * of_shard(shard)).sum()
    }

    /// `P[every shard is dead]` after each number of requests, and whether it is an estimate: exact if all heads are equally
    /// likely, else the law of 20,000 simulated lives.
    fn law_of_lifetime(&self, requests: u64) -> Result<(Vec<f64>, bool), EvalError> {
        let heads = self.own_heads();
        let count: u64 = heads.iter().map(|group| group.shards * group.rates.len() as u64).sum();
        let mut rates = heads.iter().flat_map(|group| &group.rates);
        let first = rates.next().copied().unwrap_or(0.0);
        if rates.all(|rate| *rate == first) && count.saturating_mul(requests) < 1 << 30 {
            return Ok((probability_all_dead(count, first, requests), false));
        }
        let trials = LIVES;
        let mut simulation = self.simulation(trials);
        simulation.max_requests = requests;
        let mut law = vec![0.0; requests as usize + 1];
        for life in simulation.lives()?.into_iter().filter(|life| !life.survived) {
            law[life.all as usize] += 1.0 / trials as f64;
        }
        let mut sum = 0.0;
        law.iter_mut().for_each(|chance| {
            sum += *chance;
            *chance = sum;
        });
        Ok((law, true))
    }

    fn simulation(&self, trials: usize) -> Simulation {
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

    fn sequences_of(&self, shard: usize) -> &[Sequence] {
        if self.sequences.len() == 1 { &self.sequences[0] } else { &self.sequences[shard] }
    }

    fn sizes_of(&self, shard: usize) -> &[u64] {
        if self.slice_sizes.len() == 1 { &self.slice_sizes[0] } else { &self.slice_sizes[shard] }
    }

    fn rates_of(&self, shard: usize) -> &[f64] {
        if self.rates.len() == 1 { &self.rates[0] } else { &self.rates[shard] }
    }

    /// The shards that differ in sequences, sizes or rates, one of each kind with the number of its like.
    fn kinds(&self) -> Vec<(usize, u64)> {
        type Kind<'a> = (&'a [Sequence], &'a [u64], Vec<u64>);
        let entries = self.sequences.len().max(self.slice_sizes.len()).max(self.rates.len());
        if entries == 1 {
            return vec![(0, self.shape.shards.into())];
        }
        let mut kinds: BTreeMap<Kind<'_>, (usize, u64)> = BTreeMap::new();
        for shard in 0..entries {
            let rates = self.rates_of(shard).iter().map(|rate| rate.to_bits()).collect();
            kinds.entry((self.sequences_of(shard), self.sizes_of(shard), rates)).or_insert((shard, 0)).1 += 1;
        }
        let mut kinds: Vec<(usize, u64)> = kinds.into_values().collect();
        kinds.sort_unstable();
        kinds
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::deletion::deletion_rate;
    use s3t_core::prior::rates_of_prior;
    use s3t_core::sequence::{Cyclic, SequenceRequest, SequenceStrategy};
    use s3t_core::{Prior, ShardId};

    use super::*;

    fn system(shards: u32, slices: u32, budget: usize, prior: &Prior) -> PlannedSystem {
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior, seed: 0 };
        let sequences = vec![Cyclic {}.sequences(&request).unwrap()];
        PlannedSystem {
            shape: PartitionShape { shards, slices },
            sequences,
            rates: rates_of_prior(prior, PartitionShape { shards, slices }),
            slice_sizes: vec![vec![100; slices as usize]],
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
        each.sequences = vec![once.sequences[0].clone(); 3];
        each.slice_sizes = vec![once.slice_sizes[0].clone(); 3];
        each.rates = vec![once.rates[0].clone(); 3];
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
