//! `s3t predict`.

use s3t::api::{Completion, Logits, ModelAnswer, ModelRequest, PredictAnswer, PredictRequest, Prediction, Questions};

use crate::arguments::PredictArgs;
use crate::commands::train::show_cut;
use crate::exit::{self, Failure, Outcome, code_of};
use crate::output::{Output, table};

pub(crate) fn predict(args: PredictArgs, output: &mut Output) -> Outcome {
    let questions = Questions { input: args.input, images: args.image, limit: args.limit };
    match (args.pipeline, args.model) {
        (Some(pipeline), _) => {
            let request = PredictRequest { pipeline, questions, max_new_tokens: args.max_new_tokens };
            let answer = s3t::api::predict(&request)?;
            output.answer(&answer, || show(&answer));
            Ok(code_of(&answer))
        }
        (None, Some(model)) => {
            let answer = s3t::api::predict_with_model(&ModelRequest {
                model,
                adapter: args.adapter,
                questions,
                max_tokens: args.max_tokens,
                accept_fields: args.accept_field,
                weights: args.weights,
                precision: args.precision,
                device: args.device,
            })?;
            output.answer(&answer, || show_logits(&answer));
            Ok(code_of(&answer))
        }
        (None, None) => Err(Failure::new(exit::REFUSED, "give a pipeline file, or --model for a bare model")),
    }
}

fn show(answer: &PredictAnswer) {
    match answer {
        PredictAnswer::Completions { completions } => {
            let row = |completion: &Completion| vec![completion.id.clone(), completion.text.clone()];
            table(&["record", "what follows"], completions.iter().map(row).collect(), 2);
        }
        PredictAnswer::Predictions { cut, cut_to, labels, predictions } => {
            show_cut(*cut, *cut_to);
            let row =
                |prediction: &Prediction| [vec![prediction.id.clone()], label_and_score(prediction, labels)].concat();
            table(&["record", "label", "score"], predictions.iter().map(row).collect(), 2);
        }
    }
}

/// The label of a prediction with its score: one class, any number of classes, or a number alone.
fn label_and_score(prediction: &Prediction, labels: &[String]) -> Vec<String> {
    let of_class = |class: usize| format!("{:.3}", prediction.scores[class]);
    match prediction.label {
        Some(class) => vec![labels[class].clone(), of_class(class)],
        None if labels.is_empty() => vec![String::new(), of_class(0)],
        None => {
            let chosen: Vec<usize> = (0..labels.len()).filter(|class| prediction.scores[*class] > 0.0).collect();
            let names: Vec<&str> = chosen.iter().map(|class| labels[*class].as_str()).collect();
            vec![names.join(" | "), chosen.into_iter().map(of_class).collect::<Vec<_>>().join(" | ")]
        }
    }
}

fn show_logits(answer: &ModelAnswer) {
    show_cut(answer.cut, answer.cut_to);
    let row = |answer: &Logits| {
        let shown: Vec<String> = answer.logits.iter().take(8).map(|logit| format!("{logit:.6}")).collect();
        let more = if answer.logits.len() > 8 { ", ..." } else { "" };
        vec![answer.id.clone(), shown.join(", ") + more]
    };
    table(&["record", "logits"], answer.predictions.iter().map(row).collect(), 2);
}
