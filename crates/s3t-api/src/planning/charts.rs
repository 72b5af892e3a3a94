//! The pictures of planning answers.

use s3t_core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t_core::budget::search::{Advice, Candidate, Goal};
use s3t_core::sequence::{factorial, plan_sequences};
use s3t_core::{PartitionShape, Prior, SequenceRequest, ShardId};
use s3t_plot::{Axis, Chart, Series};
use s3t_simulation::{CurvePoint, PlannedSystem, StrategyFigures, Upkeep};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::described::Described;
use super::extent::{grouped, steps};
use crate::ApiError;

/// The picture of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The best depth against requests.
    #[default]
    Requests,
    /// Deletions the system lasts against the budget B.
    Budget,
    /// Deletions the system lasts against the shards m.
    Shards,
    /// Deletions the system lasts against the slices L.
    Slices,
    /// Total training against requests, for full retraining, SISA, S3T and S3T with repairs.
    Upkeep,
}

pub(super) fn depth_chart(system: &PlannedSystem, lifetime: f64) -> Result<Chart, ApiError> {
    let at = steps(if lifetime.is_finite() { 1.5 * lifetime } else { 1000.0 });
    let line = |system: &PlannedSystem, name: String| {
        let depths = system.depths(&at, None)?;
        let points = depths.iter().map(|figures| (figures.requests as f64, figures.expected_depth));
        Ok::<_, ApiError>(Series::line(name, points.collect()))
    };
    let PartitionShape { shards, slices } = system.shape;
    Ok(Chart {
        title: format!("Best depth, {shards} shards x {slices} slices"),
        x: Axis::linear("deletion requests"),
        y: Axis::linear("expected best depth of a shard"),
        series: vec![
            line(system, format!("{} sequences", system.sequences.first().len()))?,
            line(&system.sisa(), "one sequence".into())?,
        ],
    })
}

pub(super) fn upkeep_chart(upkeep: &[Upkeep]) -> Chart {
    let unit = upkeep[0].build;
    let line = |one: &Upkeep| {
        let points = (0..).zip(&one.total).map(|(requests, total)| (f64::from(requests), total / unit));
        let step = one.total.len().div_ceil(400).max(1);
        Series::line(&one.policy, points.step_by(step).collect())
    };
    Chart {
        title: "Training that deletions cost".into(),
        x: Axis::linear("deletion requests"),
        y: Axis::log("total, in full retrainings"),
        series: upkeep.iter().map(line).collect(),
    }
}

/// Expected requests until every shard is dead, for other budgets, shards or slices.
pub(super) fn rate_chart(described: &Described, against: Against) -> Result<Chart, ApiError> {
    let (strategy, shape, budget) = (described.strategy()?, described.system.shape, described.budget);
    let (label, to) = match against {
        Against::Budget => ("sequences of a shard", budget.max(shape.slices as usize)),
        Against::Shards => ("shards", 2 * shape.shards.max(5) as usize),
        _ => ("slices of a shard", 2 * shape.slices.max(5) as usize),
    };
    // A prior is for its own number of slices.
    let prior = if against == Against::Slices { &Prior::Uniform } else { &described.prior };
    let rate = |x: usize, budget: usize| -> Result<f64, ApiError> {
        let (PartitionShape { mut shards, mut slices }, mut budget) = (shape, budget);
        match against {
            Against::Budget => budget = x,
            Against::Shards => shards = x as u32,
            _ => slices = x as u32,
        }
        let possible = factorial(slices).map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
        let (budget, seed) = (budget.min(possible), described.system.seed);
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior, seed };
        let sequences = plan_sequences(&*strategy, &request)?;
        let probabilities = prior.probabilities(slices);
        let rates: Vec<f64> = probabilities.iter().map(|probability| probability / f64::from(shards)).collect();
        let first_slices = FirstSlices::of(shards.into(), &sequences, &rates);
        Ok(Lifetime::of(&[first_slices], Requests::Independent).all_dead)
    };
    let line = |name: String, budget: usize, flat: bool| -> Result<Series, ApiError> {
        // At most a hundred points.
        let points =
            (1..=to).step_by(to.div_ceil(100)).map(|x| Ok((x as f64, rate(if flat { 1 } else { x }, budget)?)));
        Ok(Series::line(name, points.collect::<Result<_, ApiError>>()?))
    };
    let own = if against == Against::Budget { "S3T".to_owned() } else { format!("S3T, {budget} sequences") };
    Ok(Chart {
        title: format!("Deletions a system lasts, {}", described.strategy),
        x: Axis::linear(label),
        y: Axis::linear("expected requests until every shard is dead"),
        series: vec![line(own, budget, false)?, line("one sequence (SISA)".into(), 1, against == Against::Budget)?],
    })
}

pub(super) fn advice_chart(advice: &Advice, goal: Goal, records: u64) -> Chart {
    let label = match goal {
        Goal::Deletions => "expected requests until every shard is dead".to_owned(),
        Goal::Depth { requests } => format!("expected adapted blocks after {requests} requests"),
    };
    let point = |candidate: &Candidate| (candidate.cost.flops, candidate.benefit);
    Chart {
        title: format!("Cost and benefit for {} records", grouped(records)),
        x: Axis::log("FLOPs of training"),
        y: Axis::log(label),
        series: vec![
            Series::line("best for the cost", advice.front.iter().map(point).collect()),
            Series::marks("recommended", vec![point(advice.best())]),
        ],
    }
}

pub(super) fn curve_chart(curve: &[CurvePoint], shape: PartitionShape, budget: usize) -> Chart {
    let points = curve.iter().map(|point| (point.requests as f64, point.depth)).collect();
    let band = curve.iter().map(|point| (point.requests as f64, point.band[0], point.band[1])).collect();
    let PartitionShape { shards, slices } = shape;
    Chart {
        title: format!("Best depth, {shards} shards x {slices} slices, {budget} sequences"),
        x: Axis::linear("deletion requests"),
        y: Axis::linear("best depth, mean over shards"),
        series: vec![Series::line("mean, 5 % to 95 %", points).with_band(band)],
    }
}

pub(super) fn comparison_chart(found: &[StrategyFigures], at: &[u64], shape: PartitionShape, budget: usize) -> Chart {
    let line = |figures: &StrategyFigures| {
        let points = at.iter().zip(&figures.depth).map(|(requests, depth)| (*requests as f64, *depth));
        Series::line(&figures.strategy, points.collect())
    };
    Chart {
        title: format!("{budget} sequences of {} slices, {} shards", shape.slices, shape.shards),
        x: Axis::linear("deletion requests"),
        y: Axis::linear("expected best depth of a shard"),
        series: found.iter().map(line).collect(),
    }
}
