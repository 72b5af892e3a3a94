//! Members: the live prefixes of a shard that answer.
//!
//! # Proof note
//!
//! *Before*: each shard answered with its deepest live prefix. *After*: it answers with the live prefixes that a [`Members`] plugin chooses,
//! and the answer is still a function of live stages alone. *Why*: the choice is handed the sequence, depth and slice numbers of each live
//! prefix, and neither a record, a digest, a key nor a count of records. So two systems in which the same prefixes are live choose the same
//! ones, whatever the records of deleted or unseen slices were; and a prefix that is not live is not among those to choose from.

use std::collections::BTreeSet;
use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::ShardPlan;
use crate::{Availability, Serving, SliceId};

/// A live prefix of a sequence: its stages are there, and none of them saw a deleted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePrefix<'a> {
    /// The sequence and the number of its live stages.
    pub serving: Serving,
    /// The slices that the prefix has seen, in the order of training.
    pub slices: &'a [SliceId],
}

/// A choice of the live prefixes that answer for a shard.
///
/// # Contract
///
/// `live` holds the longest live prefix of each sequence that has any, in the order of the strategy, each set of stages once; it is never
/// empty. The result holds indices of `live`, at least one, ascending, without repetition. It is a function of `live` alone: no weights,
/// no memory of earlier calls, no look at records.
///
/// ```
/// use s3t_core::members::{AllLive, Covering, Deepest, LivePrefix, Members};
/// use s3t_core::{Serving, SliceId};
///
/// let orders = [[SliceId(0), SliceId(1)].as_slice(), &[SliceId(1)], &[SliceId(2)]];
/// let prefix = |sequence: usize| LivePrefix {
///     serving: Serving { sequence, depth: orders[sequence].len() },
///     slices: orders[sequence],
/// };
/// let live: Vec<LivePrefix<'_>> = (0..3).map(prefix).collect();
/// assert_eq!(Deepest {}.choose(&live), [0]);
/// assert_eq!(AllLive::default().choose(&live), [0, 1, 2]);
/// assert_eq!(Covering {}.choose(&live), [0, 2]);
/// ```
#[typetag::serde(tag = "type")]
pub trait Members: Debug + Send + Sync {
    /// Chooses the prefixes that answer.
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize>;
}

/// The deepest live prefix of each shard, the first of equals: as the paper has it.
///
/// # Proof note
///
/// *Before*: live prefixes. *After*: one of them. *Why*: a depth decides, and the strategy's order among equals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deepest {}

#[typetag::serde(name = "deepest")]
impl Members for Deepest {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        let deepest = max_depth(live);
        live.iter().position(|prefix| prefix.serving.depth == deepest).into_iter().collect()
    }
}

crate::plugin!(Members, "deepest", Deepest);

/// Every live prefix of a shard that is at most `slack` stages shorter than the deepest.
///
/// # Proof note
///
/// *Before*: live prefixes. *After*: those within a constant of the deepest. *Why*: depths decide, and a constant of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllLive {
    /// The number of stages that a prefix may be shorter than the deepest; left out, any number.
    pub slack: Option<usize>,
}

#[typetag::serde(name = "all-live")]
impl Members for AllLive {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        let shortest = self.slack.map_or(0, |slack| max_depth(live).saturating_sub(slack));
        (0..live.len()).filter(|index| live[*index].serving.depth >= shortest).collect()
    }
}

crate::plugin!(Members, "all-live", AllLive);

/// The fewest live prefixes of a shard that together have seen every slice which any of them has seen; among as few, those that a search
/// finds first which tries deep prefixes first.
///
/// # Proof note
///
/// *Before*: live prefixes. *After*: some of them, which have seen the same slices together. *Why*: slice numbers and depths decide. The
/// fewest are found by a search of at most 10,000 steps; where that does not end, few are found by taking the prefix with the most
/// new slices again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Covering {}

/// The steps that [`Covering`] searches.
const MAX_STEPS: usize = 10_000;

#[typetag::serde(name = "covering")]
impl Members for Covering {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        let mut by_depth: Vec<usize> = (0..live.len()).collect();
        by_depth.sort_by_key(|index| (std::cmp::Reverse(live[*index].serving.depth), *index));
        let mut fewest = greedy_cover(live, &by_depth);
        let all: BTreeSet<SliceId> = live.iter().flat_map(|prefix| prefix.slices).copied().collect();
        let mut steps = MAX_STEPS;
        for size in 1..fewest.len() {
            let mut chosen = Vec::with_capacity(size);
            match search_cover(live, &by_depth, &all, size, &mut chosen, &mut steps) {
                Some(true) => {
                    fewest = chosen;
                    break;
                }
                Some(false) => {}
                None => break,
            }
        }
        fewest.sort_unstable();
        fewest
    }
}

crate::plugin!(Members, "covering", Covering);

/// Takes the prefix with the most slices that are not covered yet, the first in this order of equals, until all are covered.
fn greedy_cover(live: &[LivePrefix<'_>], order: &[usize]) -> Vec<usize> {
    let mut covered: BTreeSet<SliceId> = BTreeSet::new();
    let mut chosen = Vec::new();
    loop {
        let new = |index: usize| live[index].slices.iter().filter(|slice| !covered.contains(slice)).count();
        // `max_by_key` gives the last of equals, so the order is turned.
        match order.iter().rev().copied().max_by_key(|index| new(*index)) {
            Some(index) if new(index) > 0 => {
                covered.extend(live[index].slices);
                chosen.push(index);
            }
            _ => return chosen,
        }
    }
}

/// Looks for `size` prefixes more that cover what is open: some prefix has to cover the first open slice. `None` if the steps are used up.
fn search_cover(
    live: &[LivePrefix<'_>],
    order: &[usize],
    open: &BTreeSet<SliceId>,
    size: usize,
    chosen: &mut Vec<usize>,
    steps: &mut usize,
) -> Option<bool> {
    let Some(first) = open.first() else { return Some(true) };
    if size == 0 {
        return Some(false);
    }
    for index in order.iter().copied().filter(|index| live[*index].slices.contains(first)) {
        *steps = steps.checked_sub(1)?;
        let slices: BTreeSet<SliceId> = live[index].slices.iter().copied().collect();
        chosen.push(index);
        if search_cover(live, order, &(open - &slices), size - 1, chosen, steps)? {
            return Some(true);
        }
        chosen.pop();
    }
    Some(false)
}

fn max_depth(live: &[LivePrefix<'_>]) -> usize {
    live.iter().map(|prefix| prefix.serving.depth).max().unwrap_or(0)
}

/// The prefixes of one shard that answer, in the order of the strategy; empty if no prefix is live. `prefixes` holds the slices of the live
/// prefix of each sequence, and none of a dead sequence. A plugin that breaks its contract cannot add a prefix: indices that do not exist are
/// passed over, and where none is left the deepest prefix answers.
pub fn members_of_prefixes<'a>(
    members: &dyn Members,
    prefixes: impl IntoIterator<Item = &'a [SliceId]>,
) -> Vec<Serving> {
    let mut seen: BTreeSet<&[SliceId]> = BTreeSet::new();
    let prefixes = prefixes.into_iter().enumerate();
    let live: Vec<LivePrefix<'a>> = prefixes
        .filter(|(_, slices)| !slices.is_empty() && seen.insert(slices))
        .map(|(sequence, slices)| LivePrefix { serving: Serving { sequence, depth: slices.len() }, slices })
        .collect();
    if live.is_empty() {
        return Vec::new();
    }
    let mut chosen = members.choose(&live);
    chosen.retain(|index| *index < live.len());
    if chosen.is_empty() {
        chosen = Deepest {}.choose(&live);
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().map(|index| live[index].serving).collect()
}

/// The prefixes of a planned shard that answer, by [`members_of_prefixes`].
pub fn members_of_shard(members: &dyn Members, shard: &ShardPlan, availability: &Availability) -> Vec<Serving> {
    let live = shard.sequences.iter().zip(availability.depths(shard.shard));
    // A depth of another plan may be larger than the plan's own sequence.
    members_of_prefixes(members, live.map(|(planned, depth)| planned.slices.get(..*depth).unwrap_or(&planned.slices)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Live prefixes of random sequences: different numbers in each.
    fn orders() -> impl Strategy<Value = Vec<Vec<SliceId>>> {
        let order = (Just((0..6u32).map(SliceId).collect::<Vec<_>>()).prop_shuffle(), 0usize..=6);
        proptest::collection::vec(order.prop_map(|(order, depth)| order[..depth].to_vec()), 1..7)
    }

    fn chosen(members: &dyn Members, orders: &[Vec<SliceId>]) -> Vec<Serving> {
        members_of_prefixes(members, orders.iter().map(Vec::as_slice))
    }

    fn seen(orders: &[Vec<SliceId>], servings: &[Serving]) -> BTreeSet<SliceId> {
        servings.iter().flat_map(|serving| orders[serving.sequence][..serving.depth].iter().copied()).collect()
    }

    proptest! {
        #[test]
        fn covering_members_are_the_fewest_that_saw_all(orders in orders()) {
            let (found, all) = (chosen(&Covering {}, &orders), chosen(&AllLive::default(), &orders));
            prop_assert_eq!(seen(&orders, &found), seen(&orders, &all));
            // Brute force over all sets of prefixes.
            let fewest = (0u32..1 << all.len())
                .filter(|set| {
                    let picked: Vec<Serving> =
                        (0..all.len()).filter(|index| set >> index & 1 == 1).map(|index| all[index]).collect();
                    seen(&orders, &picked) == seen(&orders, &all)
                })
                .map(u32::count_ones)
                .min();
            prop_assert_eq!(Some(found.len() as u32), fewest);
        }

        #[test]
        fn slack_bounds_the_depth(orders in orders(), slack in 0usize..6) {
            let (found, deepest) = (chosen(&AllLive { slack: Some(slack) }, &orders), chosen(&Deepest {}, &orders));
            prop_assert_eq!(deepest.is_empty(), found.is_empty());
            for (sequence, order) in orders.iter().enumerate() {
                let is_first = !orders[..sequence].contains(order);
                let is_deep = deepest.iter().any(|deepest| order.len() + slack >= deepest.depth);
                let expected = !order.is_empty() && is_first && is_deep;
                prop_assert_eq!(found.iter().any(|serving| serving.sequence == sequence), expected);
            }
        }
    }

    #[test]
    fn every_registered_choice_deserialises_from_its_name() {
        let all = crate::registry::plugins_of::<dyn Members>(crate::PluginKind::Members).unwrap();
        let names: Vec<&str> = all.iter().map(|members| members.typetag_name()).collect();
        assert_eq!(names, ["all-live", "covering", "deepest"]);
    }

    /// A plugin that breaks its contract.
    #[derive(Debug, Serialize, Deserialize)]
    struct Broken(Vec<usize>);

    #[typetag::serde(name = "broken-members-for-test")]
    impl Members for Broken {
        fn choose(&self, _: &[LivePrefix<'_>]) -> Vec<usize> {
            self.0.clone()
        }
    }

    #[test]
    fn a_broken_choice_adds_no_prefix() {
        let orders = [vec![SliceId(0)], vec![], vec![SliceId(1), SliceId(0)], vec![SliceId(0)]];
        let of = |chosen: &[usize]| {
            self::chosen(&Broken(chosen.to_vec()), &orders).iter().map(|serving| serving.sequence).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1, 0, 1]), [0, 2]);
        assert_eq!(of(&[9, 2]), [2]);
        assert_eq!(of(&[]), [2]);
        assert_eq!(self::chosen(&Broken(vec![0]), &[vec![]]), []);
    }
}
