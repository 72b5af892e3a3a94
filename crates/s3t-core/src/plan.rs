//! The plan: the prefix tree of the stages that a set of sequences needs.
//!
//! Sequences of a shard that start alike share the stages of their common prefix, because those stages have one lineage
//! and therefore one key. A plan is derived from what is there now (sequences and slice digests) and never edited:
//! after a deletion a new plan is made, and the keys that it no longer holds are dead.

use std::collections::BTreeMap;

use crate::lineage::StageKeys;
use crate::{CoreError, Digest, LayerGroups, Lineage, Recipe, Sequence, ShardId, SliceId, StageKey};

/// The digest of every slice of every shard, `[shard][slice]`; `None` for a slice without records.
pub type SliceDigests = Vec<Vec<Option<Digest>>>;

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its key.
    pub key: StageKey,
    /// The stage before it; `None` for a first stage.
    pub parent: Option<StageKey>,
    /// Its shard.
    pub shard: ShardId,
    /// The slices it is trained on, in sequence order. Its depth is their number.
    pub slices: Vec<SliceId>,
}

/// One sequence of a plan with the keys of its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSequence {
    /// The sequence as the strategy chose it.
    pub sequence: Sequence,
    /// Its slices that still have records. Slices that were emptied by deletions are passed over.
    pub slices: Vec<SliceId>,
    /// The key of the prefix of each depth 1.. of `slices`.
    pub keys: Vec<StageKey>,
}

/// The sequences of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlan {
    /// The shard.
    pub shard: ShardId,
    /// Its sequences, in the order of the strategy. Ties between sequences go to the first.
    pub sequences: Vec<PlannedSequence>,
}

/// All stages that a system needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    recipe: Recipe,
    groups: LayerGroups,
    digests: SliceDigests,
    shards: Vec<ShardPlan>,
    stages: BTreeMap<StageKey, PlannedStage>,
}

impl Plan {
    /// Plans the stages for the sequences of each shard (`sequences[shard]`) over the slices as they are now.
    ///
    /// # Errors
    ///
    /// [`CoreError::NotAPermutation`] if a sequence does not fit the shard's slices.
    pub fn new(
        recipe: Recipe,
        groups: LayerGroups,
        sequences: &[Vec<Sequence>],
        digests: SliceDigests,
    ) -> Result<Self, CoreError> {
        let keys = StageKeys::new(&recipe);
        let mut stages = BTreeMap::new();
        let mut shards = Vec::with_capacity(sequences.len());
        for (index, (sequences, slices)) in sequences.iter().zip(&digests).enumerate() {
            let shard = ShardId(index as u32);
            let mut planned = Vec::with_capacity(sequences.len());
            for sequence in sequences {
                Sequence::new(sequence.slices().to_vec(), slices.len() as u32)?;
                let (order, order_digests): (Vec<SliceId>, Vec<Digest>) = sequence
                    .slices()
                    .iter()
                    .filter_map(|slice| slices[slice.index()].map(|digest| (*slice, digest)))
                    .unzip();
                let chain = keys.chain(&order_digests, &groups);
                for (depth, key) in (1..).zip(&chain) {
                    stages.entry(*key).or_insert_with(|| PlannedStage {
                        key: *key,
                        parent: (depth > 1).then(|| chain[depth - 2]),
                        shard,
                        slices: order[..depth].to_vec(),
                    });
                }
                planned.push(PlannedSequence { sequence: sequence.clone(), slices: order, keys: chain });
            }
            shards.push(ShardPlan { shard, sequences: planned });
        }
        Ok(Self { recipe, groups, digests, shards, stages })
    }

    /// The part of the lineage that all stages share.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The layer groups.
    pub fn groups(&self) -> &LayerGroups {
        &self.groups
    }

    /// The slice digests that the plan was made from.
    pub fn digests(&self) -> &SliceDigests {
        &self.digests
    }

    /// The shards.
    pub fn shards(&self) -> &[ShardPlan] {
        &self.shards
    }

    /// All distinct stages, by key.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = &PlannedStage> {
        self.stages.values()
    }

    /// The stage with this key, if the plan needs it.
    pub fn stage(&self, key: &StageKey) -> Option<&PlannedStage> {
        self.stages.get(key)
    }

    /// The stages from the first to this one, which is the last. Empty if the plan does not need it.
    pub fn chain(&self, key: &StageKey) -> Vec<&PlannedStage> {
        let mut chain: Vec<_> = std::iter::successors(self.stage(key), |stage| self.stage(&stage.parent?)).collect();
        chain.reverse();
        chain
    }

    /// The lineage of a stage of this plan, `None` if the plan does not need the key.
    pub fn lineage(&self, key: &StageKey) -> Option<Lineage> {
        let stage = self.stage(key)?;
        let digest = |slice: &SliceId| self.digests[stage.shard.index()][slice.index()];
        Some(Lineage {
            recipe: self.recipe.clone(),
            groups: self.groups.groups()[..stage.slices.len()].to_vec(),
            slices: stage.slices.iter().filter_map(digest).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DigestBuilder;
    use crate::lineage::tests::recipe;

    fn digests(shards: u64, slices: u64) -> SliceDigests {
        let digest = |shard, slice| Some(DigestBuilder::new("s").number(shard).number(slice).finish());
        (0..shards).map(|shard| (0..slices).map(|slice| digest(shard, slice)).collect()).collect()
    }

    fn sequence(order: &[u32]) -> Sequence {
        Sequence::new(order.iter().copied().map(SliceId).collect(), order.len() as u32).unwrap()
    }

    fn plan(digests: SliceDigests) -> Plan {
        let groups = LayerGroups::from_top(6, 3, None).unwrap();
        let sequences = vec![vec![sequence(&[0, 1, 2]), sequence(&[0, 2, 1]), sequence(&[2, 0, 1])]; digests.len()];
        Plan::new(recipe(), groups, &sequences, digests).unwrap()
    }

    #[test]
    fn shared_prefixes_are_planned_once() {
        // Three sequences of three stages; the first two share their first stage: 8 stages for each of 2 shards.
        assert_eq!(plan(digests(2, 3)).stages().len(), 16);
    }

    #[test]
    fn a_changed_slice_changes_exactly_the_stages_from_its_position_on() {
        let (before, mut changed) = (plan(digests(1, 3)), digests(1, 3));
        changed[0][1] = Some(DigestBuilder::new("other").finish());
        let after = plan(changed);
        for stage in before.stages() {
            assert_eq!(after.stage(&stage.key).is_some(), !stage.slices.contains(&SliceId(1)), "{:?}", stage.slices);
        }
    }

    #[test]
    fn empty_slices_are_passed_over() {
        let mut emptied = digests(1, 3);
        emptied[0][0] = None;
        let plan = plan(emptied);
        assert_eq!(plan.shards()[0].sequences[0].slices, [SliceId(1), SliceId(2)]);
        assert_eq!(plan.shards()[0].sequences[0].keys.len(), 2);
    }

    #[test]
    fn lineage_and_chain_agree_with_the_keys() {
        let plan = plan(digests(2, 3));
        for stage in plan.stages() {
            assert_eq!(plan.lineage(&stage.key).unwrap().key(), stage.key);
            let chain = plan.chain(&stage.key);
            assert_eq!(chain.len(), stage.slices.len());
            assert_eq!(chain.last().unwrap().key, stage.key);
        }
    }
}
