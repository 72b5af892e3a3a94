//! A lower bound on epsilon from one run: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run" (arXiv 2305.08846).
//!
//! Each of m records is included by a coin of its own. An auditor who sees the trained model guesses for r of them whether they were
//! included, and v guesses are right. Under differential privacy v cannot be large.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

use crate::AttackError;
use crate::inputs::{open_unit, within};

/// The largest epsilon that is looked at: there e^-epsilon is below the resolution of the probabilities.
const MAX_EPSILON: f64 = 40.0;

/// The outcome of an audit in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guesses {
    /// Records that were included by a coin (m).
    pub records: u64,
    /// Records for which a guess was made (r).
    pub guesses: u64,
    /// Right guesses (v).
    pub right: u64,
}

/// A lower bound on epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EpsilonBound {
    /// The outcome that it follows from.
    pub guesses: Guesses,
    /// The delta of (epsilon, delta)-differential privacy.
    pub delta: f64,
    /// The confidence.
    pub confidence: f64,
    /// The bound: training is not (epsilon, delta)-differentially private for any epsilon below it, with the confidence.
    pub epsilon: f64,
}

fn checked(guesses: Guesses, delta: f64) -> Result<(), AttackError> {
    if guesses.guesses == 0 {
        return Err(AttackError::Empty { what: "guesses" });
    }
    within("guesses", guesses.guesses as f64, "at most `records`", guesses.guesses <= guesses.records)?;
    within("right", guesses.right as f64, "at most `guesses`", guesses.right <= guesses.guesses)?;
    within("delta", delta, "from 0 to 1", (0.0..=1.0).contains(&delta))
}

/// The largest probability of so many right guesses under (epsilon, delta)-differential privacy (the paper's main theorem:
/// the tail of a binomial distribution, and 2 m delta times the steepest mean of the probabilities just below it).
///
/// # Errors
///
/// [`AttackError`] for no guesses, more guesses than records, more right guesses than guesses, a negative epsilon, or a delta outside 0 to 1.
pub fn p_value(guesses: Guesses, epsilon: f64, delta: f64) -> Result<f64, AttackError> {
    checked(guesses, delta)?;
    within("epsilon", epsilon, "a finite number of at least 0", epsilon >= 0.0 && epsilon.is_finite())?;
    let Ok(right) = Binomial::new(1.0 / (1.0 + (-epsilon).exp()), guesses.guesses) else {
        return Err(AttackError::OutOfRange {
            what: "epsilon",
            value: epsilon,
            allowed: "a finite number of at least 0",
        });
    };
    let at_least = if guesses.right == 0 { 1.0 } else { right.sf(guesses.right - 1) };
    let (mut sum, mut slope) = (0.0, 0.0_f64);
    if delta > 0.0 {
        for below in 1..=guesses.right {
            sum += right.pmf(guesses.right - below);
            slope = slope.max(sum / below as f64);
        }
    }
    Ok((at_least + 2.0 * guesses.records as f64 * delta * slope).min(1.0))
}

/// The largest epsilon that the outcome refutes with a confidence; 0 for an outcome that chance explains.
///
/// # Errors
///
/// As [`p_value`], and for a confidence that is not between 0 and 1.
///
/// ```
/// use s3t_attack::epsilon::{Guesses, lower_bound};
///
/// let chance = lower_bound(Guesses { records: 1000, guesses: 100, right: 50 }, 0.0, 0.95)?;
/// assert_eq!(chance.epsilon, 0.0);
/// let all_right = lower_bound(Guesses { records: 1000, guesses: 100, right: 100 }, 0.0, 0.95)?;
/// // q^100 = 0.05 for q = e^epsilon / (1 + e^epsilon).
/// let q = 0.05_f64.powf(0.01);
/// assert!((all_right.epsilon - (q / (1.0 - q)).ln()).abs() < 1e-9);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn lower_bound(guesses: Guesses, delta: f64, confidence: f64) -> Result<EpsilonBound, AttackError> {
    checked(guesses, delta)?;
    open_unit("confidence", confidence)?;
    let refuted = |epsilon: f64| p_value(guesses, epsilon, delta).map(|p| p <= 1.0 - confidence);
    let bound = |epsilon| EpsilonBound { guesses, delta, confidence, epsilon };
    if !refuted(0.0)? {
        return Ok(bound(0.0));
    }
    let (mut low, mut high) = (0.0, MAX_EPSILON);
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if refuted(middle)? { low = middle } else { high = middle }
    }
    Ok(bound(low))
}
