//! A trial: the requests hit slices until every shard is dead.
//!
//! A system's life depends on the first slices of its sequences only, so the loop that finds it keeps one bit for each.

use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use s3t_core::{PartitionShape, PerShard};

use crate::SimulationError;
use crate::simulation::Simulation;
use crate::source::Source;

/// The result of one trial.
pub(crate) struct Life {
    /// Requests until every shard was dead, or until the stream ended.
    pub(crate) all: u64,
    /// Requests until the first shard was dead, or until the stream ended.
    pub(crate) first: u64,
    pub(crate) survived: bool,
}

/// The state that all trials start from.
pub(crate) struct Prepared<'a> {
    simulation: &'a Simulation,
    /// One bit for each slice of each shard: whether a sequence starts with it.
    first_slices: Vec<u64>,
    /// Distinct first slices of each shard.
    first_counts: Vec<u32>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(simulation: &'a Simulation) -> Result<Self, SimulationError> {
        let PartitionShape { shards, slices } = simulation.shape;
        simulation.check()?;
        let total = shards as usize * slices as usize;
        let mut first_slices = vec![0u64; total.div_ceil(64)];
        let mut first_counts = vec![0; shards as usize];
        for (shard, count) in first_counts.iter_mut().enumerate() {
            for sequence in simulation.sequences.get(shard) {
                let Some(first) = sequence.slices().first() else { continue };
                let slice = shard * slices as usize + first.index();
                let (word, bit) = (slice / 64, 1 << (slice % 64));
                *count += u32::from(first_slices[word] & bit == 0);
                first_slices[word] |= bit;
            }
            if *count == 0 {
                return Err(SimulationError::field(
                    "sequences",
                    format!("of shard {shard} are missing; give at least 1"),
                ));
            }
        }
        Ok(Self { simulation, first_slices, first_counts })
    }

    /// A trial until every shard is dead.
    pub(crate) fn life(&self, source: &mut Source<'_>, rng: &mut ChaCha8Rng) -> Life {
        match source {
            Source::Uniform(uniform) => self.life_of(rng, |rng| Some((uniform.sample(rng), true))),
            other => self.life_of(rng, |rng| other.next(rng)),
        }
    }

    fn life_of(&self, rng: &mut ChaCha8Rng, mut next: impl FnMut(&mut ChaCha8Rng) -> Option<(u32, bool)>) -> Life {
        let mut untouched = self.first_slices.clone();
        let mut left = self.first_counts.clone();
        let (mut alive, mut requests, mut first) = (left.len(), 0u64, None);
        loop {
            let Some((slice, starts)) =
                next(rng).filter(|(_, starts)| requests < self.simulation.max_requests || !starts)
            else {
                return Life { all: requests, first: first.unwrap_or(requests), survived: true };
            };
            requests += u64::from(starts);
            let bit = 1u64 << (slice % 64);
            let Some(word) = untouched.get_mut(slice as usize / 64).filter(|word| **word & bit != 0) else { continue };
            *word &= !bit;
            let shard = (slice / self.simulation.shape.slices) as usize;
            left[shard] -= 1;
            if left[shard] == 0 {
                first.get_or_insert(requests);
                alive -= 1;
                if alive == 0 {
                    return Life { all: requests, first: first.unwrap_or(requests), survived: false };
                }
            }
        }
    }

    /// A trial: how many shards have each best depth, after each number of requests in `at`.
    pub(crate) fn follow(
        &self,
        source: &mut Source<'_>,
        rng: &mut ChaCha8Rng,
        at: &[u64],
        positions: &PerShard<Vec<u32>>,
    ) -> Vec<Vec<u32>> {
        let PartitionShape { shards, slices } = self.simulation.shape;
        // Where the sequences of each shard stand, and how deep each still is: those of one shard that was hit.
        let mut prefixes: Vec<Vec<u32>> = vec![Vec::new(); shards as usize];
        let mut hit = vec![false; shards as usize * slices as usize];
        let mut best = vec![slices; shards as usize];
        let mut counts = vec![0u32; slices as usize + 1];
        counts[slices as usize] = shards;
        let (mut requests, mut found) = (0u64, Vec::with_capacity(at.len()));
        // When all shards are dead nothing changes any more.
        while found.len() < at.len() && counts[0] < shards {
            let Some((slice, starts)) = source.next(rng) else { break };
            if starts {
                // What follows belongs to the next request: note down what was reached.
                while found.len() < at.len() && at[found.len()] <= requests {
                    found.push(counts.clone());
                }
                requests += 1;
            }
            let Some(hit_before) = hit.get_mut(slice as usize) else { continue };
            if std::mem::replace(hit_before, true) {
                continue;
            }
            let shard = (slice / slices) as usize;
            // A sequence is as deep as the first of its slices that was hit.
            let of_shard = positions.get(shard);
            let count = of_shard.len() / slices as usize;
            let depths = &mut prefixes[shard];
            if depths.is_empty() {
                depths.resize(count, slices);
            }
            let places = &of_shard[(slice % slices) as usize * count..][..count];
            depths.iter_mut().zip(places).for_each(|(depth, place)| *depth = (*depth).min(*place));
            let depth = depths.iter().copied().max().unwrap_or(0);
            counts[best[shard] as usize] -= 1;
            counts[depth as usize] += 1;
            best[shard] = depth;
        }
        // All numbers below `requests` were noted down when that request started.
        found.resize(at.len(), counts);
        found
    }
}
