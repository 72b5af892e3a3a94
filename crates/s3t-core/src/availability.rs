//! Availability: how deep each sequence is still usable, updated in memory for each deletion.
//!
//! # Proof note
//!
//! *Before*: every sequence is usable to the depth to which its stages are built. *After* a hit in slice s: every
//! sequence of that shard is usable at most to the position before s. *Why*: stage k of a sequence is trained on its
//! first k slices, so the prefixes that never saw s are those that end before it. Which sequence serves depends on depth
//! and, among equals, on the order the strategy gave: on no data.

use crate::plan::ShardPlan;
use crate::{Plan, Sequence, ShardId, SliceAddress, SliceId};

/// The sequence that a shard serves with, and the number of its stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Serving {
    /// The index of the sequence in the shard's list.
    pub sequence: usize,
    /// The usable depth, at least 1.
    pub depth: usize,
}

/// A sequence that a deletion took stages from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortened {
    /// The index of the sequence in the shard's list.
    pub sequence: usize,
    /// The usable depth before.
    pub before: usize,
    /// The usable depth after; 0 if no stage is left.
    pub after: usize,
}

/// The effect of one deletion on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The slice that was hit.
    pub address: SliceAddress,
    /// The sequences that lost stages.
    pub shortened: Vec<Shortened>,
    /// The sequence and depth that the shard served with before.
    pub before: Option<Serving>,
    /// The sequence and depth that the shard serves with now; `None` if no sequence is left.
    pub after: Option<Serving>,
}

/// The usable depth of every sequence of every shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    shards: Vec<ShardAvailability>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ShardAvailability {
    /// `[sequence][slice]`: the position of the slice; beyond all positions for one that was emptied and is passed over.
    positions: Vec<Vec<usize>>,
    depths: Vec<usize>,
    best: Option<Serving>,
}

impl Availability {
    /// Availability of a plan's sequences, built to the depth that `depth(shard, sequence)` gives.
    pub fn of_plan(plan: &Plan, depth: impl Fn(ShardId, usize) -> usize) -> Self {
        let of = |(shard, slices): (&ShardPlan, &Vec<_>)| {
            let orders: Vec<&[SliceId]> = shard.sequences.iter().map(|planned| &*planned.slices).collect();
            ShardAvailability::new(&orders, slices.len(), |sequence| depth(shard.shard, sequence))
        };
        Self { shards: plan.shards().iter().zip(plan.digests()).map(of).collect() }
    }

    /// All sequences usable to the end.
    pub fn full<'a>(sequences: impl IntoIterator<Item = &'a [Sequence]>) -> Self {
        let of = |sequences: &[Sequence]| {
            let orders: Vec<&[SliceId]> = sequences.iter().map(Sequence::slices).collect();
            let slices = orders.first().map_or(0, |order| order.len());
            ShardAvailability::new(&orders, slices, |_| slices)
        };
        Self { shards: sequences.into_iter().map(of).collect() }
    }

    /// The sequence and depth that a shard serves with; `None` if it has no live sequence.
    pub fn serving(&self, shard: ShardId) -> Option<Serving> {
        self.shards.get(shard.index()).and_then(|shard| shard.best)
    }

    /// The usable depth of each sequence of a shard.
    pub fn depths(&self, shard: ShardId) -> &[usize] {
        self.shards.get(shard.index()).map_or(&[], |shard| &shard.depths)
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shards with no live sequence.
    pub fn dead(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0..self.shards.len()).filter(|shard| self.shards[*shard].best.is_none()).map(|shard| ShardId(shard as u32))
    }

    /// Takes a deletion in a slice into account. Costs O(B) and looks at no record.
    ///
    /// # Panics
    ///
    /// If the address is outside the partition, which ids from this system never are.
    pub fn hit(&mut self, address: SliceAddress) -> Cut {
        let shard = &mut self.shards[address.shard.index()];
        let before = shard.best;
        let mut shortened = Vec::new();
        for (sequence, (positions, depth)) in shard.positions.iter().zip(&mut shard.depths).enumerate() {
            let position = positions[address.slice.index()];
            if position < *depth {
                shortened.push(Shortened { sequence, before: *depth, after: position });
                *depth = position;
            }
        }
        shard.best = shard.deepest();
        Cut { address, shortened, before, after: shard.best }
    }

    /// The smallest number of requests with which an adversary who picks slices can kill every sequence of a shard:
    /// the number of distinct first slices among its live sequences (S3T, section 4).
    pub fn adversarial_budget(&self, shard: ShardId) -> usize {
        let Some(shard) = self.shards.get(shard.index()) else { return 0 };
        let alive = shard.positions.iter().zip(&shard.depths).filter(|(_, depth)| **depth > 0);
        let first_slices: std::collections::HashSet<_> =
            alive.map(|(positions, _)| positions.iter().position(|position| *position == 0)).collect();
        first_slices.len()
    }
}

impl ShardAvailability {
    fn new(orders: &[&[SliceId]], slices: usize, depth: impl Fn(usize) -> usize) -> Self {
        let positions = orders.iter().map(|order| positions(order, slices)).collect();
        let mut shard = Self { positions, depths: (0..orders.len()).map(depth).collect(), best: None };
        shard.best = shard.deepest();
        shard
    }

    fn deepest(&self) -> Option<Serving> {
        let deepest = self.depths.iter().copied().max().filter(|depth| *depth > 0)?;
        let sequence = self.depths.iter().position(|depth| *depth == deepest)?;
        Some(Serving { sequence, depth: deepest })
    }
}

fn positions(order: &[SliceId], slices: usize) -> Vec<usize> {
    let mut positions = vec![usize::MAX; slices];
    for (position, slice) in order.iter().enumerate() {
        positions[slice.index()] = position;
    }
    positions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Prior;
    use crate::sequence::{Cyclic, SequenceRequest, plan_sequences};

    fn cyclic(slices: u32, budget: usize) -> Vec<Sequence> {
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &Prior::Uniform, seed: 0 };
        plan_sequences(&Cyclic {}, &request).unwrap()
    }

    #[test]
    fn a_hit_cuts_every_sequence_before_the_slice() {
        let sequences = vec![cyclic(3, 3); 2];
        let mut availability = Availability::full(sequences.iter().map(Vec::as_slice));
        assert_eq!(availability.serving(ShardId(0)), Some(Serving { sequence: 0, depth: 3 }));
        let cut = availability.hit(SliceAddress::new(0, 1));
        // 0 1 2 keeps depth 1, 1 2 0 is dead, 2 0 1 keeps depth 2.
        let shortened = |sequence, after| Shortened { sequence, before: 3, after };
        assert_eq!(cut.shortened, [shortened(0, 1), shortened(1, 0), shortened(2, 2)]);
        assert_eq!(cut.after, Some(Serving { sequence: 2, depth: 2 }));
        assert_eq!(availability.adversarial_budget(ShardId(0)), 2);
        assert_eq!(availability.hit(SliceAddress::new(0, 1)).shortened, []);
        availability.hit(SliceAddress::new(0, 0));
        availability.hit(SliceAddress::new(0, 2));
        assert_eq!(availability.serving(ShardId(0)), None);
        assert_eq!(availability.dead().collect::<Vec<_>>(), [ShardId(0)]);
        assert_eq!(availability.serving(ShardId(1)), Some(Serving { sequence: 0, depth: 3 }));
    }

    proptest! {
        #[test]
        fn depth_is_the_longest_prefix_without_a_hit(
            slices in 1u32..8, budget in 1usize..8, hits in proptest::collection::vec(0u32..8, 0..6),
        ) {
            let budget = budget.min(slices as usize);
            let sequences = cyclic(slices, budget);
            let mut availability = Availability::full([sequences.as_slice()]);
            let hits: Vec<_> = hits.into_iter().map(|slice| SliceId(slice % slices)).collect();
            for slice in &hits {
                availability.hit(SliceAddress { shard: ShardId(0), slice: *slice });
            }
            for (index, sequence) in sequences.iter().enumerate() {
                let expected = sequence.slices().iter().take_while(|slice| !hits.contains(slice)).count();
                prop_assert_eq!(availability.depths(ShardId(0))[index], expected);
            }
        }
    }
}
