//! What the store holds at one moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use s3t_core::digest::DigestBuilder;
use s3t_core::plan::PlannedSequence;
use s3t_core::{Availability, Digest, Plan, PlannedStage, ShardId, SliceAddress, StageKey};
use s3t_ledger::ShardServes;

use crate::keys::Generation;

/// The store at one moment: between two commits of its catalogue.
///
/// # Proof note
///
/// *Before*: a deletion was acknowledged. *After*: no snapshot taken from then on holds a stage that saw one of its records. *Why*:
/// the transaction that accepts the deletion removes these stages from the catalogue, it is committed before the
/// acknowledgement, and a snapshot is read from the catalogue whenever that has changed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) epoch: u64,
    pub(crate) plan: Arc<Plan>,
    /// `[shard][slice]`.
    pub(crate) sizes: Vec<Vec<u64>>,
    /// `[shard][slice]`: how often the slice's records were written anew.
    pub(crate) generations: Vec<Vec<u64>>,
    pub(crate) hit: BTreeSet<SliceAddress>,
    /// The deletions that were accepted and are not erased, ascending.
    pub(crate) unerased: Vec<u64>,
    pub(crate) built: BTreeSet<StageKey>,
}

impl Snapshot {
    /// How many deletions were accepted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The stages that the store should hold. Those that saw a slice that [is being erased](Self::is_hit) are of the past.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The number of records in each slice, `[shard][slice]`.
    pub fn sizes(&self) -> &[Vec<u64>] {
        &self.sizes
    }

    /// The number of records.
    pub fn records(&self) -> u64 {
        self.sizes.iter().flatten().sum()
    }

    /// Whether a deletion in this slice was accepted whose bytes may still be on disk.
    pub fn is_hit(&self, address: SliceAddress) -> bool {
        self.hit.contains(&address)
    }

    /// Whether any slice holds records of an accepted deletion that are not erased yet.
    pub fn is_erasing(&self) -> bool {
        !self.hit.is_empty()
    }

    /// The deletions that were accepted and are not called erased yet, ascending.
    pub fn unerased(&self) -> &[u64] {
        &self.unerased
    }

    /// The stages that are there and may serve, sorted.
    pub fn stages(&self) -> &BTreeSet<StageKey> {
        &self.built
    }

    /// Whether a stage is there and may serve.
    pub fn has_stage(&self, key: &StageKey) -> bool {
        self.built.contains(key)
    }

    /// The stages of the plan that are not there, without those that saw a slice that is being erased.
    pub fn missing(&self) -> BTreeSet<StageKey> {
        self.plan.stages().filter(|stage| self.wants(stage)).map(|stage| stage.key).collect()
    }

    /// The usable depth of every sequence: its longest prefix whose stages are there.
    pub fn availability(&self) -> Availability {
        Availability::of_plan(&self.plan, |shard, sequence| {
            self.depth(&self.plan.shards()[shard.index()].sequences[sequence])
        })
    }

    /// How many leading stages of a sequence are there.
    fn depth(&self, sequence: &PlannedSequence) -> usize {
        sequence.keys.iter().take_while(|key| self.has_stage(key)).count()
    }

    /// Whether the stage is one of the plan, and none of its slices is being erased: it may be built and kept.
    pub fn is_live(&self, key: &StageKey) -> bool {
        self.plan.stage(key).is_some_and(|stage| !self.saw_hit(stage))
    }

    fn wants(&self, stage: &PlannedStage) -> bool {
        !self.has_stage(&stage.key) && !self.saw_hit(stage)
    }

    fn saw_hit(&self, stage: &PlannedStage) -> bool {
        !self.hit.is_empty()
            && stage.slices.iter().any(|slice| self.is_hit(SliceAddress { shard: stage.shard, slice: *slice }))
    }

    pub(crate) fn generation(&self, address: SliceAddress) -> Generation {
        (address, self.generations[address.shard.index()][address.slice.index()])
    }

    /// The slices in a stage's lineage; `None` for a key that the plan does not hold.
    pub(crate) fn generations_of(&self, key: &StageKey) -> Option<Vec<Generation>> {
        let stage = self.plan.stage(key)?;
        let of = |slice: &s3t_core::SliceId| self.generation(SliceAddress { shard: stage.shard, slice: *slice });
        Some(stage.slices.iter().map(of).collect())
    }

    /// What some shards serve with: the deepest of their sequences, the first of equals.
    pub fn serves(&self, shards: impl IntoIterator<Item = ShardId>) -> Vec<ShardServes> {
        let of_shard = |shard: ShardId| {
            let mut serves = ShardServes { shard, stage: None, depth: 0 };
            for sequence in &self.plan.shards()[shard.index()].sequences {
                let depth = self.depth(sequence);
                if depth > serves.depth {
                    serves = ShardServes { shard, stage: sequence.keys.get(depth - 1).copied(), depth };
                }
            }
            serves
        };
        shards.into_iter().map(of_shard).collect()
    }
}

/// The digest of a set of stages, as ledger entries hold it.
pub fn digest_of_stages<'a>(keys: impl IntoIterator<Item = &'a StageKey>) -> Digest {
    let mut builder = DigestBuilder::new("stages");
    keys.into_iter().fold(&mut builder, |builder, key| builder.digest(&key.0)).finish()
}
