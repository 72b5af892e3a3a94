//! `eval --memorisation`: the exposure of canaries, and the records that a prefix brings back.

use std::path::PathBuf;

use s3t_eval::memorisation::{Canaries, measure_memorisation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::to_read;
use crate::parts::all;
use crate::reply::plain_answers;

/// The request to measure memorisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorisationRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The file of canaries and of what is extracted.
    pub file: PathBuf,
}

/// The answer to `eval --memorisation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorisationAnswer {
    /// The measurements.
    pub memorisation: Memorisation,
}

plain_answers!(MemorisationAnswer);

/// The memorisation of canaries and of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memorisation {
    /// The exposure, in bits, that a secret has by chance in the mean over a large space.
    pub chance: f64,
    /// Each canary's exposure.
    pub canaries: Vec<CanaryReport>,
    /// The records that a prefix brings back, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extraction: Option<ExtractionReport>,
}

/// The exposure of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryReport {
    /// The canary's id.
    pub id: String,
    /// The number of secrets in its space.
    pub space: f64,
    /// The exposure in bits.
    pub exposure: f64,
    /// The rank of the secret by its likelihood, from 1; left out if the exposure was taken from a fitted distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// The exposure by the base model without any adapter, in bits.
    pub base_exposure: f64,
    /// Minus the logarithm to base 2 of the probability of the secret's text behind its prompt.
    pub log_perplexity: f64,
    /// True if greedy decoding of the prompt gives the secret's text.
    pub recited: bool,
}

/// The records that a prefix brings back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExtractionReport {
    /// The tokens of a response that were given behind its prompt.
    pub prefix_tokens: usize,
    /// Records that were tried.
    pub records: usize,
    /// Records that are too short for the prefix and the tokens behind it.
    pub too_short: usize,
    /// The share of the records that come back.
    pub share: f64,
    /// The lower limit of the share at 95 % (Clopper and Pearson); left out if no record was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The upper limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// The records that come back from the base model without any adapter.
    pub base: usize,
    /// The ids of the records that come back, in the order of the data.
    pub extracted: Vec<String>,
}

impl From<s3t_eval::memorisation::CanaryReport> for CanaryReport {
    fn from(report: s3t_eval::memorisation::CanaryReport) -> Self {
        Self {
            id: report.id,
            space: report.space,
            exposure: report.exposure.bits,
            rank: report.exposure.rank,
            base_exposure: report.base.bits,
            log_perplexity: report.log_perplexity,
            recited: report.recited,
        }
    }
}

impl From<s3t_eval::memorisation::ExtractionReport> for ExtractionReport {
    fn from(report: s3t_eval::memorisation::ExtractionReport) -> Self {
        Self {
            prefix_tokens: report.prefix_tokens,
            records: report.records,
            too_short: report.too_short,
            share: report.share(),
            low: report.interval.map(|interval| interval.low),
            high: report.interval.map(|interval| interval.high),
            base: report.base,
            extracted: report.extracted,
        }
    }
}

impl From<s3t_eval::memorisation::Memorisation> for Memorisation {
    fn from(measured: s3t_eval::memorisation::Memorisation) -> Self {
        Self {
            chance: s3t_eval::memorisation::CHANCE,
            canaries: all(measured.canaries),
            extraction: measured.extraction.map(Into::into),
        }
    }
}

/// Measures the memorisation of a system as it answers now.
///
/// # Errors
///
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a file or a system that cannot be used;
/// [`ErrorKind::NothingServes`](crate::ErrorKind::NothingServes) if no shard can answer.
pub fn memorisation(request: &MemorisationRequest) -> Result<MemorisationAnswer, ApiError> {
    let asked = Canaries::read(&request.file)?;
    let system = to_read(&request.pipeline)?;
    Ok(MemorisationAnswer { memorisation: measure_memorisation(&system, &asked)?.into() })
}
