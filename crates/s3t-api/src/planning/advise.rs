//! `advise`: the shards, slices, budget and strategy to choose.

use std::path::PathBuf;
use std::time::Instant;

use s3t_core::budget::search::{Advice, Candidate, Goal, SearchLimits, SearchRequest};
use s3t_core::registry::plugins_of;
use s3t_core::{CoreError, PluginKind, SequenceStrategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::charts::advice_chart;
use super::described::Workload;
use super::system::SystemRequest;
use crate::picture::Picture;
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request for advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdviseRequest {
    /// The records, the model, and the parts of the shape that are given.
    #[serde(flatten)]
    pub system: SystemRequest,
    /// The benefit that is worth paying for.
    pub goal: GoalName,
    /// With the goal `depth`: the requests after which the depth counts.
    pub after: u64,
    /// Deletion requests that come in a day.
    pub requests_per_day: Option<f64>,
    /// Days that the system should last without training.
    pub days: Option<f64>,
    /// The largest number of floating-point operations that training may take.
    pub max_flops: Option<f64>,
    /// The largest number of megabytes that the stages may take.
    pub max_megabytes: Option<u64>,
    /// The largest number of shards.
    pub max_shards: u32,
    /// The largest number of sequences of a shard.
    pub max_budget: usize,
    /// The smallest number of records of a slice.
    pub min_slice_records: u64,
    /// The smallest number of blocks of a slice.
    pub min_slice_blocks: usize,
    /// The file of a picture of the front (.svg or .png).
    pub plot: Option<PathBuf>,
}

impl Default for AdviseRequest {
    fn default() -> Self {
        let limits = SearchLimits::default();
        Self {
            system: SystemRequest::default(),
            goal: GoalName::default(),
            after: 100,
            requests_per_day: None,
            days: None,
            max_flops: None,
            max_megabytes: None,
            max_shards: limits.shards,
            max_budget: limits.budget,
            min_slice_records: limits.slice_records,
            min_slice_blocks: limits.slice_blocks,
            plot: None,
        }
    }
}

/// The benefit that a search maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GoalName {
    /// Requests until every shard is dead.
    #[default]
    Deletions,
    /// Adapted blocks that a shard still answers with after some requests.
    Depth,
}

/// The answer to `advise`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdviseAnswer {
    /// Expected requests until every shard of the recommended shape is dead; `null` for never.
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean_deletions: f64,
    /// The recommended shape.
    pub recommended: Candidate,
    /// The reason for the recommendation.
    pub reason: String,
    /// Cautions.
    pub warnings: Vec<String>,
    /// The shapes that no other beats in both cost and benefit, the cheapest first.
    pub front: Vec<Candidate>,
    /// The number of shapes that were valued.
    pub searched: usize,
    /// The strategies that were tried: all that are linked into the program and affordable, the cheapest first.
    #[serde(default)]
    pub strategies: Vec<String>,
    /// Seconds that the search took.
    pub seconds: f64,
    /// The file of the picture, if one was asked for and some benefit is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

plain_answers!(AdviseAnswer);

/// Searches for the shape of a system, among all sequence strategies that are linked into the program.
///
/// ```
/// use s3t_api::AdviseRequest;
///
/// let wanted = AdviseRequest { requests_per_day: Some(1.0), days: Some(60.0), ..AdviseRequest::default() };
/// let answer = s3t_api::advise(&wanted)?;
/// assert!(answer.mean_deletions >= 60.0 && answer.strategies.contains(&"cyclic".to_owned()));
/// # Ok::<(), s3t_api::ApiError>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Refused`] if no shape is within the limits, naming the limit that leaves none, or if the search would take too long.
pub fn advise(request: &AdviseRequest) -> Result<AdviseAnswer, ApiError> {
    let picture = Picture::at(request.plot.as_deref())?;
    let Workload { records, epochs, model, prior, strategy, fixed, seed } = Workload::new(&request.system)?;
    let strategies = match strategy {
        Some(strategy) => vec![strategy],
        None => plugins_of::<dyn SequenceStrategy>(PluginKind::SequenceStrategy)
            .map_err(|error| ApiError::new(ErrorKind::Refused, error.message))?,
    };
    let strategies: Vec<&dyn SequenceStrategy> = strategies.iter().map(|strategy| &**strategy).collect();
    let goal = match request.goal {
        GoalName::Deletions => Goal::Deletions,
        GoalName::Depth => Goal::Depth { requests: request.after },
    };
    let limits = SearchLimits {
        flops: request.max_flops.unwrap_or(f64::INFINITY),
        bytes: request.max_megabytes.map_or(u64::MAX, |megabytes| megabytes.saturating_mul(1_000_000)),
        shards: request.max_shards,
        budget: request.max_budget,
        slice_records: request.min_slice_records,
        slice_blocks: request.min_slice_blocks,
    };
    let wanted_deletions = request.requests_per_day.zip(request.days).map(|(requests, days)| requests * days);
    if let Some(wanted) = wanted_deletions.filter(|wanted| !wanted.is_finite() || *wanted <= 0.0) {
        let message = format!("`requests_per_day` times `days` is {wanted}; both are above 0");
        return Err(ApiError::new(ErrorKind::Refused, message));
    }
    let start = Instant::now();
    let search = SearchRequest { records, model, epochs, prior: &prior, goal, wanted_deletions, limits, fixed, seed };
    let advice = Advice::search(&search, &strategies).map_err(|error| field_of(&error))?;
    let seconds = start.elapsed().as_secs_f64();
    let finite = advice.front.iter().any(|candidate| candidate.benefit.is_finite());
    let plot = picture.filter(|_| finite).map(|picture| picture.draw(&advice_chart(&advice, goal, records)));
    let recommended = advice.best().clone();
    Ok(AdviseAnswer {
        mean_deletions: recommended.lifetime.all_dead,
        recommended,
        reason: advice.reason,
        warnings: advice.warnings,
        front: advice.front,
        searched: advice.searched,
        strategies: advice.strategies,
        seconds,
        plot: plot.transpose()?,
    })
}

/// A refusal of the search, with the field of the request that it came from.
fn field_of(error: &CoreError) -> ApiError {
    let CoreError::InvalidField { field, problem } = error else {
        return ApiError::new(ErrorKind::Refused, error.to_string());
    };
    let several = |fields: &str| ApiError::new(ErrorKind::Refused, format!("{fields} {problem}"));
    match field.as_str() {
        "search" => several("`blocks`, `max_shards` and `max_budget`"),
        "limits" => several("`max_flops` and `max_megabytes`"),
        "blocks" => ApiError::field("blocks", problem),
        "slice_records" => ApiError::field("min_slice_records", problem),
        "slice_blocks" => ApiError::field("min_slice_blocks", problem),
        "shards" => ApiError::field("max_shards", problem),
        "budget" => ApiError::field("max_budget", problem),
        "fixed.shards" => ApiError::field("shards", problem),
        "fixed.budget" => ApiError::field("budget", problem),
        "fixed.blocks_per_slice" => ApiError::field("blocks_per_slice", problem),
        "slices" => ApiError::field("slices", problem),
        "prior" => ApiError::field("prior", problem),
        _ => ApiError::new(ErrorKind::Refused, error.to_string()),
    }
}
