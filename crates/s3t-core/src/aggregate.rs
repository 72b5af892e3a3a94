//! Aggregation: one answer from the logits of all serving shards.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to combine the members' logits for one record.
///
/// # Contract
///
/// `members` is never empty and its rows have one length, the number of classes; the result has that length, and the
/// largest entry is the prediction. The result is a function of the rows in order: no weights learnt from data.
#[typetag::serde(tag = "type")]
pub trait Aggregator: Debug + Send + Sync {
    /// Combines `[members][classes]` logits into `[classes]` scores.
    fn combine(&self, members: &[&[f32]]) -> Vec<f32>;

    /// `true` if the result is on the scale of the members' outputs. Tasks other than classification need that: their outputs
    /// are numbers or independent scores, not shares of one whole.
    fn keeps_scale(&self) -> bool {
        false
    }
}

/// Mean of the logits (S3T, section 3.1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanLogits {}

#[typetag::serde(name = "mean-logits")]
impl Aggregator for MeanLogits {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members.iter().map(|row| row.to_vec()), members.len())
    }

    fn keeps_scale(&self) -> bool {
        true
    }
}

crate::plugin!(Aggregator, "mean-logits", MeanLogits);

/// Mean of the softmax probabilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanProbabilities {}

#[typetag::serde(name = "mean-probabilities")]
impl Aggregator for MeanProbabilities {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members.iter().map(|row| softmax(row)), members.len())
    }
}

crate::plugin!(Aggregator, "mean-probabilities", MeanProbabilities);

/// Share of the members that vote for each class; ties go to the lowest class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MajorityVote {}

#[typetag::serde(name = "majority-vote")]
impl Aggregator for MajorityVote {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        let one_hot = |row: &&[f32]| {
            let mut vote = vec![0.0; row.len()];
            if let Some(slot) = vote.get_mut(argmax(row)) {
                *slot = 1.0;
            }
            vote
        };
        mean(members.iter().map(one_hot), members.len())
    }
}

crate::plugin!(Aggregator, "majority-vote", MajorityVote);

/// The index of the largest value, the first of them on a tie, 0 for an empty row.
///
/// ```
/// use s3t_core::aggregate::argmax;
///
/// assert_eq!(argmax(&[0.1, 2.0, 2.0]), 1);
/// assert_eq!(argmax(&[]), 0);
/// ```
pub fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0
}

/// Softmax of one row, stable for large logits.
///
/// ```
/// use s3t_core::aggregate::softmax;
///
/// assert_eq!(softmax(&[3.0, 3.0]), [0.5, 0.5]);
/// // Logits whose exponentials would overflow.
/// assert_eq!(softmax(&[1e30, 1e30]), [0.5, 0.5]);
/// ```
pub fn softmax(row: &[f32]) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = row.iter().map(|x| libm::expf(x - largest)).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|x| x / sum).collect()
}

fn mean(rows: impl Iterator<Item = Vec<f32>>, count: usize) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for row in rows {
        if sum.is_empty() {
            sum = row;
        } else {
            sum.iter_mut().zip(&row).for_each(|(total, value)| *total += value);
        }
    }
    for value in &mut sum {
        *value /= count as f32;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&[f32]; 3] = [&[2.0, 1.0, 0.0], &[0.0, 5.0, 0.0], &[3.0, 2.9, 0.0]];

    #[test]
    fn each_aggregator_combines_by_its_own_rule() {
        let means = MeanLogits {}.combine(&MEMBERS);
        assert!(means.iter().zip([5.0 / 3.0, 8.9 / 3.0, 0.0]).all(|(one, other)| (one - other).abs() < 1e-6));
        assert_eq!(argmax(&MajorityVote {}.combine(&MEMBERS)), 0);
        let probabilities = MeanProbabilities {}.combine(&MEMBERS);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(argmax(&probabilities), 1);
    }

    #[test]
    fn one_member_is_passed_through() {
        assert_eq!(MeanLogits {}.combine(&[&[1.5, -2.0]]), [1.5, -2.0]);
        assert_eq!(MajorityVote {}.combine(&[&[1.0, 1.0]]), [1.0, 0.0]);
        assert_eq!(softmax(&[1e30, 1e30]), [0.5, 0.5]);
    }
}
