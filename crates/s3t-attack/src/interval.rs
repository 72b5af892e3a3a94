//! Confidence intervals of probabilities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::function::beta::beta_reg;

use crate::AttackError;
use crate::inputs::open_unit;

/// An interval with both ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// `true` if a value is in the interval, its ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// The Clopper-Pearson interval of a probability ("The use of confidence or fiducial limits", Biometrika 26, 1934): it covers at least as often as
/// stated, for every probability.
///
/// # Errors
///
/// [`AttackError`] without trials, for more successes than trials, or for a confidence that is not between 0 and 1.
///
/// ```
/// use s3t_attack::interval::clopper_pearson;
///
/// let none = clopper_pearson(0, 100, 0.95)?;
/// assert_eq!(none.low, 0.0);
/// assert!((none.high - (1.0 - 0.025_f64.powf(0.01))).abs() < 1e-12);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Result<Interval, AttackError> {
    if trials == 0 {
        return Err(AttackError::Empty { what: "trials" });
    }
    if successes > trials {
        return Err(AttackError::OutOfRange {
            what: "successes",
            value: successes as f64,
            allowed: "at most `trials`",
        });
    }
    open_unit("confidence", confidence)?;
    Ok(beta_limits(successes as f64, trials as f64, confidence))
}

/// Clopper and Pearson's limits in their beta form, which has a meaning for numbers of successes that are not whole too.
pub(crate) fn beta_limits(successes: f64, trials: f64, confidence: f64) -> Interval {
    let tail = (1.0 - confidence) / 2.0;
    let failures = trials - successes;
    let low = if successes > 0.0 { beta_quantile(successes, failures + 1.0, tail) } else { 0.0 };
    let high = if failures > 0.0 { 1.0 - beta_quantile(failures, successes + 1.0, tail) } else { 1.0 };
    Interval { low, high }
}

/// The quantile of a beta distribution by bisection; `statrs` inverts to fewer digits than its distribution function has.
fn beta_quantile(a: f64, b: f64, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // The ends meet after at most 1075 halvings of floating-point numbers near 0, after about 60 elsewhere.
    for _ in 0..1100 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if beta_reg(a, b, middle) < probability { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}
