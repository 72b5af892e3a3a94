//! The pipeline's base model.

use std::sync::Arc;

use s3t_core::Task;
use s3t_core::budget::cost::ModelShape;
use s3t_models::{Backbone, Device, LoadOptions, ModelError, OwnHead};

use crate::error::EngineError;
use crate::pipeline::Pipeline;

/// The tokens of a text that costs are estimated with where no limit is given.
const ESTIMATED_TOKENS: usize = 512;

pub(crate) fn model_shape(pipeline: &Pipeline, backbone: &Backbone) -> ModelShape {
    let block = backbone.block_shape();
    let head = backbone.head().parameters(pipeline.task.outputs(), backbone.hidden());
    let sum = |numbers: &mut dyn Iterator<Item = usize>| numbers.sum::<usize>() as u64;
    ModelShape {
        blocks: backbone.blocks(),
        // Of texts it is not known before they are read; this is what costs are estimated with.
        tokens: pipeline.max_tokens.unwrap_or(ESTIMATED_TOKENS).min(backbone.max_tokens()) as u64,
        block_weights: sum(&mut block.linears.values().map(|(inputs, outputs)| inputs * outputs)),
        attention_width: (block.heads * block.head_dim) as u64,
        peft_parameters: sum(&mut pipeline.peft.parameters(&block).iter().map(s3t_peft::ParameterSpec::len)),
        head_parameters: sum(&mut head.iter().map(s3t_peft::ParameterSpec::len)),
    }
}

/// Loads the pipeline's base model as stages are trained with it.
pub(crate) fn load(pipeline: &Pipeline, device: &Device) -> Result<Arc<Backbone>, EngineError> {
    load_with(pipeline, pipeline.load_options(), device)
}

/// Loads the pipeline's base model as it answers.
pub(crate) fn load_to_answer(pipeline: &Pipeline, device: &Device) -> Result<Arc<Backbone>, EngineError> {
    load_with(pipeline, LoadOptions { precision: pipeline.serving_precision(), ..pipeline.load_options() }, device)
}

fn load_with(pipeline: &Pipeline, options: LoadOptions, device: &Device) -> Result<Arc<Backbone>, EngineError> {
    s3t_models::load(&pipeline.model, options, device).map_err(|error| match error {
        ModelError::MaxTokens { .. } => pipeline.refuse("model.max_tokens", error.to_string()),
        other => other.into(),
    })
}

/// Checks that the base model's own head means by its outputs what the pipeline means by them.
pub(crate) fn check_own_head(pipeline: &Pipeline, backbone: &Backbone) -> Result<(), EngineError> {
    let OwnHead { labels, problem, .. } = backbone.own_head();
    let refuse = |problem: String| {
        let problem = format!("`serving.dead_shard` is `base`, but {problem}");
        Err(pipeline.refuse("serving.dead_shard", problem))
    };
    if pipeline.task == Task::CausalLm {
        return Ok(());
    }
    let asked = pipeline.labels.names();
    if !labels.is_empty() && !asked.is_empty() && labels != asked {
        let (own, order) = (labels.join(", "), asked.join(", "));
        return refuse(format!(
            "`id2label` of the base model names its outputs {own}, and `data.labels` is {order}; give `data.labels` the model's \
             names in its order, or use `leave-out`"
        ));
    }
    let fits = match problem.as_deref() {
        Some("regression") => pipeline.task == Task::Regression,
        Some("single_label_classification") => matches!(pipeline.task, Task::Classification { .. }),
        Some("multi_label_classification") => matches!(pipeline.task, Task::MultiLabel { .. }),
        _ => true,
    };
    match problem {
        Some(problem) if !fits => refuse(format!(
            "`problem_type` of the base model is `{problem}`, and `data.task` is `{}`; use `leave-out`",
            pipeline.task.name()
        )),
        _ => Ok(()),
    }
}
