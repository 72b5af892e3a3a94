//! Making the job of a stage from the store and from the stages that the build has built.

use std::sync::Arc;

use s3t_core::tensors::StageTensors;
use s3t_core::{PlannedStage, SliceAddress, StageKey};
use s3t_executor::{StageJob, StageRecord};
use s3t_store::{Snapshot, Store, StoreError};

use crate::EngineError;
use crate::jobs::queue::Queue;
use crate::jobs::{StageLabel, Stages};

pub(super) fn make_job(
    store: &Store,
    snapshot: &Snapshot,
    queue: &Queue,
    stages: &dyn Stages,
    key: &StageKey,
) -> Result<(StageJob, StageLabel), EngineError> {
    let plan = snapshot.plan();
    let missing = || StoreError::MissingStage(*key);
    let stage = plan.stage(key).ok_or_else(missing)?;
    let lineage = plan.lineage(key).ok_or_else(missing)?;
    let mut records = Vec::new();
    for slice in &stage.slices {
        let of_slice = store.records(SliceAddress { shard: stage.shard, slice: *slice })?;
        let with_digest = |(digest, record)| StageRecord { digest, record: Arc::new(record) };
        records.extend(of_slice.into_iter().map(with_digest));
    }
    let chain = plan.chain(key);
    let tensors_of = |ancestor: &&PlannedStage| -> Result<StageTensors, EngineError> {
        match queue.held(&ancestor.key) {
            Some(tensors) => Ok((*tensors).clone()),
            None => stages.existing(&ancestor.key),
        }
    };
    let before = chain.iter().take(chain.len().saturating_sub(1)).map(tensors_of);
    let ancestors = StageTensors::of_chain(before.collect::<Result<Vec<_>, _>>()?)?.blocks;
    let label = StageLabel { key: *key, shard: stage.shard, slices: stage.slices.clone() };
    Ok((StageJob { lineage, records, ancestors }, label))
}
