//! The stages that a leader answers with, as it tells its followers. Stages, epochs and digests: no record, id or name of a subject.

use std::collections::{BTreeMap, BTreeSet};

use s3t_core::digest::DigestBuilder;
use s3t_core::members::members_of_prefixes;
use s3t_core::{Digest, Members, PartitionShape, Serving, SliceId, StageKey, Task};
use s3t_ledger::Epoch;
use s3t_models::Precision;
use s3t_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::settings::DeadShard;
use crate::system::System;

/// The format of [`ReplicaState`].
const FORMAT: u32 = 2;

/// The stages that a leader answers with at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// The format of this structure.
    pub format: u32,
    /// The deletions that the leader's answers know of.
    pub epoch: Epoch,
    /// The public key of the leader's ledger, by which its store is known.
    pub ledger: String,
    /// The model that the stages belong to.
    pub model: ReplicaModel,
    /// The live stages of each shard, in the order of the shards.
    pub shards: Vec<ReplicaShard>,
    /// The content of each live stage's file.
    pub stages: BTreeMap<StageKey, StageContent>,
    /// The number of stages that the leader's plan has, live or not.
    pub planned: usize,
}

/// The settings that a leader and its followers share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaModel {
    /// The digest of the base model: weights, configuration, tokenizer, `model.max_tokens`, `model.weights`.
    pub base: Digest,
    /// The task.
    pub task: Task,
    /// The names of the classes.
    pub labels: Vec<String>,
    /// The choice of members with its fields.
    #[serde(default)]
    pub members: Value,
    /// The aggregator with its fields.
    pub aggregator: Value,
    /// The behaviour of a shard without a live sequence.
    pub dead_shard: DeadShard,
    /// The precision of the products with frozen weights in answers.
    pub precision: Precision,
    /// The shards and slices.
    pub shape: PartitionShape,
}

/// The largest numbers that a state may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxSizes {
    /// The stages.
    pub(crate) stages: usize,
    /// The bytes of each.
    pub(crate) bytes: u64,
}

/// The live stages of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaShard {
    /// The live stages of each sequence, first to last; empty for a dead sequence.
    pub sequences: Vec<Vec<StageKey>>,
    /// The slice that each of these stages saw first.
    #[serde(default)]
    pub slices: Vec<Vec<SliceId>>,
}

impl ReplicaShard {
    /// The number of leading stages of each sequence that are held.
    pub(crate) fn depths(&self, held: impl Fn(&StageKey) -> bool) -> impl Iterator<Item = usize> {
        self.sequences.iter().map(move |keys| keys.iter().take_while(|key| held(key)).count())
    }

    /// The members of the shard, of the stages that are held.
    pub(crate) fn members(&self, members: &dyn Members, held: impl Fn(&StageKey) -> bool) -> Vec<Serving> {
        let live = self.slices.iter().zip(self.depths(held));
        members_of_prefixes(members, live.map(|(slices, depth)| &slices[..depth.min(slices.len())]))
    }
}

/// The size and digest of the content of a stage's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageContent {
    /// The length in bytes.
    pub bytes: u64,
    /// The digest of the bytes.
    pub digest: Digest,
}

impl StageContent {
    /// The size and digest of a content.
    pub fn of(content: &[u8]) -> Self {
        let digest = DigestBuilder::new("stage content").bytes(content).finish();
        Self { bytes: content.len() as u64, digest }
    }
}

impl ReplicaModel {
    pub(crate) fn of(pipeline: &CheckedPipeline, base: Digest) -> Result<Self, EngineError> {
        let json = |value: Result<Value, serde_json::Error>, key: &str| {
            value.map_err(|error| pipeline.refuse(key, error.to_string()))
        };
        let serving = &pipeline.serving;
        Ok(Self {
            base,
            task: pipeline.task,
            labels: pipeline.labels.names().to_vec(),
            members: json(serde_json::to_value(&*serving.members), "serving.members")?,
            aggregator: json(serde_json::to_value(&*serving.aggregator), "serving.aggregator")?,
            dead_shard: serving.dead_shard,
            precision: pipeline.serving_precision(),
            shape: pipeline.shape,
        })
    }

    /// The first setting that differs from the leader's, with both values.
    fn difference(&self, leader: &Self) -> Option<String> {
        let text = |model: &Self| -> [String; 8] {
            let json = |value: Result<Value, _>| value.map(|value| value.to_string()).unwrap_or_default();
            [
                model.base.to_string(),
                json(serde_json::to_value(model.task)),
                json(serde_json::to_value(&model.labels)),
                model.members.to_string(),
                model.aggregator.to_string(),
                json(serde_json::to_value(model.dead_shard)),
                json(serde_json::to_value(model.precision)),
                json(serde_json::to_value(model.shape)),
            ]
        };
        let names = [
            "the base model (weights, tokenizer, `model.max_tokens`, `model.weights`)",
            "`data.task`",
            "`data.labels`",
            "`serving.members`",
            "`serving.aggregator`",
            "`serving.dead_shard`",
            "`serving.precision`",
            "`partition.shards` and `partition.slices`",
        ];
        let (own, theirs) = (text(self), text(leader));
        let at = (0..names.len()).find(|at| own[*at] != theirs[*at])?;
        Some(format!("{} of the leader is {}, and here it is {}", names[at], theirs[at], own[at]))
    }
}

/// The place of a stage in the sequences of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StagePlace {
    pub(crate) content: StageContent,
    pub(crate) parent: Option<StageKey>,
    pub(crate) depth: usize,
}

impl ReplicaState {
    /// A digest of everything in the state, by which it is known again.
    pub fn digest(&self) -> Digest {
        DigestBuilder::new("replica state").json(self).finish()
    }

    /// Checks a state that came from elsewhere: the place of each of its stages.
    pub(crate) fn places(
        &self,
        own: &ReplicaModel,
        max: MaxSizes,
    ) -> Result<BTreeMap<StageKey, StagePlace>, EngineError> {
        let refuse = |problem: String| Err(EngineError::LeaderState { problem });
        if self.format != FORMAT {
            return refuse(format!("its format is {}, and this program reads format {FORMAT}", self.format));
        }
        if let Some(difference) = own.difference(&self.model) {
            return refuse(difference);
        }
        let expected = self.model.shape.shards;
        if self.shards.len() != expected as usize || self.stages.len() > max.stages {
            let (shards, stages, most) = (self.shards.len(), self.stages.len(), max.stages);
            return refuse(format!(
                "it has {shards} shards and {stages} stages; this pipeline has {expected} shards and at most {most} stages"
            ));
        }
        let lengths = |shard: &ReplicaShard| {
            let (stages, slices) = (shard.sequences.iter().map(Vec::len), shard.slices.iter().map(Vec::len));
            stages.eq(slices)
        };
        if let Some(shard) = self.shards.iter().position(|shard| !lengths(shard)) {
            return refuse(format!("shard {shard} does not have a slice for each stage of its sequences in it"));
        }
        let mut places: BTreeMap<StageKey, StagePlace> = BTreeMap::new();
        for keys in self.shards.iter().flat_map(|shard| &shard.sequences) {
            let mut parent = None;
            for (depth, key) in (1..).zip(keys) {
                let Some(content) = self.stages.get(key).copied() else {
                    return refuse(format!("it names stage {key} in a sequence, and does not say how long that is"));
                };
                if content.bytes > max.bytes {
                    let bytes = content.bytes;
                    return refuse(format!(
                        "stage {key} has {bytes} bytes, and one of this model has at most {}",
                        max.bytes
                    ));
                }
                let place = StagePlace { content, parent, depth };
                if *places.entry(*key).or_insert(place) != place {
                    return refuse(format!("stage {key} follows different stages in it"));
                }
                parent = Some(*key);
            }
        }
        if let Some(key) = self.stages.keys().find(|key| !places.contains_key(key)) {
            return refuse(format!("stage {key} is in no sequence of it"));
        }
        Ok(places)
    }
}

impl System {
    /// The stages that this system answers with now, for its followers. `known` remembers the contents of stages from one call to the
    /// next, so that each is read once.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if the catalogue or a stage cannot be read.
    pub fn replica_state(&self, known: &mut BTreeMap<StageKey, StageContent>) -> Result<ReplicaState, EngineError> {
        loop {
            let snapshot = self.store.snapshot()?;
            let availability = snapshot.availability();
            let of_shard = |shard: &s3t_core::ShardPlan| {
                let live = || shard.sequences.iter().zip(availability.depths(shard.shard));
                ReplicaShard {
                    sequences: live().map(|(sequence, depth)| sequence.keys[..*depth].to_vec()).collect(),
                    slices: live().map(|(sequence, depth)| sequence.slices[..*depth].to_vec()).collect(),
                }
            };
            let shards: Vec<ReplicaShard> = snapshot.plan().shards().iter().map(of_shard).collect();
            let keys: BTreeSet<StageKey> =
                shards.iter().flat_map(|shard| shard.sequences.iter().flatten().copied()).collect();
            known.retain(|key, _| keys.contains(key));
            match self.read_contents(&keys, known) {
                // Deleted since the snapshot was taken.
                Err(StoreError::MissingStage(key)) if !self.store.snapshot()?.has_stage(&key) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    return Ok(ReplicaState {
                        format: FORMAT,
                        epoch: snapshot.epoch(),
                        ledger: self.store.verifying_key().to_string(),
                        model: ReplicaModel::of(&self.pipeline, self.backbone.digest())?,
                        shards,
                        stages: known.clone(),
                        planned: snapshot.plan().stages().len(),
                    });
                }
            }
        }
    }

    fn read_contents(
        &self,
        keys: &BTreeSet<StageKey>,
        known: &mut BTreeMap<StageKey, StageContent>,
    ) -> Result<(), StoreError> {
        for key in keys {
            if !known.contains_key(key) {
                known.insert(*key, StageContent::of(&self.store.stage_content(key)?));
            }
        }
        Ok(())
    }
}
