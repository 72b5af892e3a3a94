//! `eval --task`: the scores on tasks of texts.

use std::path::PathBuf;

use s3t_engine::System;
use s3t_eval::task::{LanguageTask, TaskOptions, run_task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::to_read;
use crate::parts::all;
use crate::reply::plain_answers;

/// The request to run tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The task files.
    pub tasks: Vec<PathBuf>,
    /// The largest number of questions of a task, the first of its data.
    #[serde(default)]
    pub limit: Option<usize>,
    /// True to give every question's answer.
    #[serde(default)]
    pub samples: bool,
}

/// The answer to `eval --task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskAnswer {
    /// A report for each task.
    pub tasks: Vec<TaskReport>,
}

plain_answers!(TaskAnswer);

/// The scores of a system on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// The name of the task.
    pub name: String,
    /// The kind: `generate`, `choice` or `loglikelihood`.
    pub kind: String,
    /// Questions asked.
    pub records: usize,
    /// Solved examples in front of each question.
    pub few_shot: usize,
    /// A score for each measure.
    pub scores: Vec<TaskScore>,
    /// Every question's answer, if it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// The score of one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskScore {
    /// The measure, by the name that lm-evaluation-harness or `rouge_score` gives it.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The standard error; `null` with fewer than 2 questions.
    pub standard_error: Option<f64>,
    /// True if more is better.
    pub higher_is_better: bool,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The question's id.
    pub id: String,
    /// The text that was generated, or the choice that is the likeliest; `null` for targets whose likelihood is measured.
    pub answer: Option<String>,
    /// The right text.
    pub target: String,
    /// The natural logarithms of the probabilities of the choices, or of the target; empty for a generated text.
    pub log_probabilities: Vec<f64>,
}

impl From<s3t_eval::task::TaskReport> for TaskReport {
    fn from(report: s3t_eval::task::TaskReport) -> Self {
        let s3t_eval::task::TaskReport { name, kind, records, few_shot, scores, samples } = report;
        Self { name, kind: kind.to_owned(), records, few_shot, scores: all(scores), samples: all(samples) }
    }
}

impl From<s3t_eval::task::TaskScore> for TaskScore {
    fn from(score: s3t_eval::task::TaskScore) -> Self {
        Self {
            metric: score.metric.name().to_owned(),
            value: score.value,
            standard_error: score.standard_error,
            higher_is_better: score.metric.higher_is_better(),
        }
    }
}

impl From<s3t_eval::task::Sample> for Sample {
    fn from(sample: s3t_eval::task::Sample) -> Self {
        let s3t_eval::task::Sample { id, answer, target, log_probabilities } = sample;
        Self { id, answer, target, log_probabilities }
    }
}

/// Runs tasks on a system. Every task file is read before the first task is run.
///
/// # Errors
///
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a task, a question or a system that cannot be used;
/// [`ErrorKind::NothingServes`](crate::ErrorKind::NothingServes) if no shard can answer.
pub fn run_tasks(request: &TaskRequest) -> Result<TaskAnswer, ApiError> {
    let tasks = request.tasks.iter().map(|file| LanguageTask::read(file)).collect::<Result<Vec<_>, _>>()?;
    let system = to_read(&request.pipeline)?;
    run_tasks_in(&system, &tasks, TaskOptions { limit: request.limit, samples: request.samples })
}

/// Runs tasks on an open system.
///
/// # Errors
///
/// As [`run_task`].
pub fn run_tasks_in(system: &System, tasks: &[LanguageTask], options: TaskOptions) -> Result<TaskAnswer, ApiError> {
    let run = |task: &LanguageTask| Ok(run_task(system, task, options)?.into());
    Ok(TaskAnswer { tasks: tasks.iter().map(run).collect::<Result<_, ApiError>>()? })
}
