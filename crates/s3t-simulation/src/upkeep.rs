//! The training that a stream of requests makes necessary.

use s3t_core::LayerGroups;
use s3t_core::budget::cost::CostModel;
use s3t_core::budget::lifetime::probability_all_dead;
use s3t_core::budget::upkeep::{cost_with_repairs, cost_with_retraining, repair_cost};
use s3t_core::sequence::PrefixTree;

use crate::planned::LIVES;
use crate::{PlannedSystem, SimulationError};

/// The largest number of requests that upkeep is counted over.
const MAX_REQUESTS: u64 = 20_000;

/// The cost of a stream of requests, first build included, in FLOPs.
#[derive(Debug, Clone, PartialEq)]
pub struct Upkeep {
    /// The policy: full retraining, SISA, S3T, repairs.
    pub policy: String,
    /// The first build.
    pub build: f64,
    /// `true` if the law of the lifetime was simulated: it is exact where all first slices are equally likely.
    pub estimated: bool,
    /// Everything up to each number of requests `0..=n`.
    pub total: Vec<f64>,
}

impl PlannedSystem {
    /// The cost of `requests` deletions in training, first build included: retraining everything at each (full retraining),
    /// SISA and S3T trained again when every shard is dead, and S3T repaired after every `every` requests (S3T, figure 9).
    ///
    /// # Errors
    ///
    /// [`SimulationError::InvalidField`] if `every` is 0 or `requests` above 20,000 (the sum takes their square), or for a system that cannot be simulated where the law of its lifetime
    /// has no closed form.
    pub fn upkeep(&self, requests: u64, every: u64) -> Result<Vec<Upkeep>, SimulationError> {
        if every == 0 {
            return Err(SimulationError::field("repair_every", "is 0; use at least 1"));
        }
        if requests > MAX_REQUESTS {
            let problem = format!("is {requests}; it takes up to {MAX_REQUESTS}");
            return Err(SimulationError::field("requests", problem));
        }
        // One model over all blocks and all records, with as many passes over a record as a sequence of L stages takes.
        let passes = self.epochs.saturating_mul(u64::from(self.shape.slices) + 1).div_ceil(2);
        let whole = LayerGroups::from_top(self.groups.blocks(), 1, None)?;
        let full = CostModel { groups: &whole, model: self.model, epochs: passes }.stage(1, self.records()).flops;
        let sisa = self.sisa();
        let (sisa_law, sisa_estimated) = sisa.law_of_lifetime(requests)?;
        let (law, estimated) = self.law_of_lifetime(requests)?;
        let (own, of_sisa) = (self.cost().shared.flops, sisa.cost().shared.flops);
        let budget = self.sequences.get(0).len();
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
            let (sizes, rates) = (self.slice_sizes.get(shard), self.rates.get(shard));
            let (mut tree, mut stages) = (PrefixTree::default(), Vec::new());
            for sequence in self.sequences.get(shard) {
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
    pub(crate) fn law_of_lifetime(&self, requests: u64) -> Result<(Vec<f64>, bool), SimulationError> {
        let first_slices = self.own_first_slices();
        let count: u64 = first_slices.iter().map(|group| group.shards * group.rates.len() as u64).sum();
        let mut rates = first_slices.iter().flat_map(|group| &group.rates);
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
}
