//! What a plan costs to train and to keep.

use serde::Serialize;

use crate::{LayerGroups, Plan};

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
