//! The cost of training and keeping a set of sequences, found without training.
//!
//! # Proof note
//!
//! *Before*: the orders and slice sizes of a shard. *After*: the cost of training every stage of the prefix tree once, and
//! of training every sequence by itself. *Why they differ*: a stage is a function of its lineage, so sequences that start
//! alike share the stages of their common prefix; two prefixes are one stage exactly if they hold the same slices in the
//! same order.

use std::ops::{Add, Mul};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sequence::PrefixTree;
use crate::{LayerGroups, SliceId};

/// The sizes of a model that decide about costs. All blocks are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Transformer blocks.
    pub blocks: usize,
    /// Tokens of a record.
    pub tokens: u64,
    /// Weights of the linear layers of one block.
    pub block_weights: u64,
    /// Attention heads times the width of a head.
    pub attention_width: u64,
    /// PEFT parameters of one block.
    pub peft_parameters: u64,
    /// Parameters of the classification head.
    pub head_parameters: u64,
}

impl ModelShape {
    /// A standard block (query, key, value, output, up, down) with LoRA of this rank on query and value.
    pub fn transformer(blocks: usize, hidden: u64, intermediate: u64, tokens: u64, rank: u64, classes: u64) -> Self {
        Self {
            blocks,
            tokens,
            block_weights: hidden
                .saturating_mul(hidden.saturating_mul(4).saturating_add(intermediate.saturating_mul(2))),
            attention_width: hidden,
            peft_parameters: rank.saturating_mul(4).saturating_mul(hidden),
            head_parameters: hidden.saturating_add(1).saturating_mul(classes),
        }
    }

    /// Floating-point operations of one frozen block on one record: two for each weight and token, and the two products of
    /// attention, `4 tokens^2 width`.
    pub fn frozen_flops(&self) -> f64 {
        let tokens = self.tokens as f64;
        2.0 * tokens * self.block_weights as f64 + 4.0 * tokens * tokens * self.attention_width as f64
    }

    /// Floating-point operations of one adapted block on one record, forward: the frozen block, and two for each PEFT
    /// parameter and token.
    pub fn forward_flops(&self) -> f64 {
        self.frozen_flops() + 2.0 * self.tokens as f64 * self.peft_parameters as f64
    }

    /// Floating-point operations of the way back through one adapted block: frozen weights need the gradient of their input
    /// only, PEFT parameters and the products of attention those of both factors.
    pub fn backward_flops(&self) -> f64 {
        let tokens = self.tokens as f64;
        2.0 * tokens * self.block_weights as f64
            + 4.0 * tokens * self.peft_parameters as f64
            + 8.0 * tokens * tokens * self.attention_width as f64
    }
}

/// The cost of training stages and of keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Stages trained.
    pub stages: u64,
    /// Records shown, summed over epochs and stages.
    pub record_passes: u64,
    /// Records times blocks passed forward in training.
    pub block_passes_forward: u64,
    /// Records times blocks passed backward.
    pub block_passes_backward: u64,
    /// Records times frozen blocks below the groups, which are run once for each record and group and remembered.
    pub frozen_passes: u64,
    /// Floating-point operations of all passes.
    pub flops: f64,
    /// Parameters that are kept: each stage's PEFT parameters and head.
    pub parameters: u64,
    /// Bytes of these parameters on disk, as f32.
    pub bytes: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            stages: self.stages.saturating_add(other.stages),
            record_passes: self.record_passes.saturating_add(other.record_passes),
            block_passes_forward: self.block_passes_forward.saturating_add(other.block_passes_forward),
            block_passes_backward: self.block_passes_backward.saturating_add(other.block_passes_backward),
            frozen_passes: self.frozen_passes.saturating_add(other.frozen_passes),
            flops: self.flops + other.flops,
            parameters: self.parameters.saturating_add(other.parameters),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// So many times the same cost: shards that are alike.
impl Mul<u64> for Cost {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self {
            stages: self.stages.saturating_mul(times),
            record_passes: self.record_passes.saturating_mul(times),
            block_passes_forward: self.block_passes_forward.saturating_mul(times),
            block_passes_backward: self.block_passes_backward.saturating_mul(times),
            frozen_passes: self.frozen_passes.saturating_mul(times),
            flops: self.flops * times as f64,
            parameters: self.parameters.saturating_mul(times),
            bytes: self.bytes.saturating_mul(times),
        }
    }
}

/// The cost of a set of sequences, with and without shared prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanCost {
    /// Every stage of the prefix tree trained and kept once.
    pub shared: Cost,
    /// Every stage of every sequence trained and kept for itself.
    pub unshared: Cost,
}

/// The cost of stages, whatever their slices are.
#[derive(Debug, Clone, Copy)]
pub struct CostModel<'a> {
    /// The layer groups.
    pub groups: &'a LayerGroups,
    /// The model.
    pub model: ModelShape,
    /// Passes of a stage over its records.
    pub epochs: u64,
}

impl CostModel<'_> {
    /// The cost of the stage at this depth (1..=L) over so many records.
    pub fn stage(&self, depth: usize, records: u64) -> Cost {
        let Some(group) = depth.checked_sub(1).and_then(|group| self.groups.groups().get(group)) else {
            return Cost::default();
        };
        let record_passes = records.saturating_mul(self.epochs);
        let passes = record_passes.saturating_mul((self.groups.blocks() - group.start) as u64);
        let adapters = (group.len() as u64).saturating_mul(self.model.peft_parameters);
        let parameters = adapters.saturating_add(self.model.head_parameters);
        Cost {
            stages: 1,
            record_passes,
            block_passes_forward: passes,
            block_passes_backward: passes,
            frozen_passes: 0,
            flops: passes as f64 * (self.model.forward_flops() + self.model.backward_flops()),
            parameters,
            bytes: parameters.saturating_mul(4),
        }
    }

    /// The cost of one shard with these orders of its slices, `sizes[s]` records in slice s.
    ///
    /// # Panics
    ///
    /// If an order holds a slice that has no size.
    pub fn shard(&self, orders: &[&[SliceId]], sizes: &[u64]) -> PlanCost {
        let frozen = self.frozen(orders, sizes);
        let mut cost = PlanCost { shared: frozen, unshared: frozen };
        let mut tree = PrefixTree::default();
        for order in orders {
            let (mut records, mut prefix) = (0u64, PrefixTree::EMPTY);
            for (depth, slice) in (1..).zip(*order) {
                records = records.saturating_add(sizes[slice.index()]);
                let stage = self.stage(depth, records);
                cost.unshared = cost.unshared + stage;
                let is_new;
                (prefix, is_new) = tree.extend(prefix, *slice);
                if is_new {
                    cost.shared = cost.shared + stage;
                }
            }
        }
        cost
    }

    /// The blocks below each group, once for each record that a stage of that group sees. A slice is seen by every stage
    /// from its earliest position on.
    fn frozen(&self, orders: &[&[SliceId]], sizes: &[u64]) -> Cost {
        let mut earliest = vec![usize::MAX; sizes.len()];
        for order in orders {
            for (position, slice) in order.iter().enumerate() {
                earliest[slice.index()] = earliest[slice.index()].min(position);
            }
        }
        let mut sums: Vec<u64> = self.groups.groups().iter().map(|group| group.start as u64).collect();
        for group in (1..sums.len()).rev() {
            sums[group - 1] = sums[group - 1].saturating_add(sums[group]);
        }
        let below = |earliest: &usize| -> u64 {
            // The sum over the groups from `earliest` on, found once for all slices.
            sums.get(*earliest).copied().unwrap_or(0)
        };
        let passes = sizes.iter().zip(&earliest).map(|(size, earliest)| size.saturating_mul(below(earliest)));
        let frozen_passes = passes.fold(0, u64::saturating_add);
        Cost { frozen_passes, flops: frozen_passes as f64 * self.model.frozen_flops(), ..Cost::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelShape {
        ModelShape::transformer(6, 8, 32, 5, 2, 3)
    }

    fn slices(order: &[u32]) -> Vec<SliceId> {
        order.iter().copied().map(SliceId).collect()
    }

    #[test]
    fn a_worked_example() {
        let groups = LayerGroups::from_top(6, 3, None).unwrap();
        let costs = CostModel { groups: &groups, model: model(), epochs: 2 };
        let (one, other) = (slices(&[0, 1, 2]), slices(&[0, 2, 1]));
        let cost = costs.shard(&[&one, &other], &[10, 20, 30]);
        // Stages 0, 01, 012, 02, 021: 10, 30, 60, 40, 60 records; the two sequences share the first.
        assert_eq!((cost.shared.stages, cost.unshared.stages), (5, 6));
        assert_eq!(cost.shared.record_passes, 2 * (10 + 30 + 60 + 40 + 60));
        assert_eq!(cost.unshared.record_passes, cost.shared.record_passes + 2 * 10);
        assert_eq!(cost.shared.block_passes_forward, 2 * (2 * 10 + 4 * (30 + 40) + 6 * (60 + 60)));
        // All slices reach the second group, slice 0 alone the first: groups start at blocks 4, 2, 0.
        assert_eq!(cost.shared.frozen_passes, 10 * (4 + 2) + (20 + 30) * 2);
        // Each group has two blocks: 2 x 4 x 2 x 8 LoRA parameters, and a head of 9 x 3.
        assert_eq!(cost.shared.parameters, 5 * (2 * 64 + 27));
        assert_eq!(cost.shared.bytes, 4 * cost.shared.parameters);
    }

    #[test]
    fn flops_of_one_stage_add_up() {
        let groups = LayerGroups::from_top(6, 3, None).unwrap();
        let costs = CostModel { groups: &groups, model: model(), epochs: 1 };
        // 4 x 8 x 8 + 2 x 8 x 32 = 768 weights, 5 tokens, width 8, 64 LoRA parameters.
        let forward = 2.0 * 5.0 * 768.0 + 4.0 * 25.0 * 8.0 + 2.0 * 5.0 * 64.0;
        let backward = 2.0 * 5.0 * 768.0 + 8.0 * 25.0 * 8.0 + 4.0 * 5.0 * 64.0;
        assert_eq!(costs.stage(2, 7).flops, 7.0 * 4.0 * (forward + backward));
        assert_eq!(costs.stage(4, 7), Cost::default(), "there is no fourth group");
    }

    #[test]
    fn shards_that_are_alike_cost_a_multiple() {
        let groups = LayerGroups::from_top(4, 2, None).unwrap();
        let costs = CostModel { groups: &groups, model: model(), epochs: 1 };
        let order = slices(&[1, 0]);
        let one = costs.shard(&[&order], &[3, 4]).shared;
        assert_eq!(one * 3, one + one + one);
    }
}
