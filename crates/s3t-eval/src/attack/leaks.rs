//! Leaks that are planted to be found: what a system would answer if it forgot in a wrong way.

use std::collections::BTreeMap;

use s3t_core::tensors::NamedTensors;
use s3t_core::{MemberInfo, Record, ShardId, Task};
use s3t_engine::{EngineError, System, serving_chains};

use super::references::{chain, model_of};
use super::signals::Signals;
use crate::EvalError;

/// A planted leak with the signals of a system that has it.
pub(crate) struct Leak {
    pub name: &'static str,
    pub signals: Signals,
}

/// The head of the deepest stage of each sequence before a deletion.
pub(crate) struct Heads(BTreeMap<(ShardId, usize), NamedTensors>);

impl Heads {
    /// The heads of a system's sequences.
    pub(crate) fn of(system: &System) -> Result<Self, EvalError> {
        let snapshot = system.snapshot()?;
        let availability = snapshot.availability();
        let mut heads = BTreeMap::new();
        for shard in snapshot.plan().shards() {
            let depths = availability.depths(shard.shard);
            for (at, (sequence, depth)) in shard.sequences.iter().zip(depths).enumerate() {
                let Some(key) = depth.checked_sub(1).and_then(|last| sequence.keys.get(last)) else { continue };
                let (_, tensors) = system.store().stage(key).map_err(EngineError::from)?;
                heads.extend(tensors.head.map(|head| ((shard.shard, at), head)));
            }
        }
        Ok(Self(heads))
    }
}

/// The leaks of a system that was deleted from: `before` are its signals before the deletion, and `heads` its heads then.
pub(crate) fn planted(
    after: &System,
    before: &Signals,
    heads: &Heads,
    records: &[Record],
) -> Result<Vec<Leak>, EvalError> {
    let mut leaks = vec![Leak { name: "stages that saw the records go on answering", signals: before.clone() }];
    if after.pipeline().task == Task::CausalLm {
        return Ok(leaks);
    }
    let snapshot = after.snapshot()?;
    let mut models = Vec::new();
    for (shard, serving, keys) in serving_chains(&snapshot, &*after.pipeline().serving.members) {
        let Some(stage) = keys.last().and_then(|key| snapshot.plan().stage(key)) else { continue };
        let mut stages = chain(after, stage)?;
        if let (Some((_, last)), Some(head)) = (stages.last_mut(), heads.0.get(&(shard, serving.sequence))) {
            last.head = Some(head.clone());
        }
        models.push((MemberInfo::new(shard, serving.depth), model_of(after, &stages)?));
    }
    if !models.is_empty() {
        let signals = Signals::of_models(after, &models, records)?;
        leaks.push(Leak { name: "the head of a later stage is kept", signals });
    }
    Ok(leaks)
}
