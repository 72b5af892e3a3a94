//! Stages that come from a leader: the checks by which they are what its state says.

use s3t_core::StageKey;
use s3t_models::{Backbone, Precision};
use s3t_train::check_isolation;

use crate::answering::Stage;
use crate::error::EngineError;
use crate::pipeline::Pipeline;
use crate::replica_state::{ReplicaModel, StageContent, StagePlace};

/// Checks a stage that came from elsewhere for a base model: its bytes, its lineage, its precision, its place among others, its blocks.
pub(crate) fn check_stage(
    key: &StageKey,
    place: &StagePlace,
    bytes: &[u8],
    model: &ReplicaModel,
    pipeline: &Pipeline,
    backbone: &Backbone,
) -> Result<Stage, EngineError> {
    let refuse = |problem: String| EngineError::LeaderStage { key: *key, problem };
    if StageContent::of(bytes) != place.content {
        return Err(refuse("its bytes do not match the digest that the state gives".into()));
    }
    let (lineage, tensors) = s3t_store::parse_stage(bytes).map_err(refuse)?;
    if lineage.key() != *key {
        return Err(refuse("its lineage makes another key".into()));
    }
    if lineage.recipe.base != model.base || lineage.recipe.task != model.task {
        return Err(refuse("its lineage names another base model or task".into()));
    }
    let (trained, here) = (lineage.recipe.training.get("precision"), pipeline.training.precision.name());
    let trained = trained.and_then(serde_json::Value::as_str).unwrap_or(Precision::F32.name());
    if trained != here {
        return Err(refuse(format!("it was trained in {trained}, and this pipeline's `training.precision` is {here}")));
    }
    let blocks = backbone.blocks();
    let parent = lineage.parent().map(|parent| parent.key());
    if lineage.depth() != place.depth || parent != place.parent {
        return Err(refuse("its lineage has other stages before it than the state".into()));
    }
    let mut next = None;
    for group in &lineage.groups {
        let follows = next.is_none_or(|next| group.end == next);
        if group.start >= group.end || group.end > blocks || !follows {
            return Err(refuse(format!("its lineage has groups that are not those of {blocks} blocks from the top")));
        }
        next = Some(group.start);
    }
    if lineage.groups.len() != lineage.depth() {
        return Err(refuse("its lineage has another number of groups than of slices".into()));
    }
    check_isolation(&lineage, &tensors).map_err(|error| refuse(error.to_string()))?;
    if pipeline.serving.aggregator.is_routed() && tensors.centroid.is_none() {
        return Err(refuse("it has no centroid of its records, which `serving.aggregator` asks for".into()));
    }
    Ok((lineage, tensors))
}
