//! The receiver operating characteristic of scores, exactly: no binning and no interpolation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, open_unit};
use crate::interval::{Interval, clopper_pearson};

/// Scores of members and of non-members of the training data; larger means "rather a member".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Of members.
    pub members: Vec<f64>,
    /// Of non-members.
    pub non_members: Vec<f64>,
}

/// A point of the characteristic: records with a score of at least the threshold are called members.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RocPoint {
    /// The threshold.
    pub threshold: f64,
    /// Non-members that are called members.
    pub false_positives: u64,
    /// Members that are called members.
    pub true_positives: u64,
}

/// The true positive rate at a false positive rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TprAtFpr {
    /// The largest false positive rate that was allowed.
    pub fpr: f64,
    /// The largest true positive rate of a threshold that keeps to it.
    pub tpr: f64,
    /// Its Clopper-Pearson interval, for the threshold as it was found.
    pub interval: Interval,
    /// The interval of the false positive rate that the threshold has for fresh non-members: it was chosen on these ones.
    pub fpr_interval: Interval,
}

/// The receiver operating characteristic: a point for each distinct score, from the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Roc {
    members: u64,
    non_members: u64,
    points: Vec<RocPoint>,
}

impl Roc {
    /// The characteristic of scores.
    ///
    /// # Errors
    ///
    /// [`AttackError::Empty`] and [`AttackError::NotFinite`].
    pub fn new(members: &[f64], non_members: &[f64]) -> Result<Self, AttackError> {
        finite("members", members)?;
        finite("non_members", non_members)?;
        // Adding 0 turns -0 into 0, which is the same score.
        let of = |scores: &[f64], is_member: bool| -> Vec<(f64, bool)> {
            scores.iter().map(|score| (score + 0.0, is_member)).collect()
        };
        let mut all = [of(members, true), of(non_members, false)].concat();
        all.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut points: Vec<RocPoint> = Vec::new();
        let (mut true_positives, mut false_positives) = (0, 0);
        for (threshold, is_member) in all {
            true_positives += u64::from(is_member);
            false_positives += u64::from(!is_member);
            let point = RocPoint { threshold, false_positives, true_positives };
            match points.last_mut() {
                Some(last) if last.threshold == threshold => *last = point,
                _ => points.push(point),
            }
        }
        Ok(Self { members: members.len() as u64, non_members: non_members.len() as u64, points })
    }

    /// The number of members.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// The number of non-members.
    pub fn non_members(&self) -> u64 {
        self.non_members
    }

    /// The points, with falling thresholds.
    pub fn points(&self) -> &[RocPoint] {
        &self.points
    }

    /// The points at which the curve turns, and the last one: enough to draw it as steps.
    pub fn corners(&self) -> Vec<RocPoint> {
        let rises = |from: Option<&RocPoint>, to: &RocPoint| {
            let from = from.map_or((0, 0), |point| (point.false_positives, point.true_positives));
            (to.false_positives > from.0, to.true_positives > from.1)
        };
        let turns = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| self.points.get(before));
            let next = self.points.get(at + 1);
            next.is_none_or(|next| {
                let (arrives, leaves) = (rises(before, &self.points[at]), rises(Some(&self.points[at]), next));
                arrives != leaves || arrives == (true, true)
            })
        };
        (0..self.points.len()).filter(|at| turns(*at)).map(|at| self.points[at]).collect()
    }

    /// The area under the curve: the probability that a member has a larger score than a non-member, ties counting one half.
    pub fn auc(&self) -> f64 {
        let (mut doubled, mut last) = (0_u128, (0, 0));
        for point in &self.points {
            let width = u128::from(point.false_positives - last.0);
            doubled += width * u128::from(point.true_positives + last.1);
            last = (point.false_positives, point.true_positives);
        }
        doubled as f64 / (2.0 * self.members as f64 * self.non_members as f64)
    }

    /// The true positive rate at a false positive rate, with the confidence of its interval.
    ///
    /// # Errors
    ///
    /// [`AttackError::TooFewNonMembers`] with fewer than 1 / `fpr` non-members: below that the rate means "not a single non-member". And
    /// [`AttackError::OutOfRange`] for rates and confidences that are not between 0 and 1.
    ///
    /// ```
    /// use s3t_attack::AttackError;
    /// use s3t_attack::roc::Roc;
    ///
    /// let members: Vec<f64> = (0..100).map(|i| f64::from(i) + 20.5).collect();
    /// let non_members: Vec<f64> = (0..100).map(f64::from).collect();
    /// let roc = Roc::new(&members, &non_members)?;
    /// // One non-member may be above the threshold: it is 98.5, which 22 members reach.
    /// assert_eq!(roc.tpr_at_fpr(0.01, 0.95)?.tpr, 0.22);
    /// assert!(matches!(roc.tpr_at_fpr(0.001, 0.95), Err(AttackError::TooFewNonMembers { needed: 1000, .. })));
    /// # Ok::<(), AttackError>(())
    /// ```
    pub fn tpr_at_fpr(&self, fpr: f64, confidence: f64) -> Result<TprAtFpr, AttackError> {
        open_unit("fpr", fpr)?;
        // Products of rates and counts may end just below a whole number.
        let allowed = (fpr * self.non_members as f64 + 1e-9).floor() as u64;
        if allowed == 0 {
            let needed = (1.0 / fpr - 1e-9).ceil() as u64;
            return Err(AttackError::TooFewNonMembers { rate: fpr, needed, found: self.non_members });
        }
        let within = self.points.partition_point(|point| point.false_positives <= allowed);
        let true_positives = within.checked_sub(1).map_or(0, |last| self.points[last].true_positives);
        let interval = clopper_pearson(true_positives, self.members, confidence)?;
        // The rate at the next smaller score of a non-member has the beta distribution that Clopper and Pearson's upper limit is a quantile of.
        let fpr_interval = clopper_pearson(allowed, self.non_members, confidence)?;
        Ok(TprAtFpr { fpr, tpr: true_positives as f64 / self.members as f64, interval, fpr_interval })
    }
}
