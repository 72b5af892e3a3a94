//! `eval`: the score on the pipeline's test data.

use std::path::PathBuf;

use s3t_core::Record;
use s3t_engine::System;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::to_read;
use crate::parts::{Serving, all};
use crate::reply::plain_answers;

/// The request to evaluate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvalRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
}

/// The answer to `eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvalAnswer {
    /// The evaluation.
    pub evaluation: Evaluation,
}

plain_answers!(EvalAnswer);

/// The scores of a system and of its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// Records answered.
    pub records: usize,
    /// The measure.
    pub metric: Metric,
    /// The score of the ensemble; 1 at best.
    pub score: f64,
    /// Of causal language modelling: the perplexity of the learnt tokens, the exponential of minus their mean log-likelihood. Left out for
    /// other tasks, and where the aggregator gives a token no probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Each member by itself.
    pub members: Vec<MemberScore>,
}

/// The score of one member by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberScore {
    /// The shard.
    pub shard: u32,
    /// The sequence and depth of the member; `null` for the base model.
    pub serving: Option<Serving>,
    /// The score.
    pub score: f64,
    /// The perplexity, as that of the ensemble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
}

/// The measure of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The share of records whose largest output is the right class.
    Accuracy,
    /// Of multi-label classification: the harmonic mean of precision and recall over all pairs of a record and a class.
    MicroF1,
    /// Of regression: the correlation of answers and targets (Pearson).
    Correlation,
    /// Of causal language modelling: the share of the learnt tokens that are predicted from those before.
    TokenAccuracy,
}

impl From<s3t_eval::Metric> for Metric {
    fn from(metric: s3t_eval::Metric) -> Self {
        match metric {
            s3t_eval::Metric::Accuracy => Self::Accuracy,
            s3t_eval::Metric::MicroF1 => Self::MicroF1,
            s3t_eval::Metric::Correlation => Self::Correlation,
            s3t_eval::Metric::TokenAccuracy => Self::TokenAccuracy,
        }
    }
}

impl From<Metric> for s3t_eval::Metric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Accuracy => Self::Accuracy,
            Metric::MicroF1 => Self::MicroF1,
            Metric::Correlation => Self::Correlation,
            Metric::TokenAccuracy => Self::TokenAccuracy,
        }
    }
}

impl From<s3t_eval::MemberScore> for MemberScore {
    fn from(member: s3t_eval::MemberScore) -> Self {
        Self {
            shard: member.shard.0,
            serving: member.serving.map(Serving::from),
            score: member.score,
            perplexity: member.perplexity,
        }
    }
}

impl From<s3t_eval::Evaluation> for Evaluation {
    fn from(evaluation: s3t_eval::Evaluation) -> Self {
        let s3t_eval::Evaluation { records, metric, score, perplexity, members } = evaluation;
        Self { records, metric: metric.into(), score, perplexity, members: all(members) }
    }
}

/// Evaluates a system on its pipeline's test data.
///
/// # Errors
///
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the pipeline has no test data; as [`evaluate_in`].
pub fn evaluate(request: &EvalRequest) -> Result<EvalAnswer, ApiError> {
    let system = to_read(&request.pipeline)?;
    let records = system.pipeline().read_test_data()?;
    Ok(EvalAnswer { evaluation: evaluate_in(&system, &records)? })
}

/// Evaluates an open system on records.
///
/// # Errors
///
/// As [`s3t_eval::evaluate`].
pub fn evaluate_in(system: &System, records: &[Record]) -> Result<Evaluation, ApiError> {
    Ok(s3t_eval::evaluate(system, records)?.into())
}
