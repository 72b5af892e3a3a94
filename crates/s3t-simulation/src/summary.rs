//! The results of simulations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, Distribution as _, OrderStatistics};

/// The distribution of a number over trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// The standard deviation.
    pub standard_deviation: f64,
    /// The 5th, 25th, 50th, 75th and 95th percentiles.
    pub quantiles: [f64; 5],
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// The requests that simulated systems lasted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lifetimes {
    /// Requests until every shard was dead.
    pub all_dead: Summary,
    /// Requests until the first shard was dead.
    pub first_dead: Summary,
    /// Trials.
    pub trials: usize,
    /// Trials that ended before every shard was dead: they count with the requests that there were, so that the mean is
    /// too small.
    pub survived: usize,
}

/// The state of the system after some requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// Requests.
    pub requests: u64,
    /// The best depth, averaged over shards and trials; a dead shard counts as 0.
    pub depth: f64,
    /// The standard error of it.
    pub standard_error: f64,
    /// The 5th and 95th percentile over trials of the average over shards.
    pub band: [f64; 2],
    /// The share of shards that are alive.
    pub alive: f64,
    /// The share of shards with each best depth `0..=L`, over all trials.
    pub depths: Vec<f64>,
}

impl Summary {
    /// Sums up values.
    ///
    /// # Panics
    ///
    /// For an empty list.
    pub fn of(values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "there is nothing to sum up");
        let trials = values.len() as f64;
        let mut data = Data::new(values);
        let mean = data.mean().unwrap_or(f64::NAN);
        let standard_deviation = if trials > 1.0 { data.std_dev().unwrap_or(0.0) } else { 0.0 };
        let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| data.quantile(share));
        let (min, max) = (data.order_statistic(1), data.order_statistic(trials as usize));
        Self { mean, standard_error: standard_deviation / trials.sqrt(), standard_deviation, quantiles, min, max }
    }
}
