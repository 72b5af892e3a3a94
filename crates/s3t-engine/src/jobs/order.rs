//! The order of a build, without threads: which stage may start, and which tensors are still needed.

use std::collections::{BTreeMap, BTreeSet};

use s3t_core::StageKey;

/// The stages of a build: those that may start, those that wait for a parent, and for each how many build on it.
///
/// Every step takes a time that grows with the logarithm of the number of stages, and the depth of a sequence.
pub(super) struct Order {
    stages: BTreeMap<StageKey, Stage>,
    children: BTreeMap<StageKey, Vec<StageKey>>,
    /// Stages that may start, by their places in the order.
    ready: BTreeMap<usize, StageKey>,
    /// Stages that have not started.
    left: usize,
}

struct Stage {
    place: usize,
    /// The parent, if this build builds it.
    parent: Option<StageKey>,
    /// Stages that build on this one, directly or by way of others, and are not done.
    needed_by: usize,
    has_started: bool,
}

impl Order {
    /// Stages in the order in which they should start, each with the parent that it waits for.
    pub(super) fn new(stages: Vec<(StageKey, Option<StageKey>)>) -> Self {
        let left = stages.len();
        let mut order = Self { stages: BTreeMap::new(), children: BTreeMap::new(), ready: BTreeMap::new(), left };
        for (place, (key, parent)) in stages.into_iter().enumerate() {
            order.stages.insert(key, Stage { place, parent, needed_by: 0, has_started: false });
            match parent {
                Some(parent) => order.children.entry(parent).or_default().push(key),
                None => drop(order.ready.insert(place, key)),
            }
        }
        let keys: Vec<StageKey> = order.stages.keys().copied().collect();
        for key in keys {
            order.for_ancestors(&key, |stage| stage.needed_by += 1);
        }
        order
    }

    fn for_ancestors(&mut self, key: &StageKey, mut change: impl FnMut(&mut Stage)) -> Vec<StageKey> {
        let mut unneeded = Vec::new();
        let mut parent = self.stages.get(key).and_then(|stage| stage.parent);
        while let Some((ancestor, stage)) = parent.and_then(|key| Some((key, self.stages.get_mut(&key)?))) {
            change(stage);
            if stage.needed_by == 0 {
                unneeded.push(ancestor);
            }
            parent = stage.parent;
        }
        unneeded
    }

    /// Starts the first stage that may start.
    pub(super) fn start(&mut self) -> Option<StageKey> {
        let (_, key) = self.ready.pop_first()?;
        self.left -= 1;
        if let Some(stage) = self.stages.get_mut(&key) {
            stage.has_started = true;
        }
        Some(key)
    }

    /// Returns `true` once every stage has started or was left out.
    pub(super) fn has_started_all(&self) -> bool {
        self.left == 0
    }

    /// The number of stages that may start now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns `true` while a stage builds on this one and is not done.
    pub(super) fn is_needed(&self, key: &StageKey) -> bool {
        self.stages.get(key).is_some_and(|stage| stage.needed_by > 0)
    }

    /// A stage is built: its children may start. Gives the stages on which nothing builds any more.
    pub(super) fn built(&mut self, key: &StageKey) -> Vec<StageKey> {
        for child in self.children.remove(key).unwrap_or_default() {
            if let Some(stage) = self.stages.get(&child).filter(|stage| !stage.has_started) {
                self.ready.insert(stage.place, child);
            }
        }
        self.for_ancestors(key, |stage| stage.needed_by -= 1)
    }

    /// A stage is left out, and so are the stages that build on it. Gives the stages on which nothing builds any more.
    pub(super) fn left_out(&mut self, key: &StageKey) -> Vec<StageKey> {
        let mut unneeded = BTreeSet::new();
        let mut out = vec![*key];
        while let Some(key) = out.pop() {
            out.extend(self.children.remove(&key).unwrap_or_default());
            if let Some(stage) = self.stages.get_mut(&key).filter(|stage| !stage.has_started) {
                stage.has_started = true;
                self.left -= 1;
                self.ready.remove(&stage.place);
            }
            unneeded.extend(self.for_ancestors(&key, |stage| stage.needed_by -= 1));
        }
        unneeded.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    use proptest::prelude::*;
    use s3t_cluster::Roster;
    use s3t_core::Digest;
    use s3t_core::digest::DigestBuilder;

    use super::*;

    fn digest(number: usize) -> Digest {
        DigestBuilder::new("stage").bytes(&number.to_le_bytes()).finish()
    }

    fn key(number: usize) -> StageKey {
        StageKey(digest(number))
    }

    /// A build as a coordinator runs it, in a time of its own: stages of these seconds, in so many workers of which some are lost. Gives
    /// the seconds, the most stages whose tensors were held, and the number of attempts.
    fn simulate(
        stages: &[(Vec<usize>, u64)],
        workers: usize,
        mut is_lost: impl FnMut(usize) -> bool,
    ) -> (u64, usize, usize) {
        let place_of: BTreeMap<&[usize], usize> =
            stages.iter().enumerate().map(|(number, (slices, _))| (slices.as_slice(), number)).collect();
        let parent = |slices: &[usize]| place_of.get(&slices[..slices.len() - 1]).map(|number| key(*number));
        let number_of: BTreeMap<StageKey, usize> = (0..stages.len()).map(|number| (key(number), number)).collect();
        let mut order =
            Order::new(stages.iter().enumerate().map(|(number, (slices, _))| (key(number), parent(slices))).collect());
        let mut roster = Roster::default();
        for _ in 0..workers {
            roster.join();
        }
        let (mut now, mut attempts, mut held_most) = (0, 0, 0);
        let mut held: BTreeSet<StageKey> = BTreeSet::new();
        // Stages that have started and wait for a worker: one that is lost gives its stage back.
        let mut given_back: Vec<StageKey> = Vec::new();
        let mut running = BinaryHeap::new();
        let mut done = 0;
        while done < stages.len() {
            while roster.idle() > 0 {
                let Some(stage) = given_back.pop().or_else(|| order.start()) else { break };
                let (slices, seconds) = &stages[number_of[&stage]];
                let slices: Vec<Digest> = slices.iter().map(|slice| digest(*slice)).collect();
                let worker = roster.pick(&slices).expect("a worker is idle");
                attempts += 1;
                running.push(Reverse((now + seconds, worker, stage)));
            }
            let Reverse((then, worker, stage)) = running.pop().expect("something runs until all is done");
            now = then;
            if is_lost(attempts) {
                roster.leave(worker, Duration::from_secs(now + 60));
                roster.join();
                given_back.push(stage);
                continue;
            }
            roster.give_back(worker);
            done += 1;
            if order.is_needed(&stage) {
                held.insert(stage);
            }
            for key in order.built(&stage) {
                held.remove(&key);
            }
            held_most = held_most.max(held.len());
        }
        assert!(order.has_started_all() && order.ready() == 0 && held.is_empty(), "{} are held at the end", held.len());
        (now, held_most, attempts)
    }

    /// Sequences of a shard as lists of slices, cut into their stages, shallow ones first as a build has them.
    fn plan(shards: usize, slices: usize, sequences: usize) -> Vec<(Vec<usize>, u64)> {
        let mut stages: BTreeSet<(usize, Vec<usize>)> = BTreeSet::new();
        for shard in 0..shards {
            for first in 0..sequences {
                let sequence: Vec<usize> = (0..slices).map(|slice| shard * slices + (first + slice) % slices).collect();
                for depth in 1..=slices {
                    stages.insert((depth, sequence[..depth].to_vec()));
                }
            }
        }
        stages.into_iter().map(|(_, slices)| (slices, 1)).collect()
    }

    #[test]
    fn ten_thousand_stages_keep_a_thousand_workers_busy_and_few_tensors_in_memory() {
        let stages = plan(625, 4, 4);
        assert_eq!(stages.len(), 10_000);
        let (seconds, held, attempts) = simulate(&stages, 1000, |_| false);
        let efficiency = 10_000.0 / (seconds * 1000) as f64;
        assert!(efficiency > 0.95, "{seconds} seconds: {efficiency}");
        assert_eq!(attempts, 10_000);
        // Where they cannot be read again, tensors go with the last stage that builds on them; a deepest stage's are never held.
        assert!(held <= 7_500, "{held}");
        // Every hundredth worker is lost with its stage, and replaced.
        let (seconds, _, attempts) = simulate(&stages, 1000, |attempt| attempt % 100 == 0);
        assert!(attempts > 10_000 && seconds <= 13, "{seconds} seconds, {attempts} attempts");
    }

    proptest! {
        /// Every stage is built once, after its parent, whatever the shape, and no tensors stay.
        #[test]
        fn everything_is_built_once_in_any_shape(
            shards in 1_usize..6, slices in 1_usize..6, sequences in 1_usize..6, workers in 1_usize..20, lost in 2_usize..9,
        ) {
            let stages = plan(shards, slices, sequences.min(slices));
            let (seconds, held, attempts) = simulate(&stages, workers, |attempt| attempt % lost == 0 && attempt < 500);
            prop_assert!(seconds as usize >= slices && held <= stages.len() && attempts >= stages.len());
        }

        /// A stage that is left out takes those that build on it along, and nothing else.
        #[test]
        fn leaving_out_takes_the_descendants_along(slices in 2_usize..6, choice in any::<prop::sample::Index>()) {
            let stages = plan(2, slices, 2);
            let number = choice.index(stages.len());
            let keys: Vec<(StageKey, Option<StageKey>)> = stages.iter().enumerate().map(|(at, (slices, _))| {
                let parent = &slices[..slices.len() - 1];
                (key(at), stages.iter().position(|(other, _)| other == parent).map(key))
            }).collect();
            let mut order = Order::new(keys);
            order.left_out(&key(number));
            let mut built = BTreeSet::new();
            while let Some(stage) = order.start() {
                built.insert(stage);
                order.built(&stage);
            }
            prop_assert!(order.has_started_all());
            let expected = stages.iter().enumerate().filter(|(_, (slices, _))| !slices.starts_with(&stages[number].0));
            prop_assert_eq!(built, expected.map(|(at, _)| key(at)).collect::<BTreeSet<_>>());
        }
    }
}
