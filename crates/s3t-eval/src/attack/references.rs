//! Reference models: what the recipe gives without a record.

use std::collections::BTreeMap;

use s3t_attack::report::{ReferenceKind, References};
use s3t_core::tensors::StageTensors;
use s3t_core::{Lineage, MemberInfo, PlannedStage, Record, ShardId, SliceAddress, SliceId, StageKey, Task};
use s3t_engine::{EngineError, System};
use s3t_train::StageModel;

use super::draw;
use super::signals::Signals;
use super::targets::Targets;
use crate::EvalError;

/// The part that a reference model has in the attack on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Trained without the record.
    Outside,
    /// Trained with the record, for the attack.
    Inside,
    /// Trained with the record, and a part of the system under attack.
    Target,
    /// Left out.
    Unused,
}

/// A reference model with its signals about all records of the attack.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub kind: ReferenceKind,
    /// Its shard, if it is a prefix of the system's own.
    pub shard: Option<ShardId>,
    /// The number of its pair, if it was trained on one of two halves: what one has seen, the other has not.
    pub pair: Option<usize>,
    pub signals: Signals,
    /// The role in the attack on each record.
    pub roles: Vec<Role>,
}

/// The references of an attack.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReferenceSet(pub Vec<Reference>);

impl ReferenceSet {
    /// The values of a signal by the models that have a role for a record.
    pub(crate) fn of(&self, record: usize, role: Role, value: impl Fn(&Signals, usize) -> f64) -> Vec<f64> {
        self.without(None, record, role, value)
    }

    /// The same without a model that is attacked itself, and without the other models of its shard or its pair. The other half of a pair
    /// would tell what the attacked one has seen: it is a model without the record wherever that has the record.
    pub(crate) fn without(
        &self,
        attacked: Option<usize>,
        record: usize,
        role: Role,
        value: impl Fn(&Signals, usize) -> f64,
    ) -> Vec<f64> {
        let (shard, pair) = attacked.map_or((None, None), |attacked| (self.0[attacked].shard, self.0[attacked].pair));
        let is_other = |at: usize, reference: &Reference| {
            attacked != Some(at)
                && (shard.is_none() || reference.shard != shard)
                && (pair.is_none() || reference.pair != pair)
        };
        let fits = self.0.iter().enumerate().filter(|(at, of)| of.roles[record] == role && is_other(*at, of));
        fits.map(|(_, reference)| value(&reference.signals, record)).collect()
    }

    /// `true` if each of the first `examples` records has a model that never saw it.
    pub(crate) fn covers(&self, examples: usize) -> bool {
        (0..examples).all(|at| self.0.iter().any(|reference| reference.roles[at] == Role::Outside))
    }

    /// The number of models of each origin, for the report.
    pub(crate) fn counted(&self, is_language_model: bool) -> Vec<References> {
        let mut kinds: BTreeMap<u8, References> = BTreeMap::new();
        for reference in &self.0 {
            let entry = kinds.entry(reference.kind as u8);
            entry.or_insert(References { kind: reference.kind, number: 0 }).number += 1;
        }
        let base = is_language_model.then_some(References { kind: ReferenceKind::Base, number: 1 });
        kinds.into_values().chain(base).collect()
    }
}

/// The prefixes of a system that never saw the slice of a record. For each sequence the deepest of them is a reference; held-out
/// records get a slice by a draw, so that their references are chosen as those of members are.
pub(crate) fn of_prefixes(system: &System, targets: &Targets, seed: u64) -> Result<Vec<Reference>, EvalError> {
    if system.pipeline().task == Task::CausalLm {
        return Ok(Vec::new());
    }
    let slices: Vec<SliceAddress> = targets.slices().into_iter().collect();
    let drawn = |record: &Record| {
        let number = draw::number("slice", seed, record.id.as_str());
        slices[(number % slices.len() as u64) as usize]
    };
    let held_out = targets.non_members.iter().chain(&targets.population).map(drawn);
    let members = targets.members.len();
    let addresses: Vec<SliceAddress> = targets.members.iter().map(|(address, _)| *address).chain(held_out).collect();
    let snapshot = system.snapshot()?;
    let availability = snapshot.availability();
    let mut needed: BTreeMap<StageKey, Vec<Role>> = BTreeMap::new();
    for (at, address) in addresses.iter().enumerate() {
        for shard in snapshot.plan().shards() {
            for (sequence, depth) in shard.sequences.iter().zip(availability.depths(shard.shard)) {
                let slice = (shard.shard == address.shard).then_some(address.slice);
                let depth = depth_without(&sequence.slices[..*depth], slice);
                if let Some(key) = depth.checked_sub(1).and_then(|last| sequence.keys.get(last)) {
                    needed.entry(*key).or_insert_with(|| vec![Role::Unused; addresses.len()])[at] = Role::Outside;
                }
            }
        }
    }
    let records = targets.all();
    let mut references = Vec::new();
    for (key, mut roles) in needed {
        let Some(stage) = snapshot.plan().stage(&key) else { continue };
        for (role, address) in roles.iter_mut().zip(&addresses).take(members) {
            if stage.shard == address.shard && stage.slices.contains(&address.slice) {
                *role = Role::Target;
            }
        }
        let place = MemberInfo::new(stage.shard, stage.slices.len());
        let model = model_of(system, &chain(system, stage)?)?;
        let signals = Signals::of_models(system, &[(place, model)], &records)?;
        let is_beside =
            |(role, address): (&Role, &SliceAddress)| *role == Role::Outside && address.shard == stage.shard;
        let is_prefix = roles.iter().zip(&addresses).any(is_beside);
        let kind = if is_prefix { ReferenceKind::Prefixes } else { ReferenceKind::OtherShards };
        references.push(Reference { kind, shard: Some(stage.shard), pair: None, signals, roles });
    }
    Ok(references)
}

/// The number of leading slices before one of them, all if it is not among them.
fn depth_without(slices: &[SliceId], slice: Option<SliceId>) -> usize {
    slices.iter().take_while(|of| Some(**of) != slice).count()
}

/// The stages of a prefix, first to last.
pub(crate) fn chain(system: &System, stage: &PlannedStage) -> Result<Vec<(Lineage, StageTensors)>, EvalError> {
    let snapshot = system.snapshot()?;
    let stages = snapshot.plan().chain(&stage.key);
    let read = |stage: &&PlannedStage| system.store().stage(&stage.key).map_err(EngineError::from);
    Ok(stages.iter().map(read).collect::<Result<_, _>>()?)
}

/// The model of a chain of stages.
pub(crate) fn model_of(system: &System, chain: &[(Lineage, StageTensors)]) -> Result<StageModel, EvalError> {
    let tensors: Vec<&StageTensors> = chain.iter().map(|(_, tensors)| tensors).collect();
    let Some((lineage, _)) = chain.last() else { return Err(EngineError::NothingServes.into()) };
    let model = StageModel::new(system.backbone(), system.device(), lineage, &tensors).map_err(EngineError::from)?;
    Ok(model)
}
