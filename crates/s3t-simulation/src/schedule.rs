//! The time of a training on a cluster: bounds, and the event-by-event simulation that checks them.
//!
//! # Proof note
//!
//! *Before*: the stages of a plan with their costs, and workers that are alike. *After*: no schedule is shorter than the longest sequence,
//! nor than all work divided by the workers; the simulated schedule is at most their sum (Graham's bound for lists). *Why*: a stage waits
//! for its parent; and whenever a worker is idle in the simulation, the longest sequence that is left is being worked on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use s3t_core::budget::cost::CostModel;
use s3t_core::{Sequence, SliceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PlannedSystem;

/// The workers of a cluster, which are alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// Their number.
    pub workers: u32,
    /// Floating-point operations of one worker in a second, as training reaches them, in units of 10^12.
    pub tflops: f64,
    /// The price of a worker for an hour; 0 if it is not asked for.
    pub per_hour: f64,
    /// Seconds from one stage of a worker to its next: records and tensors on their way.
    pub gap: f64,
}

/// The time and the price of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterFigures {
    /// The workers.
    #[serde(flatten)]
    pub workers: Workers,
    /// Stages to train.
    pub stages: u64,
    /// Seconds until everything is trained, simulated stage by stage.
    pub seconds: f64,
    /// Seconds of the longest sequence: no number of workers is faster.
    pub critical_path: f64,
    /// Seconds of all stages together on one worker.
    pub work: f64,
    /// The part of the workers' time in which they train: the rest are gaps, and waiting for parents.
    pub efficiency: f64,
    /// The price; 0 if no price was given.
    pub price: f64,
}

impl PlannedSystem {
    /// The time and the price of training this system on a cluster.
    pub fn on(&self, workers: Workers) -> ClusterFigures {
        let costs = CostModel { groups: &self.groups, model: self.model, epochs: self.epochs };
        let seconds = |depth: usize, records: u64| {
            // A worker may not remember the outputs of the frozen blocks below the group.
            let below = self.groups.groups().get(depth - 1).map_or(0, |group| group.start);
            let frozen = records as f64 * below as f64 * self.model.frozen_flops();
            (costs.stage(depth, records).flops + frozen) / (workers.tflops * 1e12) + workers.gap
        };
        let mut stages = Stages::default();
        for (shard, count) in self.kinds() {
            let tree = Tree::of(self.sequences.get(shard), self.slice_sizes.get(shard), &seconds);
            (0..count).for_each(|_| stages.add(&tree));
        }
        let finished = stages.simulate(workers.workers as usize);
        let work: f64 = stages.seconds.iter().sum();
        let offered = finished * f64::from(workers.workers);
        let training = work - workers.gap * stages.seconds.len() as f64;
        ClusterFigures {
            workers,
            stages: stages.seconds.len() as u64,
            seconds: finished,
            critical_path: stages.left.iter().copied().fold(0.0, f64::max),
            work,
            efficiency: if offered > 0.0 { training / offered } else { 1.0 },
            price: offered / 3600.0 * workers.per_hour,
        }
    }
}

/// The stages of one shard: each with its parent's place and its seconds.
struct Tree(Vec<(Option<usize>, f64)>);

impl Tree {
    fn of(sequences: &[Sequence], sizes: &[u64], seconds: &dyn Fn(usize, u64) -> f64) -> Self {
        let mut places: BTreeMap<&[SliceId], usize> = BTreeMap::new();
        let mut stages = Vec::new();
        for sequence in sequences {
            let slices = sequence.slices();
            let (mut parent, mut records) = (None, 0_u64);
            for depth in 1..=slices.len() {
                records = records.saturating_add(sizes[slices[depth - 1].index()]);
                let place = *places.entry(&slices[..depth]).or_insert_with(|| {
                    stages.push((parent, seconds(depth, records)));
                    stages.len() - 1
                });
                parent = Some(place);
            }
        }
        Self(stages)
    }
}

/// The stages of all shards.
#[derive(Default)]
struct Stages {
    seconds: Vec<f64>,
    children: Vec<Vec<usize>>,
    /// Seconds from the start of a stage to the end of the longest sequence through it.
    left: Vec<f64>,
    first: Vec<usize>,
}

impl Stages {
    fn add(&mut self, tree: &Tree) {
        let start = self.seconds.len();
        for (place, (parent, seconds)) in tree.0.iter().enumerate() {
            self.seconds.push(*seconds);
            self.left.push(*seconds);
            self.children.push(Vec::new());
            match parent {
                Some(parent) => self.children[start + parent].push(start + place),
                None => self.first.push(start + place),
            }
        }
        // Children stand after their parents.
        for place in (start..self.seconds.len()).rev() {
            let longest = self.children[place].iter().map(|child| self.left[*child]).fold(0.0, f64::max);
            self.left[place] += longest;
        }
    }

    /// The seconds until all stages are trained, longest sequence first.
    fn simulate(&self, workers: usize) -> f64 {
        // Times are at least 0, so their bits have their order.
        let mut ready: BinaryHeap<(u64, Reverse<usize>)> =
            self.first.iter().map(|place| (self.left[*place].to_bits(), Reverse(*place))).collect();
        let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut now = 0.0;
        loop {
            while running.len() < workers {
                let Some((_, Reverse(place))) = ready.pop() else { break };
                let end: f64 = now + self.seconds[place];
                running.push(Reverse((end.to_bits(), place)));
            }
            let Some(Reverse((end, place))) = running.pop() else { return now };
            now = f64::from_bits(end);
            ready.extend(self.children[place].iter().map(|child| (self.left[*child].to_bits(), Reverse(*child))));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use s3t_core::budget::cost::ModelShape;
    use s3t_core::budget::prior::rates_of_prior;
    use s3t_core::sequence::{Cyclic, SequenceRequest, SequenceStrategy};
    use s3t_core::{LayerGroups, PartitionShape, PerShard, Prior, ShardId};

    use super::*;

    fn system(shards: u32, slices: u32, budget: usize, model: ModelShape) -> PlannedSystem {
        let prior = Prior::Uniform;
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &prior, seed: 0 };
        PlannedSystem {
            shape: PartitionShape { shards, slices },
            sequences: PerShard::alike(Cyclic {}.sequences(&request).unwrap()),
            rates: rates_of_prior(&prior, PartitionShape { shards, slices }),
            slice_sizes: PerShard::alike(vec![100; slices as usize]),
            groups: LayerGroups::from_top(model.blocks, slices, None).unwrap(),
            model,
            epochs: 3,
            seed: 0,
        }
    }

    fn workers(workers: u32) -> Workers {
        Workers { workers, tflops: 1e-3, per_hour: 2.0, gap: 0.5 }
    }

    #[test]
    fn one_worker_takes_as_long_as_all_work_and_many_as_long_as_the_longest_sequence() {
        let system = system(3, 4, 4, ModelShape::transformer(8, 64, 256, 17, 8, 10));
        let (one, many) = (system.on(workers(1)), system.on(workers(1000)));
        assert!((one.seconds / one.work - 1.0).abs() < 1e-9);
        // Twelve sequences of four stages, half a second after each.
        assert!((one.efficiency - (one.work - 24.0) / one.work).abs() < 1e-9, "{one:?}");
        assert!((many.seconds / many.critical_path - 1.0).abs() < 1e-9);
        assert_eq!(one.stages, system.cost().shared.stages);
        let costs = CostModel { groups: &system.groups, model: system.model, epochs: system.epochs };
        // No two rotations share a beginning, so each of the 12 sequences has its own four stages.
        let sequence: f64 = (1..=4_u64)
            .map(|depth| {
                let below = system.groups.groups()[depth as usize - 1].start as f64;
                let frozen = (100 * depth) as f64 * below * system.model.frozen_flops();
                (costs.stage(depth as usize, 100 * depth).flops + frozen) / 1e9 + 0.5
            })
            .sum();
        assert!((one.work / (12.0 * sequence) - 1.0).abs() < 1e-9);
        assert!((many.critical_path / sequence - 1.0).abs() < 1e-9);
        assert!((one.price - one.seconds / 3600.0 * 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_plan_of_llama_2_7b_with_6400_sequences_is_told() {
        let llama = ModelShape::transformer(32, 4096, 11008, 512, 8, 2);
        let system = system(100, 8, 8, llama);
        let figures = system.on(Workers { workers: 64, tflops: 100.0, per_hour: 2.0, gap: 1.0 });
        assert_eq!(figures.stages, 100 * 64);
        assert!(figures.efficiency > 0.95 && figures.seconds > figures.critical_path, "{figures:?}");
    }

    proptest! {
        #[test]
        fn no_schedule_beats_the_bounds_and_none_is_longer_than_their_sum(
            shards in 1_u32..20, slices in 1_u32..7, budget in 1_usize..7, count in 1_u32..40,
        ) {
            let budget = budget.min(slices as usize);
            let system = system(shards, slices, budget, ModelShape::transformer(2 * slices as usize, 64, 256, 17, 8, 10));
            let figures = system.on(workers(count));
            let share = figures.work / f64::from(count);
            prop_assert!(figures.seconds >= share.max(figures.critical_path) * (1.0 - 1e-9));
            prop_assert!(figures.seconds <= (share + figures.critical_path) * (1.0 + 1e-9));
        }
    }
}
