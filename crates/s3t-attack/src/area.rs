//! The area under the receiver operating characteristic, with its interval.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::AttackError;
use crate::inputs::{mean, open_unit};
use crate::interval::{Estimate, Interval, beta_limits};
use crate::roc::{Roc, Scores};

/// The area under the ROC with an interval from DeLong's variance (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988), on the logit scale, where the
/// estimate is closer to normal near 0 and 1.
///
/// With variance 0, as for perfect scores, the interval is Clopper and Pearson's for as many pairs as can be formed without using a record
/// twice.
///
/// # Errors
///
/// As [`Roc::new`], and for a confidence that is not between 0 and 1.
///
/// ```
/// use s3t_attack::area::auc;
/// use s3t_attack::roc::Scores;
///
/// let scores = Scores { members: vec![2.0, 3.0, 1.0, 4.0], non_members: vec![0.0, 1.5, 0.5, 2.5] };
/// let estimate = auc(&scores, 0.95)?;
/// assert_eq!(estimate.value, 13.0 / 16.0);
/// assert!(estimate.interval.low > 0.2 && estimate.interval.high < 1.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn auc(scores: &Scores, confidence: f64) -> Result<Estimate, AttackError> {
    let value = Roc::new(&scores.members, &scores.non_members)?.auc();
    open_unit("confidence", confidence)?;
    let variance = delong_variance(scores, value);
    // Sums of placements leave a rest of rounding where the variance is 0.
    let interval = if variance > 1e-18 && value > 0.0 && value < 1.0 {
        let logit = (value / (1.0 - value)).ln();
        let quantile = Normal::standard().inverse_cdf(f64::midpoint(1.0, confidence));
        let width = quantile * variance.sqrt() / (value * (1.0 - value));
        let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        Interval { low: back(logit - width), high: back(logit + width) }
    } else {
        let pairs = scores.members.len().min(scores.non_members.len()) as f64;
        beta_limits(value * pairs, pairs, confidence)
    };
    Ok(Estimate { value, interval })
}

/// The variance of the area, from the placements of members among non-members and the other way round. A single record in a group has
/// no variance of its own and counts with `A (1 - A)`, its largest.
fn delong_variance(scores: &Scores, auc: f64) -> f64 {
    let of_members = placements(&scores.members, &scores.non_members);
    let of_non_members: Vec<f64> =
        placements(&scores.non_members, &scores.members).iter().map(|share| 1.0 - share).collect();
    let variance = |placements: &[f64]| {
        if placements.len() < 2 {
            return auc * (1.0 - auc);
        }
        let mean = mean(placements);
        let squares: f64 = placements.iter().map(|share| (share - mean).powi(2)).sum();
        squares / (placements.len() - 1) as f64 / placements.len() as f64
    };
    variance(&of_members) + variance(&of_non_members)
}

/// For each score the share of the others that are smaller, equal ones counting one half.
fn placements(scores: &[f64], others: &[f64]) -> Vec<f64> {
    let mut sorted = others.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = |score: &f64| {
        let below = sorted.partition_point(|other| other < score);
        let up_to = sorted.partition_point(|other| other <= score);
        (below + up_to) as f64 / (2 * sorted.len()) as f64
    };
    let mut places: Vec<f64> = scores.iter().map(place).collect();
    // Sums of them must not depend on the order of the records.
    places.sort_by(f64::total_cmp);
    places
}
