//! `train`: makes the store if it is not there, and trains every missing stage.

use std::path::PathBuf;
use std::time::Instant;

use s3t_engine::{Observer, Pipeline, System};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::Start;
use crate::reply::plain_answers;

/// The request to train.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrainRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The start.
    #[serde(default)]
    pub start: Start,
}

/// The answer to `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainAnswer {
    /// The deletions that a store which was deleted first had accepted, if it had accepted any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_after: Option<u64>,
    /// The texts that `model.max_tokens` cut when the store was made, if it cut any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// The tokens that texts were cut to, if any text was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_to: Option<usize>,
    /// The training.
    pub training: Training,
}

plain_answers!(TrainAnswer);

/// A build, with the time that it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Training {
    /// The stages.
    pub report: BuildReport,
    /// Seconds that the build took.
    pub seconds: f64,
}

/// The stages of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildReport {
    /// Stages of the plan.
    pub planned: usize,
    /// Stages that were there already.
    pub reused: usize,
    /// Stages that were trained.
    pub trained: usize,
}

impl From<s3t_engine::BuildReport> for BuildReport {
    fn from(report: s3t_engine::BuildReport) -> Self {
        let s3t_engine::BuildReport { planned, reused, trained } = report;
        Self { planned, reused, trained }
    }
}

/// Trains every missing stage, and makes the store if it is not there.
///
/// ```no_run
/// use s3t_api::{ErrorKind, TrainRequest};
/// use s3t_engine::Quiet;
///
/// let request: TrainRequest = serde_json::from_str(r#"{ "pipeline": "pipeline.toml", "start": "continue" }"#)?;
/// match s3t_api::train(&request, &Quiet) {
///     Ok(answer) => println!("{} stages trained", answer.training.report.trained),
///     Err(error) if error.kind() == ErrorKind::Interrupted => println!("the same request goes on"),
///     Err(error) => eprintln!("{error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if the observer breaks: finished stages are kept. Otherwise the kind of
/// the first failure.
pub fn train(request: &TrainRequest, observer: &dyn Observer) -> Result<TrainAnswer, ApiError> {
    let (system, restarted_after) = request.start.open(Pipeline::read(&request.pipeline)?)?;
    let training = train_in(&system, observer)?;
    let cut = Some(system.cut_when_made()).filter(|cut| *cut > 0);
    let cut_to = cut.map(|_| system.backbone().max_tokens());
    Ok(TrainAnswer { restarted_after, cut, cut_to, training })
}

/// Trains every missing stage of a system.
///
/// # Errors
///
/// As [`System::train`].
pub fn train_in(system: &System, observer: &dyn Observer) -> Result<Training, ApiError> {
    let started = Instant::now();
    let report = system.train(observer)?.into();
    Ok(Training { report, seconds: started.elapsed().as_secs_f64() })
}
