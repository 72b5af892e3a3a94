//! `predict --model`: the logits of a bare Hugging Face model, with or without an adapter.

use std::path::PathBuf;

use s3t_backends::DeviceSpec;
use s3t_core::Task;
use s3t_engine::{EngineError, Resources, check_precision, check_weights, in_batches};
use s3t_interchange::{Adapter, read_adapter};
use s3t_models::{Backbone, Input, LoadOptions, ModelError, Precision, WeightFormat, head_outputs};
use s3t_peft::tensors::to_host;
use s3t_train::{StageModel, rows};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prediction::{Questions, check_finite};
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request for the logits of a bare model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRequest {
    /// The folder with `config.json` and `model.safetensors`.
    pub model: PathBuf,
    /// The folder of a PEFT adapter, with `adapter_config.json` and `adapter_model.safetensors`.
    #[serde(default)]
    pub adapter: Option<PathBuf>,
    /// The questions; at least one.
    #[serde(flatten)]
    pub questions: Questions,
    /// The most tokens of a text: longer texts are cut. Without it the model takes as many as it has positions for, and longer texts
    /// are refused.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Fields of the model's or the adapter's files that are passed over although they are refused or unknown.
    #[serde(default)]
    pub accept_fields: Vec<String>,
    /// The form of the frozen weights, as a pipeline's `model.weights`: a store whose base model has another form than `full` answers
    /// as its exports do in that form.
    #[serde(default)]
    pub weights: WeightFormat,
    /// The precision of the products with frozen weights, as a pipeline's `serving.precision`, which is that of training where it
    /// is left out.
    #[serde(default)]
    pub precision: Precision,
    /// The device: `flex`, `ndarray`, `cuda`, `vulkan`, `wgpu`.
    #[serde(default = "default_device")]
    pub device: String,
}

fn default_device() -> String {
    "flex".to_owned()
}

/// The answer to `predict --model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelAnswer {
    /// The texts that were cut, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// The tokens that texts were cut to, if any text was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_to: Option<usize>,
    /// The class names that the model's own head has; left out where there are none, or an adapter's head answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// The logits for each record.
    pub predictions: Vec<Logits>,
}

plain_answers!(ModelAnswer);

/// The logits for one record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logits {
    /// The record's id.
    pub id: String,
    /// The logits of a classification head; of a language model those of the token that follows.
    pub logits: Vec<f32>,
}

/// Gives the logits of a bare model.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a model, an adapter or questions that cannot be used.
pub fn predict_with_model(request: &ModelRequest) -> Result<ModelAnswer, ApiError> {
    let named = request.device.parse::<DeviceSpec>()?;
    check_weights(request.weights, named).map_err(|problem| ApiError::field("weights", problem))?;
    check_precision(request.precision, named).map_err(|problem| ApiError::field("precision", problem))?;
    let device = named.open()?;
    let options = LoadOptions {
        max_tokens: request.max_tokens,
        accept_fields: request.accept_fields.clone(),
        precision: request.precision,
        weights: request.weights,
        ..LoadOptions::default()
    };
    let backbone = s3t_models::load(&request.model, options.clone(), &device)?;
    let Some(mut records) = request.questions.read(&backbone, &options.limits)? else {
        let problem = "nothing to answer for; give --input FILE.jsonl or --image FILE";
        return Err(ApiError::new(ErrorKind::Refused, problem));
    };
    records.truncate(request.questions.limit.unwrap_or(usize::MAX));
    let read = |folder| read_adapter(folder, &backbone, &request.accept_fields);
    let adapter = request.adapter.as_deref().map(read).transpose()?;
    let task = task_of(&backbone, adapter.as_ref())?;
    let stage = match &adapter {
        Some(adapter) => adapter.model(&backbone, &device, task)?,
        None => StageModel::base(&backbone, &device, task)
            .ok_or_else(|| ApiError::new(ErrorKind::Refused, "the model's head is not one of its type"))?,
    };
    let inputs = records.iter().map(|record| backbone.prepare(record)).collect::<Result<Vec<_>, _>>()?;
    let cut = Some(inputs.iter().filter(|input| input.cut > 0).count()).filter(|cut| *cut > 0);
    // The token after a prompt that was cut is not the token after the prompt.
    if let Some(input) = inputs.iter().find(|input| task == Task::CausalLm && input.cut > 0) {
        return Err(EngineError::Model(ModelError::WrongInput {
            record: input.id().to_string(),
            found: format!("prompt of {} tokens or more", input.tokens + 1),
            expected: format!("prompts of 1 to {} tokens (`--max-tokens`), which are not cut", backbone.max_tokens()),
        })
        .into());
    }
    let jobs = Resources::default().job_count();
    let found = in_batches(jobs, &inputs, |batch| logits(&backbone, &stage, task, batch))?;
    let answer = |(record, logits): (&s3t_core::Record, Vec<f32>)| Logits { id: record.id.to_string(), logits };
    let predictions: Vec<Logits> = records.iter().zip(found).map(answer).collect();
    check_finite(predictions.iter().map(|answer| (answer.id.as_str(), answer.logits.as_slice())))?;
    let own = &backbone.own_head().labels;
    let own_head = task.outputs() == own.len() && adapter.as_ref().is_none_or(|adapter| adapter.outputs() == 0);
    Ok(ModelAnswer {
        cut,
        cut_to: cut.map(|_| backbone.max_tokens()),
        labels: own_head.then(|| own.clone()),
        predictions,
    })
}

/// The task of the head that answers: the adapter's where it has one, or else the model's own.
fn task_of(backbone: &Backbone, adapter: Option<&Adapter>) -> Result<Task, ApiError> {
    let own = backbone.classifier().map_or(0, head_outputs);
    match adapter.map_or(0, Adapter::outputs) {
        0 if own > 0 => Ok(Task::Classification { classes: own }),
        0 if backbone.has_language_head() => Ok(Task::CausalLm),
        0 => {
            let problem =
                "neither the model nor an adapter has a head, so there are no logits; give --adapter with a head";
            let left_aside = backbone.own_head().left_aside.as_ref();
            let why = left_aside
                .map(|classes| format!(" (`architectures` is {classes}, whose head, if any, is of another task)"));
            Err(ApiError::new(ErrorKind::Refused, format!("{problem}{}", why.unwrap_or_default())))
        }
        classes => Ok(Task::Classification { classes }),
    }
}

fn logits(backbone: &Backbone, model: &StageModel, task: Task, batch: &[&Input<'_>]) -> Vec<Vec<f32>> {
    if task != Task::CausalLm {
        return model.outputs(backbone, batch);
    }
    let hidden = model.first_input(backbone, batch);
    let tokens = hidden.states.dims()[1];
    let last: Vec<usize> = batch.iter().enumerate().map(|(row, input)| row * tokens + input.tokens - 1).collect();
    rows(&to_host(model.next_token_logits(backbone, hidden, &last)), batch.len())
}
