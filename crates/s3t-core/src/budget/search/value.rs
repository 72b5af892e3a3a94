//! The figures of the shapes on the grid.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::grid::{of_shard, own_shards, shard_counts};
use super::request::{Goal, SearchRequest};
use crate::budget::cost::{Cost, CostModel};
use crate::budget::depth::{DepthTable, occupancy, untouched_sets};
use crate::budget::lifetime::{FirstSlices, Lifetime, Requests};
use crate::sequence::plan_sequences;
use crate::{CoreError, LayerGroups, PartitionShape, Prior, Sequence, SequenceStrategy, SliceId};

/// All shapes with this number of slices and sequences, over shards and blocks per slice.
///
/// # Errors
///
/// The strategy's own refusal; [`CoreError::BudgetOutOfRange`] for a budget that it cannot make.
pub(super) fn shapes(
    request: &SearchRequest<'_>,
    slices: u32,
    budget: usize,
    strategy: &dyn SequenceStrategy,
) -> Result<Vec<Candidate>, CoreError> {
    let own = own_shards(request, strategy, &of_shard(request, slices, budget, 0));
    let mut chosen = Vec::new();
    for shard in 0..own {
        chosen.push(plan_sequences(strategy, &of_shard(request, slices, budget, shard))?);
    }
    let mut sets: BTreeMap<&[Sequence], SequenceSet<'_>> = BTreeMap::new();
    for (shard, sequences) in chosen.iter().enumerate() {
        let set = match sets.entry(sequences) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(SequenceSet::new(request, slices, sequences)?)
            }
        };
        set.shards.push(shard as u64);
    }
    let probabilities = request.prior.probabilities(slices);
    let mut found = Vec::new();
    for shards in shard_counts(request, slices) {
        let rates: Vec<f64> = probabilities.iter().map(|probability| probability / shards as f64).collect();
        // Shard s has the sequences of shard s modulo `own`.
        let of_set = |set: &SequenceSet<'_>| -> u64 {
            let repeated = |first: &u64| if *first < shards { (shards - first - 1) / u64::from(own) + 1 } else { 0 };
            set.shards.iter().map(repeated).sum()
        };
        let used: Vec<(&SequenceSet<'_>, u64)> =
            sets.values().map(|set| (set, of_set(set))).filter(|(_, count)| *count > 0).collect();
        let first_slices: Vec<FirstSlices> =
            used.iter().map(|(set, count)| FirstSlices::of(*count, set.sequences, &rates)).collect();
        let lifetime = Lifetime::of(&first_slices, Requests::Independent);
        let depth = match request.goal {
            Goal::Deletions => None,
            Goal::Depth { requests } => {
                let of_shards = |(set, count): &(&SequenceSet<'_>, u64)| {
                    set.depths.as_ref().map_or(0.0, |depths| depths.expected(&rates, requests)) * *count as f64
                };
                // A mean of equal values is the value, without rounding.
                Some(match &used[..] {
                    [(set, _)] => set.depths.as_ref().map_or(0.0, |depths| depths.expected(&rates, requests)),
                    several => several.iter().map(of_shards).sum::<f64>() / shards as f64,
                })
            }
        };
        let records = request.records as f64 / (shards * u64::from(slices)) as f64;
        for (index, blocks) in block_counts(request, slices).enumerate() {
            let cost = used.iter().map(|(set, count)| scaled(&set.units[index], records, *count));
            found.push(Candidate {
                shape: PartitionShape { shards: shards as u32, slices },
                budget,
                strategy: strategy.typetag_name().to_owned(),
                blocks_per_slice: blocks,
                cost: cost.fold(Cost::default(), |sum, cost| sum + cost),
                lifetime,
                benefit: depth.map_or(lifetime.all_dead, |depth| depth * blocks as f64),
            });
        }
    }
    Ok(found)
}

/// One set of sequences, and the shards among those valued one by one that have it.
struct SequenceSet<'a> {
    sequences: &'a [Sequence],
    shards: Vec<u64>,
    /// The cost of a shard of one record a slice, for each number of blocks: everything but storage is proportional to the
    /// records of a slice.
    units: Vec<Cost>,
    /// Expected best depths, where depth is the goal.
    depths: Option<Depths>,
}

impl<'a> SequenceSet<'a> {
    fn new(request: &SearchRequest<'_>, slices: u32, sequences: &'a [Sequence]) -> Result<Self, CoreError> {
        let orders: Vec<&[SliceId]> = sequences.iter().map(Sequence::slices).collect();
        let unit = |blocks: usize| {
            let groups = LayerGroups::from_top(request.model.blocks, slices, Some(blocks))?;
            let costs = CostModel { groups: &groups, model: request.model, epochs: request.epochs };
            Ok(costs.shard(&orders, &vec![1; slices as usize]).shared)
        };
        let depths = match request.goal {
            Goal::Deletions => None,
            Goal::Depth { .. } => Some(Depths::new(sequences, request.prior, slices)?),
        };
        let units = block_counts(request, slices).map(unit).collect::<Result<_, CoreError>>()?;
        Ok(Self { sequences, shards: Vec::new(), units, depths })
    }
}

/// The numbers of blocks per slice to try.
fn block_counts(request: &SearchRequest<'_>, slices: u32) -> impl Iterator<Item = usize> {
    let max = request.model.blocks / slices as usize;
    match request.fixed.blocks_per_slice {
        Some(blocks) => blocks..=blocks.min(max),
        None => request.limits.slice_blocks.max(1)..=max,
    }
}

/// The cost of so many shards with so many records in each slice, from that of one shard with one record in each.
fn scaled(unit: &Cost, records: f64, shards: u64) -> Cost {
    let times = |passes: u64| (passes as f64 * records * shards as f64).round() as u64;
    Cost {
        record_passes: times(unit.record_passes),
        block_passes_forward: times(unit.block_passes_forward),
        block_passes_backward: times(unit.block_passes_backward),
        frozen_passes: times(unit.frozen_passes),
        flops: unit.flops * records * shards as f64,
        ..*unit * shards
    }
}

/// Expected best depths of one set of sequences under changing rates.
enum Depths {
    /// `[slices hit]`: the mean best depth over all sets of so many slices.
    Alike(Vec<f64>),
    Each(DepthTable),
}

impl Depths {
    fn new(sequences: &[Sequence], prior: &Prior, slices: u32) -> Result<Self, CoreError> {
        let table = DepthTable::new(sequences, slices)?;
        if matches!(prior, Prior::PerSlice(_)) {
            return Ok(Self::Each(table));
        }
        let (mut sums, mut counts) = (vec![0.0; slices as usize + 1], vec![0.0; slices as usize + 1]);
        for (untouched, depth) in table.depths().iter().enumerate() {
            let hit = slices as usize - untouched.count_ones() as usize;
            sums[hit] += f64::from(*depth);
            counts[hit] += 1.0;
        }
        Ok(Self::Alike(sums.iter().zip(counts).map(|(sum, count)| sum / count).collect()))
    }

    fn expected(&self, rates: &[f64], requests: u64) -> f64 {
        match self {
            Self::Alike(means) => {
                let hit = occupancy(rates.len() as u32, rates.first().copied().unwrap_or(0.0), requests);
                hit.iter().zip(means).map(|(chance, depth)| chance * depth).sum()
            }
            Self::Each(table) => {
                let sets = untouched_sets(rates, requests);
                sets.iter().zip(table.depths()).map(|(chance, depth)| chance * f64::from(*depth)).sum()
            }
        }
    }
}
