//! The settings that a pipeline asks of its store, and their comparison with those that the store has.

use s3t_core::sequence::{check_steps, plan_sequences};
use s3t_core::{LayerGroups, PerShard, Prior, Recipe, Sequence, SequenceRequest, ShardId, StoreSecret, Task, lineage};
use s3t_models::Backbone;
use s3t_peft::PeftError;
use s3t_store::{SettingDifference, Store, StoreSettings};
use s3t_train::StageModel;
use serde_json::{Value, json};

use crate::base_model::check_own_head;
use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::pipeline::Pipeline;
use crate::section::Section;
use crate::settings::{DeadShard, PriorSource};

pub(crate) fn rates(pipeline: &Pipeline, secret: &StoreSecret) -> Result<PerShard<Vec<f64>>, EngineError> {
    let rates = pipeline.prior.rates(&*pipeline.partitioner, pipeline.shape, secret);
    rates.map_err(|error| pipeline.refuse_core(Section::Sequences, &error))
}

pub(crate) fn groups(pipeline: &Pipeline, backbone: &Backbone) -> Result<LayerGroups, EngineError> {
    // The number of blocks is too small for `blocks_per_slice` where it is given, and for the slices otherwise.
    let section = if pipeline.blocks_per_slice.is_some() { Section::Sequences } else { Section::Partition };
    LayerGroups::from_top(backbone.blocks(), pipeline.shape.slices, pipeline.blocks_per_slice)
        .map_err(|error| pipeline.refuse_core(section, &error))
}

/// The sequences of each shard.
pub(crate) fn choose_sequences(
    pipeline: &Pipeline,
    backbone: &Backbone,
    secret: &StoreSecret,
) -> Result<Vec<Vec<Sequence>>, EngineError> {
    // More slices than blocks are refused before a strategy works on them.
    groups(pipeline, backbone)?;
    // For all shards together.
    let (slices, budget, seed) = (pipeline.shape.slices, pipeline.budget, pipeline.seed);
    let prior = match &pipeline.prior {
        PriorSource::Given(prior) => prior,
        PriorSource::Subjects(_) => &Prior::Uniform,
    };
    let all = SequenceRequest { shard: ShardId(0), slices, budget, prior, seed };
    check_steps(&*pipeline.strategy, &all, pipeline.shape.shards)
        .map_err(|error| pipeline.refuse_core(Section::Sequences, &error))?;
    let of_shard = |shard: u32, prior: &Prior| {
        let request = SequenceRequest {
            shard: ShardId(shard),
            slices: pipeline.shape.slices,
            budget: pipeline.budget,
            prior,
            seed: pipeline.seed,
        };
        plan_sequences(&*pipeline.strategy, &request).map_err(|error| pipeline.refuse_core(Section::Sequences, &error))
    };
    match &pipeline.prior {
        PriorSource::Given(prior) => (0..pipeline.shape.shards).map(|shard| of_shard(shard, prior)).collect(),
        PriorSource::Subjects(_) => {
            let rates = rates(pipeline, secret)?;
            (0..).zip(rates.entries()).map(|(shard, rates)| of_shard(shard, &Prior::of_rates(rates))).collect()
        }
    }
}

/// Checks what a pipeline asks of its model: that the model takes the adapters, and answers the task.
pub(crate) fn check_model(pipeline: &Pipeline, backbone: &Backbone) -> Result<(), EngineError> {
    pipeline.peft.check(&backbone.block_shape()).map_err(|error| match error {
        PeftError::InvalidField { field, problem } => pipeline.refuse_field(Section::Peft, &field, &problem),
        other => pipeline.refuse(Section::Peft.name(), other.to_string()),
    })?;
    if pipeline.task == Task::CausalLm && !backbone.has_language_head() {
        let problem =
            "`data.task` is `causal-lm`, but the model has no language head; use a model for causal language modelling";
        return Err(pipeline.refuse("data.task", problem));
    }
    // Outputs that are numbers or independent scores; of tokens, as of classes, shares are as good.
    let are_classes = matches!(pipeline.task, Task::Classification { .. } | Task::CausalLm);
    if !are_classes && !pipeline.serving.aggregator.keeps_scale() {
        let problem =
            format!("`serving.aggregator` is for classes; for task `{}` use `mean-logits`", pipeline.task.name());
        return Err(pipeline.refuse("serving.aggregator", problem));
    }
    if let Err(error) = pipeline.serving.aggregator.check() {
        let name = pipeline.serving.aggregator.typetag_name();
        return Err(pipeline.refuse("serving.aggregator", format!("aggregator `{name}`: {error}")));
    }
    if pipeline.serving.aggregator.is_routed() {
        let problem = match (pipeline.task, pipeline.training.centroid) {
            (Task::CausalLm, _) => {
                Some("is for questions that are answered at once, not token by token; use `depth-weighted`")
            }
            (_, false) => Some(
                "needs stages that hold the centroids of their records; set `training.centroid = true`, with a new store",
            ),
            (_, true) => None,
        };
        if let Some(problem) = problem {
            let name = pipeline.serving.aggregator.typetag_name();
            return Err(pipeline.refuse("serving.aggregator", format!("`{name}` {problem}")));
        }
    }
    if let Some(obstacle) = backbone.head_obstacle().filter(|_| pipeline.task != Task::CausalLm) {
        let problem = format!(
            "the base model has no place for a head: {obstacle}, so that an adapter with its head would be of no use there; use a \
             model that was saved with all its layers"
        );
        return Err(pipeline.refuse("model.path", problem));
    }
    if matches!(pipeline.serving.dead_shard, DeadShard::Base) {
        let task = pipeline.task;
        check_own_head(pipeline, backbone)?;
        if StageModel::base(backbone, &pipeline.device.open()?, task).is_none() {
            let problem = format!(
                "`serving.dead_shard` is `base`, but the model has no head of its own with {} outputs; use `leave-out`",
                task.outputs()
            );
            return Err(pipeline.refuse("serving.dead_shard", problem));
        }
    }
    Ok(())
}

/// The settings of the store that a pipeline asks for, checked against the model.
pub(crate) fn settings(
    pipeline: &Pipeline,
    backbone: &Backbone,
    sequences: Vec<Vec<Sequence>>,
) -> Result<StoreSettings, EngineError> {
    let groups = groups(pipeline, backbone)?;
    check_model(pipeline, backbone)?;
    let json = |value: Result<serde_json::Value, serde_json::Error>, section: &str| {
        value.map_err(|error| pipeline.refuse(section, error.to_string()))
    };
    Ok(StoreSettings {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: json(serde_json::to_value(&*pipeline.peft), "peft")?,
            training: json(serde_json::to_value(&pipeline.training), "training")?,
            task: pipeline.task,
            environment: pipeline.device.environment(),
        },
        groups,
        shape: pipeline.shape,
        partitioner: json(serde_json::to_value(&*pipeline.partitioner), "partition")?,
        sequences,
        labels: pipeline.labels.names().to_vec(),
    })
}

/// Compares a store's settings with those that the pipeline asks for. The numeric environment may differ: serving and
/// deleting need no arithmetic of their own.
pub(crate) fn check_settings(store: &Store, mut asked: StoreSettings) -> Result<(), EngineError> {
    let stored = store.settings();
    asked.recipe.environment.clone_from(&stored.recipe.environment);
    match stored.difference(&asked) {
        Some(SettingDifference { path, own, other }) => {
            let key = match path.strip_prefix("recipe.").unwrap_or(&path) {
                "base" => {
                    "the base model (weights, tokenizer, `model.max_tokens`, `model.weights`, with chats the chat template)".to_owned()
                }
                other => format!("`{other}`"),
            };
            Err(EngineError::StoreMismatch { store: store.path().into(), key, stored: own, asked: other })
        }
        None => Ok(()),
    }
}

/// The settings of a pipeline for taking records in, by its keys: a store keeps them, as none of it can be changed afterwards.
pub(crate) fn taken_in_with(pipeline: &CheckedPipeline) -> Value {
    let columns = |source: &Value| json!({ "id": source["id"], "subject": source["subject"] });
    let source = pipeline.train_data.as_ref().map(|source| serde_json::to_value(source).unwrap_or_default());
    json!({
        "store": { "secret": pipeline.secret, "encrypt": pipeline.encrypt },
        "data": { "duplicates": pipeline.duplicates, "train": source.as_ref().map(columns) },
    })
}

/// Checks that a pipeline takes records in as the store's maker did: later it would change nothing, and nobody would see that.
///
/// # Errors
///
/// [`EngineError::StoreMismatch`] for the first difference.
pub(crate) fn check_taken_in(store: &Store, pipeline: &CheckedPipeline) -> Result<(), EngineError> {
    let Some(stored) = store.taken_in_with() else { return Ok(()) };
    let mut asked = taken_in_with(pipeline);
    // Records that a program gave have no columns.
    if [&asked, stored].iter().any(|one| one["data"]["train"].is_null()) {
        asked["data"]["train"].clone_from(&stored["data"]["train"]);
    }
    match SettingDifference::of(stored, &asked) {
        Some(SettingDifference { path, own, other }) => Err(EngineError::StoreMismatch {
            store: store.path().into(),
            key: format!("`{path}`"),
            stored: own,
            asked: other,
        }),
        None => Ok(()),
    }
}
