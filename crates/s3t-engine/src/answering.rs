//! Answering with stages, wherever they come from: the part that a system with a store and a replica without one share.

use std::sync::Arc;

use s3t_core::tensors::StageTensors;
use s3t_core::{Lineage, Record, Serving, ShardId, StageKey};
use s3t_ledger::ShardServes;
use s3t_models::{Backbone, Device, Input};
use s3t_train::StageModel;

use crate::checked::CheckedPipeline;
use crate::ensemble::{self, Member, Prediction};
use crate::error::EngineError;
use crate::settings::DeadShard;
use crate::side_by_side::in_batches;

/// A member of a shard with its stages, first to last; `None` for a shard of which no stage is live.
pub(crate) type Chain = (ShardId, Option<(Serving, Vec<StageKey>)>);

/// A stage with its lineage.
pub(crate) type Stage = (Lineage, StageTensors);

/// The parts of a system that answer.
#[derive(Clone, Copy)]
pub(crate) struct Answering<'a> {
    pub(crate) pipeline: &'a CheckedPipeline,
    pub(crate) device: &'a Device,
    pub(crate) backbone: &'a Arc<Backbone>,
}

impl Answering<'_> {
    /// Prepares records for the model.
    pub(crate) fn prepare<'r>(&self, records: &'r [Record]) -> Result<Vec<Input<'r>>, EngineError> {
        Ok(records.iter().map(|record| self.backbone.prepare(record)).collect::<Result<_, _>>()?)
    }

    /// The texts among some records that `model.max_tokens` cuts.
    pub(crate) fn cut(&self, records: &[Record]) -> Result<usize, EngineError> {
        if self.pipeline.max_tokens.is_none() {
            return Ok(0);
        }
        Ok(self.prepare(records)?.iter().filter(|input| input.cut > 0).count())
    }

    /// Answers for inputs batch by batch, side by side, in the order of the inputs.
    pub(crate) fn in_batches<T: Send>(
        &self,
        inputs: &[Input<'_>],
        answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>, EngineError> {
        in_batches(self.pipeline.resources.job_count(), inputs, answer)
    }

    /// Answers for records with these members.
    pub(crate) fn predict_with(
        &self,
        members: &[Arc<Member>],
        records: &[Record],
    ) -> Result<Vec<Prediction>, EngineError> {
        let inputs = self.prepare(records)?;
        let aggregator = &*self.pipeline.serving.aggregator;
        let task = self.pipeline.task;
        self.in_batches(&inputs, |batch| ensemble::predict(self.backbone, members, aggregator, task, batch))
    }

    /// The members of these chains; those among `old` that have not changed are taken over. `read` gives a stage.
    pub(crate) fn members(
        &self,
        chains: impl IntoIterator<Item = Chain>,
        old: &[Arc<Member>],
        read: &dyn Fn(&StageKey) -> Result<Arc<Stage>, EngineError>,
    ) -> Result<Vec<Arc<Member>>, EngineError> {
        let mut members = Vec::new();
        for (shard, chain) in chains {
            let key = chain.as_ref().and_then(|(_, keys)| keys.last().copied());
            let serving = chain.as_ref().map(|(serving, _)| *serving);
            let same =
                old.iter().find(|member| member.shard == shard && member.key == key && member.serving == serving);
            match same {
                Some(member) => members.push(Arc::clone(member)),
                None => members.extend(self.member(shard, chain, read)?.map(Arc::new)),
            }
        }
        Ok(members)
    }

    fn member(
        &self,
        shard: ShardId,
        chain: Option<(Serving, Vec<StageKey>)>,
        read: &dyn Fn(&StageKey) -> Result<Arc<Stage>, EngineError>,
    ) -> Result<Option<Member>, EngineError> {
        let Some((serving, keys)) = chain else {
            let base = match self.pipeline.serving.dead_shard {
                DeadShard::LeaveOut => None,
                DeadShard::Base => StageModel::base(self.backbone, self.device, self.pipeline.task),
            };
            return Ok(base.map(|model| Member { shard, serving: None, key: None, model: Arc::new(model) }));
        };
        let stages = keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let Some(model) = self.model(&stages)? else { return Ok(None) };
        let key = keys.last().copied();
        tracing::debug!(shard = shard.0, stage = ?key, "member loaded");
        Ok(Some(Member { shard, serving: Some(serving), key, model: Arc::new(model) }))
    }

    /// The model of a chain of stages, first to last; `None` for an empty chain.
    pub(crate) fn model(&self, stages: &[Arc<Stage>]) -> Result<Option<StageModel>, EngineError> {
        let Some(last) = stages.last() else { return Ok(None) };
        let tensors: Vec<&StageTensors> = stages.iter().map(|stage| &stage.1).collect();
        Ok(Some(StageModel::new(self.backbone, self.device, &last.0, &tensors)?))
    }
}

/// The last stage of each member, with its shard.
pub(crate) fn serves(members: &[Arc<Member>]) -> Arc<[ShardServes]> {
    let serves =
        |member: &Arc<Member>| ShardServes { shard: member.shard, stage: member.key, depth: member.place().depth };
    members.iter().map(serves).collect()
}
