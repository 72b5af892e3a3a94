//! Figures that unlearning benchmarks report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, within};

/// MUSE's PrivLeak in percent (arXiv 2407.06460, with the areas of an attack on the unlearned and on the retrained model): 0 is ideal,
/// negative is too little forgotten, positive too much.
///
/// # Errors
///
/// [`AttackError`] for areas outside 0 to 1, and for a retrained model whose area is 1.
///
/// ```
/// use s3t_attack::benchmarks::priv_leak;
///
/// assert_eq!(priv_leak(0.5, 0.5)?, 0.0);
/// assert_eq!(priv_leak(0.75, 0.5)?, -50.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn priv_leak(auc_unlearned: f64, auc_retrained: f64) -> Result<f64, AttackError> {
    for (what, auc) in [("auc_unlearned", auc_unlearned), ("auc_retrained", auc_retrained)] {
        within(what, auc, "from 0 to 1", (0.0..=1.0).contains(&auc))?;
    }
    if auc_retrained == 1.0 {
        let reason = "the area of the retrained model is 1; members and non-members differ without any training";
        return Err(AttackError::Undefined { what: "priv_leak", reason });
    }
    Ok(100.0 * ((1.0 - auc_unlearned) - (1.0 - auc_retrained)) / (1.0 - auc_retrained))
}

/// A two-sample test of Kolmogorov and Smirnov.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KolmogorovSmirnov {
    /// The largest difference of the empirical distribution functions.
    pub statistic: f64,
    /// The probability of at least this difference for samples of one distribution.
    pub p_value: f64,
}

/// The largest product of sample sizes that the exact p-value is computed for.
const MAX_PAIRS: usize = 400_000_000;

/// TOFU's forget quality (arXiv 2401.06121): the p-value of a Kolmogorov-Smirnov test between a figure of the unlearned and of the retrained
/// model over the forgotten records. 1 for equal values.
///
/// The p-value is exact for every sample size: the share of lattice paths that leave the band of the statistic, by a sum of positive terms.
///
/// # Errors
///
/// [`AttackError`] for empty samples, values that are not finite, or samples whose sizes have a product above 4e8.
///
/// ```
/// use s3t_attack::benchmarks::forget_quality;
///
/// let test = forget_quality(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0])?;
/// assert_eq!(test.statistic, 1.0);
/// assert!((test.p_value - 0.1).abs() < 1e-12);
/// assert_eq!(forget_quality(&[0.5, 0.7], &[0.7, 0.5])?.p_value, 1.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn forget_quality(unlearned: &[f64], retrained: &[f64]) -> Result<KolmogorovSmirnov, AttackError> {
    finite("unlearned", unlearned)?;
    finite("retrained", retrained)?;
    let pairs = unlearned.len().saturating_mul(retrained.len());
    within("unlearned.len() * retrained.len()", pairs as f64, "at most 4e8", pairs <= MAX_PAIRS)?;
    let widest = widest_gap(unlearned, retrained);
    let p_value = share_outside(unlearned.len() as u64, retrained.len() as u64, widest);
    Ok(KolmogorovSmirnov { statistic: widest as f64 / pairs as f64, p_value })
}

/// The largest difference of the distribution functions, times both sample sizes: a whole number.
fn widest_gap(first: &[f64], second: &[f64]) -> u64 {
    let of =
        |values: &[f64], step: i64| -> Vec<(f64, i64)> { values.iter().map(|value| (value + 0.0, step)).collect() };
    let mut all = [of(first, second.len() as i64), of(second, -(first.len() as i64))].concat();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut gap, mut widest) = (0_i64, 0_u64);
    for (place, (value, step)) in all.iter().enumerate() {
        gap += step;
        if all.get(place + 1).is_none_or(|next| next.0 != *value) {
            widest = widest.max(gap.unsigned_abs());
        }
    }
    widest
}

/// The probability that a random order of both samples somewhere has a gap of at least `widest`. A random path to (i, j) comes from
/// (i - 1, j) with probability i / (i + j).
fn share_outside(first: u64, second: u64, widest: u64) -> f64 {
    if widest == 0 {
        return 1.0;
    }
    let mut column = vec![0.0_f64; second as usize + 1];
    for i in 0..=first {
        for j in 0..=second {
            let gap = (i * second).abs_diff(j * first);
            let at = j as usize;
            column[at] = if gap >= widest {
                1.0
            } else if i + j == 0 {
                0.0
            } else {
                let from_left = if i > 0 { i as f64 * column[at] } else { 0.0 };
                let from_below = if j > 0 { j as f64 * column[at - 1] } else { 0.0 };
                (from_left + from_below) / (i + j) as f64
            };
        }
    }
    column[second as usize].min(1.0)
}
