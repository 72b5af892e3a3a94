//! Budget figures: what a choice of shards, slices and sequences costs, and how many deletions it lasts for.

use serde::Serialize;

use crate::{LayerGroups, Plan};

/// Euler's constant.
const EULER: f64 = 0.577_215_664_901_532_9;

/// The n-th harmonic number, `1 + 1/2 + .. + 1/n`; 0 for n = 0.
pub fn harmonic(n: u64) -> f64 {
    if n < 100_000 {
        return (1..=n).rev().map(|k| 1.0 / k as f64).sum();
    }
    // Euler-Maclaurin; the first term left out is below 1e-21 here.
    let x = n as f64;
    x.ln() + EULER + 1.0 / (2.0 * x) - 1.0 / (12.0 * x * x)
}

/// The expected number of deletion requests until every shard is dead, `m L H_(m B')` with `B' = min(B, L)` distinct
/// first slices in each shard (S3T, section 4).
///
/// Holds for requests that are uniform over slices, independent, and many records in each slice. SISA is B = 1.
pub fn deletion_rate(shards: u64, slices: u64, budget: u64) -> f64 {
    (shards * slices) as f64 * harmonic(shards * budget.min(slices))
}

/// What training a plan costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanCost {
    /// Distinct stages to train.
    pub stages: usize,
    /// Stages if sequences that start alike shared nothing.
    pub stages_without_sharing: usize,
    /// Records shown to a stage in one epoch, summed over the stages.
    pub records_per_epoch: u64,
    /// Records times blocks passed forward in one epoch; the blocks below a group are run once and remembered.
    pub block_passes_forward: u64,
    /// Records times blocks passed backward in one epoch.
    pub block_passes_backward: u64,
}

impl PlanCost {
    /// The cost of a plan over slices of these sizes, `[shard][slice]` records.
    pub fn of(plan: &Plan, slice_sizes: &[Vec<u64>]) -> Self {
        let mut cost = Self {
            stages: plan.stages().len(),
            stages_without_sharing: plan
                .shards()
                .iter()
                .flat_map(|shard| &shard.sequences)
                .map(|sequence| sequence.keys.len())
                .sum(),
            records_per_epoch: 0,
            block_passes_forward: 0,
            block_passes_backward: 0,
        };
        for stage in plan.stages() {
            let sizes = &slice_sizes[stage.shard.index()];
            let records: u64 = stage.slices.iter().map(|slice| sizes[slice.index()]).sum();
            let blocks = blocks_passed(plan.groups(), stage.slices.len());
            cost.records_per_epoch += records;
            cost.block_passes_forward += records * blocks;
            cost.block_passes_backward += records * blocks;
        }
        cost
    }
}

/// The blocks a record passes in a stage of this depth: from the first block of its group to the top.
fn blocks_passed(groups: &LayerGroups, depth: usize) -> u64 {
    depth
        .checked_sub(1)
        .and_then(|group| groups.groups().get(group))
        .map_or(0, |group| (groups.blocks() - group.start) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmonic_numbers_are_continuous_where_the_method_changes() {
        assert_eq!(harmonic(0), 0.0);
        assert!((harmonic(4) - 25.0 / 12.0).abs() < 1e-15);
        let step = harmonic(100_000) - harmonic(99_999);
        assert!((step - 1e-5).abs() < 1e-13, "{step}");
    }

    #[test]
    fn deletion_rates_match_the_reference_points() {
        // Formula values for m = 5, L = 6, B = 1..6.
        for (budget, expected) in (1..).zip([68.5, 87.9, 99.5, 107.9, 114.5, 119.8]) {
            assert!((deletion_rate(5, 6, budget) - expected).abs() < 0.06, "B = {budget}");
        }
        // More sequences than slices add no first slices.
        assert_eq!(deletion_rate(5, 6, 7), deletion_rate(5, 6, 6));
        let gain = deletion_rate(5, 32, 8) / deletion_rate(5, 32, 1);
        assert!((gain - 1.87).abs() < 0.005, "{gain}");
    }
}
