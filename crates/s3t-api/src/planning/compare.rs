//! `compare-sequences`: sequence strategies side by side.

use std::path::PathBuf;

use s3t_core::budget::depth::MAX_EXACT_SLICES;
use s3t_core::registry::plugins;
use s3t_core::sequence::MAX_STEPS;
use s3t_core::{PartitionShape, PluginKind, Prior, SequenceRequest, ShardId};
use s3t_simulation::{Comparison, StrategyFigures};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::charts::comparison_chart;
use super::described::Described;
use super::extent::steps;
use super::system::{SystemRequest, parse_strategy};
use crate::picture::Picture;
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request to compare strategies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CompareRequest {
    /// The system.
    #[serde(flatten)]
    pub system: SystemRequest,
    /// The strategies, each a plugin's name or a TOML table; all that are linked into the program if it is left out.
    pub strategies: Option<Vec<String>>,
    /// The exponent t of the published score.
    pub t: u32,
    /// Requests to the system after which depths are compared; 0 for one for each slice.
    pub requests: u64,
    /// The file of a picture (.svg or .png).
    pub plot: Option<PathBuf>,
}

impl Default for CompareRequest {
    fn default() -> Self {
        Self { system: SystemRequest::default(), strategies: None, t: 100, requests: 0, plot: None }
    }
}

impl CompareRequest {
    /// The requests after which depths are compared, for a shape.
    pub fn requests_for(&self, shape: PartitionShape) -> u64 {
        if self.requests == 0 { shape.count() } else { self.requests }
    }
}

/// The answer to `compare-sequences`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompareAnswer {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Sequences of a shard.
    pub budget: usize,
    /// The probability of each slice of a shard.
    pub prior: Vec<f64>,
    /// Requests to the system at which depths are given.
    pub requests: Vec<u64>,
    /// Expected requests until every shard is dead with the best strategy; `null` for never.
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean_deletions: f64,
    /// The strategy with the greatest depth.
    pub best: String,
    /// The strategies, the deepest first.
    pub strategies: Vec<StrategyFigures>,
    /// The strategies that cannot do this.
    pub refused: Vec<RefusedStrategy>,
    /// Cautions.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The file of the picture, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

plain_answers!(CompareAnswer);

/// A strategy that cannot do what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedStrategy {
    /// The strategy.
    pub strategy: String,
    /// The reason.
    pub reason: String,
}

/// Compares sequence strategies.
///
/// ```
/// use s3t_api::{CompareRequest, SystemRequest};
///
/// let system = SystemRequest { shards: Some(5), slices: Some(4), budget: Some(2), ..SystemRequest::default() };
/// let answer = s3t_api::compare_sequences(&CompareRequest { system, ..CompareRequest::default() })?;
/// assert!(answer.refused.iter().any(|refused| refused.strategy == "single"));
/// # Ok::<(), s3t_api::ApiError>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a strategy that was asked for and cannot do this, or if none can.
pub fn compare_sequences(request: &CompareRequest) -> Result<CompareAnswer, ApiError> {
    let picture = Picture::at(request.plot.as_deref())?;
    let described = Described::new(&request.system)?;
    let (system, shape) = (&described.system, described.system.shape);
    let requests = request.requests_for(shape);
    let mut at = vec![requests];
    if picture.is_some() {
        at.extend(steps(2.0 * requests as f64));
        at.sort_unstable();
        at.dedup();
    }
    let comparison = Comparison {
        shape,
        budget: described.budget,
        prior: described.prior.clone(),
        seed: system.seed,
        requests: at,
        t: request.t,
        trials: request.system.trials.unwrap_or(2000),
    };
    let names = request.strategies.clone().unwrap_or_else(|| {
        let strategies = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::SequenceStrategy);
        strategies.map(|plugin| plugin.name().to_owned()).collect()
    });
    let strategies = names.iter().map(|name| parse_strategy(name)).collect::<Result<Vec<_>, _>>()?;
    let of_shard = SequenceRequest {
        shard: ShardId(0),
        slices: shape.slices,
        budget: described.budget,
        prior: &described.prior,
        seed: system.seed,
    };
    // A strategy that would be refused takes no time.
    let choosing = strategies.iter().map(|strategy| strategy.steps(&of_shard)).filter(|steps| *steps <= MAX_STEPS);
    let work = choosing.sum::<f64>() + 2.0 * depth_steps(&comparison) * names.len() as f64;
    request.system.check_work(work, "`strategies`, `slices`, `budget`, `trials` or `requests`")?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (name, strategy) in names.iter().zip(&strategies) {
        match comparison.of(&**strategy) {
            // Strategies of one name with different fields are told apart by the text of the request.
            Ok(figures) => found.push(StrategyFigures { strategy: name.clone(), ..figures }),
            // Not every strategy can make every budget; only strategies that were asked for must.
            Err(error) if request.strategies.is_none() => {
                refused.push(RefusedStrategy { strategy: name.clone(), reason: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let at = comparison.requests;
    let index = at.iter().position(|one| *one == requests).unwrap_or(0);
    found.sort_by(|one, other| other.depth[index].total_cmp(&one.depth[index]).then(one.strategy.cmp(&other.strategy)));
    let Some(best) = found.first() else {
        let reasons: Vec<String> = refused.into_iter().map(|refused| refused.reason).collect();
        return Err(ApiError::new(ErrorKind::Refused, format!("no strategy can do this: {}", reasons.join("; "))));
    };
    let plot = picture.map(|picture| picture.draw(&comparison_chart(&found, &at, shape, described.budget)));
    Ok(CompareAnswer {
        shape,
        budget: described.budget,
        prior: described.prior.probabilities(shape.slices),
        mean_deletions: best.mean_deletions,
        best: best.strategy.clone(),
        requests: at,
        strategies: found,
        refused,
        warnings: described.warnings,
        plot: plot.transpose()?,
    })
}

/// About how many elementary steps the depths of one strategy take.
fn depth_steps(comparison: &Comparison) -> f64 {
    let PartitionShape { shards, slices } = comparison.shape;
    let (each, all) = (f64::from(slices), f64::from(shards) * f64::from(slices));
    if slices <= MAX_EXACT_SLICES {
        return each * each.exp2() * comparison.requests.len() as f64;
    }
    let last = comparison.requests.last().copied().unwrap_or(0) as f64;
    // A slice is hit for the first time once; after all are hit nothing is followed.
    let hits = if comparison.prior == Prior::Uniform { last.min(30.0 * all) } else { last };
    comparison.trials as f64 * (hits + all + last.min(all) * comparison.budget as f64 / 8.0)
}
