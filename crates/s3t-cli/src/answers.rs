//! `s3t predict`: the answers of a system, or of a bare Hugging Face model with or without an adapter.

use std::path::Path;

use s3t::backends::DeviceSpec;
use s3t::core::{Limits, Record, RecordId, Target, Task};
use s3t::data::{read_image_question, read_questions};
use s3t::engine::{EngineError, Prediction, System, in_batches};
use s3t::interchange::read_adapter;
use s3t::models::{Backbone, Input, LoadOptions, ModelError, head_outputs};
use s3t::peft::tensors::to_host;
use s3t::train::{StageModel, rows};
use serde::Serialize;

use crate::PredictArgs;
use crate::commands::{Outcome, open_to_read, show_cut, test_records};
use crate::exit::{self, Failure};
use crate::output::{Output, table};

pub(crate) fn predict(args: &PredictArgs, output: &mut Output) -> Outcome {
    match (&args.pipeline, &args.model) {
        (Some(pipeline), _) => of_system(&open_to_read(pipeline)?, args, output),
        (None, Some(model)) => of_model(model, args, output),
        (None, None) => Err(Failure::new(exit::REFUSED, "give a pipeline file, or --model for a bare model")),
    }
}

fn of_system(system: &System, args: &PredictArgs, output: &mut Output) -> Outcome {
    let mut records = match questions(&**system.backbone(), args, &system.pipeline().limits)? {
        Some(records) => records,
        None => test_records(system)?,
    };
    records.truncate(args.limit.unwrap_or(usize::MAX));
    let labels = system.pipeline().labels.names();
    if system.pipeline().task == Task::CausalLm {
        let completions = system.complete(&records, args.max_new_tokens)?;
        output.result("completions", &completions, || {
            let rows = completions.iter().map(|completion| vec![completion.id.clone(), completion.text.clone()]);
            table(&["record", "what follows"], rows.collect(), 2);
        });
        return Ok(0);
    }
    let predictions = system.predict(&records)?;
    let scores = predictions.iter().map(|prediction| (prediction.id.as_str(), prediction.scores.as_slice()));
    check_finite(scores)?;
    show_cut(system.cut(&records)?, system.backbone().max_tokens(), output);
    output.result("labels", &labels, || {});
    output.result("predictions", &predictions, || {
        let row = |prediction: &Prediction| {
            let of_class = |class: usize| format!("{:.3}", prediction.scores[class]);
            let answer = match system.pipeline().task {
                Task::Classification { .. } => {
                    let class = prediction.label.unwrap_or_default();
                    vec![labels[class].clone(), of_class(class)]
                }
                Task::MultiLabel { .. } => {
                    let chosen: Vec<usize> =
                        (0..labels.len()).filter(|class| prediction.scores[*class] > 0.0).collect();
                    let names: Vec<&str> = chosen.iter().map(|class| labels[*class].as_str()).collect();
                    vec![names.join(" | "), chosen.into_iter().map(of_class).collect::<Vec<_>>().join(" | ")]
                }
                Task::Regression | Task::CausalLm => vec![String::new(), of_class(0)],
            };
            [vec![prediction.id.clone()], answer].concat()
        };
        table(&["record", "label", "score"], predictions.iter().map(row).collect(), 2);
    });
    Ok(0)
}

/// What a bare model gives for a record.
#[derive(Serialize)]
struct Logits {
    id: String,
    /// Of a classification head; of a language model those of the token that follows.
    logits: Vec<f32>,
}

fn of_model(model: &Path, args: &PredictArgs, output: &mut Output) -> Outcome {
    let device = args.device.parse::<DeviceSpec>().and_then(DeviceSpec::open).map_err(EngineError::from)?;
    let options =
        LoadOptions { max_tokens: args.max_tokens, accept_fields: args.accept_field.clone(), ..LoadOptions::default() };
    let backbone = s3t::models::load(model, options.clone(), &device).map_err(EngineError::from)?;
    let Some(mut records) = questions(&*backbone, args, &options.limits)? else {
        return Err(Failure::new(exit::REFUSED, "nothing to answer for; give --input FILE.jsonl or --image FILE"));
    };
    records.truncate(args.limit.unwrap_or(usize::MAX));
    let read = |folder| read_adapter(folder, &*backbone, &args.accept_field);
    let adapter = args.adapter.as_deref().map(read).transpose()?;
    // The adapter's head counts where it has one.
    let own = backbone.classifier().map_or(0, head_outputs);
    let task = match adapter.as_ref().map_or(0, s3t::interchange::Adapter::outputs) {
        0 if own > 0 => Task::Classification { classes: own },
        0 if backbone.has_language_head() => Task::CausalLm,
        0 => {
            let problem =
                "neither the model nor an adapter has a head, so there are no logits; give --adapter with a head";
            let left_aside = backbone.own_head().left_aside.as_ref();
            let why = left_aside
                .map(|classes| format!(" (`architectures` is {classes}, whose head, if any, is of another task)"));
            return Err(Failure::new(exit::REFUSED, format!("{problem}{}", why.unwrap_or_default())));
        }
        classes => Task::Classification { classes },
    };
    let stage = match &adapter {
        Some(adapter) => adapter.model(&*backbone, &device, task)?,
        None => StageModel::base(&*backbone, &device, task)
            .ok_or_else(|| Failure::new(exit::REFUSED, "the model's head is not one of its type"))?,
    };
    let inputs = records
        .iter()
        .map(|record| backbone.prepare(record))
        .collect::<Result<Vec<_>, _>>()
        .map_err(EngineError::from)?;
    let cut = inputs.iter().filter(|input| input.cut > 0).count();
    // What follows a prompt that was cut is not what follows the prompt.
    if let Some(input) = inputs.iter().find(|input| task == Task::CausalLm && input.cut > 0) {
        return Err(EngineError::Model(ModelError::WrongInput {
            record: input.id().to_string(),
            found: format!("prompt of {} tokens or more", input.tokens + 1),
            expected: format!("prompts of 1 to {} tokens (`--max-tokens`), which are not cut", backbone.max_tokens()),
        })
        .into());
    }
    let jobs = s3t::engine::Resources::default().job_count();
    let found = in_batches(jobs, &inputs, |batch| logits(&*backbone, &stage, task, batch))?;
    let answers: Vec<Logits> =
        records.iter().zip(found).map(|(record, logits)| Logits { id: record.id.to_string(), logits }).collect();
    check_finite(answers.iter().map(|answer| (answer.id.as_str(), answer.logits.as_slice())))?;
    show_cut(cut, backbone.max_tokens(), output);
    let labels = &backbone.own_head().labels;
    if task.outputs() == labels.len() && adapter.as_ref().is_none_or(|adapter| adapter.outputs() == 0) {
        output.result("labels", labels, || {});
    }
    output.result("predictions", &answers, || {
        let row = |answer: &Logits| {
            let shown: Vec<String> = answer.logits.iter().take(8).map(|logit| format!("{logit:.6}")).collect();
            let more = if answer.logits.len() > 8 { ", ..." } else { "" };
            vec![answer.id.clone(), shown.join(", ") + more]
        };
        table(&["record", "logits"], answers.iter().map(row).collect(), 2);
    });
    Ok(0)
}

/// Refuses outputs that are no numbers: the largest of them would still be taken for an answer.
fn check_finite<'a>(answers: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<(), Failure> {
    match answers.into_iter().find(|(_, outputs)| !outputs.iter().all(|output| output.is_finite())) {
        Some((record, _)) => Err(EngineError::Model(ModelError::OutputNotFinite { record: record.to_owned() }).into()),
        None => Ok(()),
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

/// The records of `--input` and `--image`; what they show is unknown, so they have no target. `None` if neither is given.
fn questions(backbone: &Backbone, args: &PredictArgs, limits: &Limits) -> Result<Option<Vec<Record>>, Failure> {
    if args.input.is_none() && args.image.is_empty() {
        return Ok(None);
    }
    let mut records = match &args.input {
        Some(input) => read_questions(input, backbone.image_input(), limits)?,
        None => Vec::new(),
    };
    for image in &args.image {
        let payload = read_image_question(image, backbone.image_input())
            .map_err(|problem| Failure::new(exit::REFUSED, problem))?;
        records.push(Record { id: name_of(image)?, subject: None, target: Target::None, ordinal: 0, payload });
    }
    Ok(Some(records))
}

fn name_of(image: &Path) -> Result<RecordId, Failure> {
    Ok(RecordId::new(image.display().to_string()).map_err(EngineError::from)?)
}
