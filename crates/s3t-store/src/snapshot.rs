//! The content of the store at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use s3t_core::digest::DigestBuilder;
use s3t_core::plan::PlannedSequence;
use s3t_core::{Availability, Digest, Plan, PlannedStage, ShardId, SliceAddress, SliceId, StageKey};
use s3t_ledger::{Epoch, ShardServes};

use crate::catalogue::{SliceRow, State, slice_address};
use crate::names::Generation;
use crate::{StoreError, StoreSettings};

/// The store at one moment: between two commits of its catalogue.
///
/// # Proof note
///
/// *Before*: a deletion was acknowledged. *After*: no snapshot taken from then on holds a stage that saw one of its records. *Why*:
/// the transaction that accepts the deletion removes these stages from the catalogue, it is committed before the
/// acknowledgement, and a snapshot is read from the catalogue whenever that has changed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) epoch: Epoch,
    pub(crate) plan: Arc<Plan>,
    /// `[shard][slice]`.
    pub(crate) sizes: Vec<Vec<u64>>,
    /// `[shard][slice]`: how often the slice's records were written anew.
    pub(crate) generations: Vec<Vec<u64>>,
    pub(crate) hit: BTreeSet<SliceAddress>,
    /// The deletions that were accepted and are not erased, ascending.
    pub(crate) unerased: Vec<Epoch>,
    pub(crate) built: BTreeSet<StageKey>,
}

/// `true` if a stage was trained on one of these slices. It is then cut by a deletion in them.
fn saw(stage: &PlannedStage, slices: &BTreeSet<SliceAddress>) -> bool {
    let saw = |slice: &SliceId| slices.contains(&SliceAddress { shard: stage.shard, slice: *slice });
    !slices.is_empty() && stage.slices.iter().any(saw)
}

impl Snapshot {
    /// The snapshot of a state of the catalogue; `None` if slices are missing in it. The plan is that of `old` if no slice has
    /// changed since.
    pub(crate) fn new(settings: &StoreSettings, state: State, old: Option<&Self>) -> Result<Option<Self>, StoreError> {
        let (shape, rows) = (settings.shape, state.slices);
        if rows.len() as u64 != u64::from(shape.shards) * u64::from(shape.slices) {
            return Ok(None);
        }
        let by_shard = |value: fn(&SliceRow) -> u64| -> Vec<Vec<u64>> {
            rows.chunks(shape.slices as usize).map(|shard| shard.iter().map(value).collect()).collect()
        };
        let digests: Vec<Vec<Option<Digest>>> =
            rows.chunks(shape.slices as usize).map(|shard| shard.iter().map(|row| row.digest).collect()).collect();
        let plan = match old {
            Some(old) if *old.plan.digests() == digests => Arc::clone(&old.plan),
            _ => Arc::new(settings.plan(digests)?),
        };
        let hit = rows.iter().filter(|row| row.hit > 0);
        Ok(Some(Self {
            epoch: state.epoch,
            plan,
            sizes: by_shard(|row| row.records),
            generations: by_shard(|row| row.generation),
            hit: hit.map(|row| slice_address(shape.slices, row.number)).collect(),
            unerased: state.unerased,
            built: state.stages,
        }))
    }

    /// The number of deletions that were accepted.
    pub fn epoch(&self) -> Epoch {
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

    /// `true` if a deletion in this slice was accepted whose bytes may still be on disk.
    pub fn is_hit(&self, address: SliceAddress) -> bool {
        self.hit.contains(&address)
    }

    /// `true` if any slice holds records of an accepted deletion that are not erased yet.
    pub fn is_erasing(&self) -> bool {
        !self.hit.is_empty()
    }

    /// The deletions that were accepted and are not called erased yet, ascending.
    pub fn unerased(&self) -> &[Epoch] {
        &self.unerased
    }

    /// The stages that are there and may serve, sorted.
    pub fn stages(&self) -> &BTreeSet<StageKey> {
        &self.built
    }

    /// `true` if a stage is there and may serve.
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

    /// The number of leading stages of a sequence that are there.
    fn depth(&self, sequence: &PlannedSequence) -> usize {
        sequence.keys.iter().take_while(|key| self.has_stage(key)).count()
    }

    /// `true` if the stage is one of the plan, and none of its slices is being erased: it may be built and kept.
    pub fn is_live(&self, key: &StageKey) -> bool {
        self.plan.stage(key).is_some_and(|stage| !self.saw_hit(stage))
    }

    fn wants(&self, stage: &PlannedStage) -> bool {
        !self.has_stage(&stage.key) && !self.saw_hit(stage)
    }

    fn saw_hit(&self, stage: &PlannedStage) -> bool {
        saw(stage, &self.hit)
    }

    pub(crate) fn generation(&self, slice: SliceAddress) -> Generation {
        Generation { slice, number: self.generations[slice.shard.index()][slice.slice.index()] }
    }

    /// The snapshot after a deletion of so many records from these slices, and the stages that it cuts: those that saw one of them.
    pub(crate) fn after(&self, epoch: Epoch, hits: &BTreeMap<SliceAddress, u64>) -> (Self, Vec<StageKey>) {
        let mut after = self.clone();
        let slices: BTreeSet<SliceAddress> = hits.keys().copied().collect();
        after.epoch = epoch;
        after.unerased.push(epoch);
        for (address, records) in hits {
            let size = &mut after.sizes[address.shard.index()][address.slice.index()];
            *size = size.saturating_sub(*records);
        }
        let dead = self.plan.stages().filter(|stage| saw(stage, &slices)).map(|stage| stage.key);
        let cut = dead.filter(|key| after.built.remove(key)).collect();
        after.hit.extend(slices);
        (after, cut)
    }

    /// The slices in a stage's lineage; `None` for a key that the plan does not hold.
    pub(crate) fn generations_of(&self, key: &StageKey) -> Option<Vec<Generation>> {
        let stage = self.plan.stage(key)?;
        let of = |slice: &SliceId| self.generation(SliceAddress { shard: stage.shard, slice: *slice });
        Some(stage.slices.iter().map(of).collect())
    }

    /// The deepest live stages of some shards, the first of equals. Other live sequences may answer beside these: that is a setting of
    /// whoever serves, not of the store.
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
