//! `predict`: the answers of a system.

use std::path::PathBuf;

use s3t_core::{Limits, Record, RecordId, Target, Task};
use s3t_data::{read_image_question, read_questions};
use s3t_engine::{EngineError, System};
use s3t_models::{Backbone, ModelError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::to_read;
use crate::parts::all;
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request to predict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PredictRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The questions; without any, the pipeline's test data.
    #[serde(flatten)]
    pub questions: Questions,
    /// The most tokens that a system of causal language modelling adds.
    #[serde(default = "default_new_tokens")]
    pub max_new_tokens: usize,
}

fn default_new_tokens() -> usize {
    64
}

/// The questions of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Questions {
    /// A file with one JSON object a line, each with `text` (and `text_pair`), `messages`, `features` or `image`, and perhaps an `id`.
    #[serde(default)]
    pub input: Option<PathBuf>,
    /// Picture files: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[serde(default)]
    pub images: Vec<PathBuf>,
    /// The most records that are answered.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// The answer to `predict`: predictions, or the completions of a system of causal language modelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PredictAnswer {
    /// Texts that were continued.
    Completions {
        /// A completion for each record.
        completions: Vec<Completion>,
    },
    /// Outputs of a head.
    Predictions {
        /// The texts that `model.max_tokens` cut, if it cut any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<usize>,
        /// The tokens that texts were cut to, if any text was cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut_to: Option<usize>,
        /// The class names; none for a task without classes.
        labels: Vec<String>,
        /// A prediction for each record.
        predictions: Vec<Prediction>,
    },
}

plain_answers!(PredictAnswer);

/// The answer for one record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The record's id.
    pub id: String,
    /// The predicted class, with the largest score; left out for tasks that do not predict one of several classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The combined outputs: one for each class, or the one number.
    pub scores: Vec<f32>,
}

/// A text that was continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// The record's id.
    pub id: String,
    /// The text that follows the record's.
    pub text: String,
}

impl From<s3t_engine::Prediction> for Prediction {
    fn from(prediction: s3t_engine::Prediction) -> Self {
        Self { id: prediction.id, label: prediction.label, scores: prediction.scores }
    }
}

impl From<s3t_engine::Completion> for Completion {
    fn from(completion: s3t_engine::Completion) -> Self {
        Self { id: completion.id, text: completion.text }
    }
}

/// Answers for the questions of a request, or for the pipeline's test data.
///
/// # Errors
///
/// [`ErrorKind::NothingServes`] if no shard can answer; [`ErrorKind::Refused`] for questions that the model cannot take.
pub fn predict(request: &PredictRequest) -> Result<PredictAnswer, ApiError> {
    let system = to_read(&request.pipeline)?;
    let mut records = match request.questions.read(system.backbone(), &system.pipeline().limits)? {
        Some(records) => records,
        None => system.pipeline().read_test_data()?,
    };
    records.truncate(request.questions.limit.unwrap_or(usize::MAX));
    predict_in(&system, &records, request.max_new_tokens)
}

/// Answers for records with an open system.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
/// # s3t_testkit::write_tiny_model(&model, 4)?;
/// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
/// # let system = s3t_engine::System::create(pipeline, &records, None)?;
/// # system.train(&s3t_engine::Quiet)?;
/// let answer = s3t_api::predict_in(&system, &s3t_testkit::toy_records(2, 0, 9), 64)?;
/// let json = serde_json::to_value(&answer)?;
/// assert_eq!(json["predictions"].as_array().map(Vec::len), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`System::predict`] and [`System::complete`]; [`ErrorKind::Refused`] for outputs that are no numbers.
pub fn predict_in(system: &System, records: &[Record], max_new_tokens: usize) -> Result<PredictAnswer, ApiError> {
    if system.pipeline().task == Task::CausalLm {
        return Ok(PredictAnswer::Completions { completions: all(system.complete(records, max_new_tokens)?) });
    }
    let predictions = system.predict(records)?;
    check_finite(predictions.iter().map(|prediction| (prediction.id.as_str(), prediction.scores.as_slice())))?;
    let cut = Some(system.cut(records)?).filter(|cut| *cut > 0);
    Ok(PredictAnswer::Predictions {
        cut,
        cut_to: cut.map(|_| system.backbone().max_tokens()),
        labels: system.pipeline().labels.names().to_vec(),
        predictions: all(predictions),
    })
}

/// Refuses outputs that are no numbers: the largest of them would still be taken for an answer.
pub(crate) fn check_finite<'a>(answers: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<(), ApiError> {
    match answers.into_iter().find(|(_, outputs)| !outputs.iter().all(|output| output.is_finite())) {
        Some((record, _)) => Err(EngineError::Model(ModelError::OutputNotFinite { record: record.to_owned() }).into()),
        None => Ok(()),
    }
}

impl Questions {
    /// The records of the questions, without targets; `None` if there are no questions.
    pub(crate) fn read(&self, backbone: &Backbone, limits: &Limits) -> Result<Option<Vec<Record>>, ApiError> {
        if self.input.is_none() && self.images.is_empty() {
            return Ok(None);
        }
        let mut records = match &self.input {
            Some(input) => read_questions(input, backbone.image_input(), limits)?,
            None => Vec::new(),
        };
        for image in &self.images {
            let payload = read_image_question(image, backbone.image_input())
                .map_err(|problem| ApiError::new(ErrorKind::Refused, problem))?;
            let id = RecordId::new(image.display().to_string())?;
            records.push(Record { id, subject: None, target: Target::None, ordinal: 0, payload });
        }
        Ok(Some(records))
    }
}
