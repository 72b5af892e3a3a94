//! `plan`: the figures of a system before it is trained.

use std::path::PathBuf;

use s3t_core::budget::cost::PlanCost;
use s3t_core::{LayerGroups, PartitionShape, PerShard, Sequence};
use s3t_engine::System;
use s3t_simulation::{ClusterFigures, DepthFigures, LifetimeFigures, PlannedSystem, Upkeep, Workers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::charts::{Against, depth_chart, rate_chart, upkeep_chart};
use super::described::Described;
use super::extent::milestones;
use super::system::SystemRequest;
use crate::ApiError;
use crate::picture::Picture;
use crate::reply::plain_answers;

/// The request for the figures of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlanRequest {
    /// The system.
    #[serde(flatten)]
    pub system: SystemRequest,
    /// The worth of a model of depth 0 (a dead shard) to L: adds the expected utility.
    pub utility: Option<Vec<f64>>,
    /// Deletion requests over which upkeep is counted.
    pub requests: u64,
    /// Requests after which a repair follows; 0 for one repair for each shard.
    pub repair_every: u64,
    /// A cluster: adds the time and the price of training there.
    pub cluster: Option<Workers>,
    /// The file of a picture (.svg or .png).
    pub plot: Option<PathBuf>,
    /// The picture's horizontal axis.
    pub against: Against,
}

impl Default for PlanRequest {
    fn default() -> Self {
        let system = SystemRequest::default();
        Self {
            system,
            utility: None,
            requests: 1000,
            repair_every: 0,
            cluster: None,
            plot: None,
            against: Against::default(),
        }
    }
}

/// The answer to `plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanAnswer {
    /// The figures.
    #[serde(flatten)]
    pub figures: PlanFigures,
    /// The best depth of a shard after some requests.
    pub depth: Vec<DepthFigures>,
    /// Deletion requests over which upkeep is counted.
    pub upkeep_requests: u64,
    /// The training that the requests cost, for each way to live with them.
    pub upkeep: Vec<UpkeepRow>,
    /// The time and the price of training on a cluster, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFigures>,
    /// The file of the picture, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

plain_answers!(PlanAnswer);

/// The figures of a system before it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanFigures {
    /// All records.
    pub records: u64,
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Sequences of a shard.
    pub budget: usize,
    /// The strategy's plugin name.
    pub strategy: String,
    /// The strategy's reason for its choice, if it gives one.
    pub reason: Option<String>,
    /// The PEFT method.
    #[serde(default)]
    pub method: String,
    /// Records of each slice: a list for each shard, or one list for all shards.
    pub slice_sizes: PerShard<Vec<u64>>,
    /// The sequences: a list for each shard, or one list for all shards.
    pub sequences: PerShard<Vec<Sequence>>,
    /// The layer groups, the first at the top.
    pub groups: LayerGroups,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// The cost of training and storage.
    pub cost: PlanCost,
    /// The requests that the system lasts.
    pub lifetime: LifetimeFigures,
    /// Expected requests until every shard is dead; `null` for never.
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean_deletions: f64,
    /// The same with the first sequence of each shard only (SISA).
    #[serde(deserialize_with = "s3t_core::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean_deletions_sisa: f64,
    /// Cautions.
    pub warnings: Vec<String>,
}

/// The training that a stream of requests costs under one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpkeepRow {
    /// The policy.
    pub policy: String,
    /// `true` if the law of the lifetime was simulated.
    pub estimated: bool,
    /// Floating-point operations of the first build.
    pub build_flops: f64,
    /// Floating-point operations of everything, after all requests.
    pub total_flops: f64,
    /// The same, in trainings of one model on all records.
    pub total_in_full_retrainings: f64,
}

impl UpkeepRow {
    fn new(upkeep: &Upkeep, unit: f64) -> Self {
        let total = upkeep.total.last().copied().unwrap_or(upkeep.build);
        Self {
            policy: upkeep.policy.clone(),
            estimated: upkeep.estimated,
            build_flops: upkeep.build,
            total_flops: total,
            total_in_full_retrainings: total / unit,
        }
    }
}

impl PlanFigures {
    fn new(described: &Described) -> Self {
        let Described { system, budget, strategy, reason, method, warnings, .. } = described;
        let (lifetime, mut warnings) = (system.lifetime(), warnings.clone());
        if system.groups.smallest() < 2 {
            warnings
                .push("a slice has one block only; training is known to collapse below two. Use fewer slices.".into());
        }
        Self {
            records: system.records(),
            shape: system.shape,
            budget: *budget,
            strategy: strategy.clone(),
            reason: reason.clone(),
            method: method.clone(),
            slice_sizes: system.slice_sizes.clone(),
            sequences: system.sequences.clone(),
            groups: system.groups.clone(),
            epochs: system.epochs,
            cost: system.cost(),
            mean_deletions: lifetime.independent.all_dead,
            mean_deletions_sisa: lifetime.sisa,
            lifetime,
            warnings,
        }
    }
}

/// Finds the figures of a system before it is trained.
///
/// ```
/// use s3t_api::{PlanRequest, SystemRequest};
///
/// let system = SystemRequest { shards: Some(5), slices: Some(6), budget: Some(6), ..SystemRequest::default() };
/// let answer = s3t_api::plan(&PlanRequest { system, ..PlanRequest::default() })?;
/// assert!((answer.figures.mean_deletions - 119.85).abs() < 0.01);
/// # Ok::<(), s3t_api::ApiError>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a system that cannot be planned, or whose figures take too long.
pub fn plan(request: &PlanRequest) -> Result<PlanAnswer, ApiError> {
    let picture = Picture::at(request.plot.as_deref())?;
    let described = Described::new(&request.system)?;
    let system = &described.system;
    let points = if picture.is_some() { 208 } else { 6 };
    let work = system.steps(points, request.requests);
    request.system.check_work(work, "`shards`, `slices`, `budget` or `requests`")?;
    let figures = PlanFigures::new(&described);
    let cluster = request.cluster.map(|workers| on(system, workers, figures.cost.shared.stages)).transpose()?;
    let depth = system.depths(&milestones(figures.mean_deletions), request.utility.as_deref())?;
    let every = if request.repair_every == 0 { u64::from(system.shape.shards) } else { request.repair_every };
    let upkeep = system.upkeep(request.requests, every)?;
    let unit = upkeep[0].build;
    let plot = picture.map(|picture| {
        let chart = match request.against {
            Against::Requests => depth_chart(system, figures.mean_deletions)?,
            Against::Upkeep => upkeep_chart(&upkeep),
            against => rate_chart(&described, against)?,
        };
        picture.draw(&chart)
    });
    Ok(PlanAnswer {
        figures,
        depth,
        upkeep_requests: request.requests,
        upkeep: upkeep.iter().map(|upkeep| UpkeepRow::new(upkeep, unit)).collect(),
        cluster,
        plot: plot.transpose()?,
    })
}

/// Stages whose training is simulated, at most.
const MAX_STAGES: u64 = 10_000_000;

fn on(system: &PlannedSystem, workers: Workers, stages: u64) -> Result<ClusterFigures, ApiError> {
    let refuse = |problem: String| Err(ApiError::field("cluster", problem));
    let is_sound = |number: f64| number.is_finite() && number >= 0.0;
    if !(1..=1_000_000).contains(&workers.workers) {
        return refuse(format!("has {} workers; it takes 1 to 1000000", workers.workers));
    }
    if !(is_sound(workers.tflops) && workers.tflops > 0.0) {
        return refuse(format!("has {} tflops; give those that training reaches on one worker", workers.tflops));
    }
    if !is_sound(workers.per_hour) || !is_sound(workers.gap) {
        return refuse("has a price or a gap that is no number of at least 0".into());
    }
    if stages > MAX_STAGES {
        return refuse(format!("has {stages} stages to simulate, and at most {MAX_STAGES} are"));
    }
    Ok(system.on(workers))
}

/// The figures of an open system.
///
/// # Errors
///
/// As the store.
pub fn plan_of(system: &System) -> Result<PlanFigures, ApiError> {
    Ok(PlanFigures::new(&Described::of_system(system)?))
}
