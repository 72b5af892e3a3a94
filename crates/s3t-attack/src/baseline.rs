//! A baseline that sees no model: if it tells members from non-members, they differ for other reasons than membership, and the success of an attack says
//! little ("blind baselines", Das, Zhang, Tramèr, arXiv 2406.16201).

use crate::AttackError;
use crate::inputs::{finite, mean, same_length};
use crate::roc::Scores;

/// Scores of the records at odd places by a linear classifier fitted on the records at even places: the projection on the difference of the group means, each feature
/// divided by its deviation.
///
/// The halves share no record, so that the scores are those of fresh records.
///
/// # Errors
///
/// [`AttackError`] for fewer than two records in a group, different numbers of features, or values that are not finite.
///
/// ```
/// use s3t_attack::baseline::blind;
/// use s3t_attack::area::auc;
///
/// let records = |shift: f64| (0..40).map(|i| vec![shift + f64::from(i % 7), f64::from(i % 5)]).collect::<Vec<_>>();
/// let scores = blind(&records(9.0), &records(0.0))?;
/// assert_eq!(auc(&scores, 0.95)?.value, 1.0, "members are other records than non-members");
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn blind(members: &[Vec<f64>], non_members: &[Vec<f64>]) -> Result<Scores, AttackError> {
    for (what, records) in [("members", members), ("non_members", non_members)] {
        if records.len() < 2 {
            return Err(AttackError::Length { what, found: records.len(), expected: 2, of: "halves" });
        }
        for record in records {
            finite(what, record)?;
            same_length(what, record.len(), "features", members[0].len())?;
        }
    }
    let every_second = |records: &[Vec<f64>], first: usize| -> Vec<Vec<f64>> {
        records.iter().skip(first).step_by(2).cloned().collect()
    };
    let [even, odd] = [0, 1].map(|first| [every_second(members, first), every_second(non_members, first)]);
    blind_by_halves([&even[0], &even[1]], [&odd[0], &odd[1]])
}

/// The same for halves that are given, each of members and of non-members: for records of subjects, which belong into one half together.
///
/// # Errors
///
/// [`AttackError`] for an empty part, different numbers of features, or values that are not finite.
pub fn blind_by_halves(fitted: [&[Vec<f64>]; 2], scored: [&[Vec<f64>]; 2]) -> Result<Scores, AttackError> {
    let features = fitted[0].first().map_or(0, Vec::len);
    for (what, records) in [
        ("fitted members", fitted[0]),
        ("fitted non_members", fitted[1]),
        ("members", scored[0]),
        ("non_members", scored[1]),
    ] {
        if records.is_empty() {
            return Err(AttackError::Length { what, found: 0, expected: 1, of: "records" });
        }
        for record in records {
            finite(what, record)?;
            same_length(what, record.len(), "features", features)?;
        }
    }
    let column =
        |records: &[Vec<f64>], feature: usize| -> Vec<f64> { records.iter().map(|record| record[feature]).collect() };
    let weight = |feature: usize| {
        let (inside, outside) = (column(fitted[0], feature), column(fitted[1], feature));
        let difference = mean(&inside) - mean(&outside);
        let all = [inside, outside].concat();
        let middle = mean(&all);
        let variance = all.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / all.len() as f64;
        if variance > 0.0 { difference / variance } else { 0.0 }
    };
    let weights: Vec<f64> = (0..features).map(weight).collect();
    let score = |record: &Vec<f64>| record.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
    let [members, non_members] = scored.map(|records| records.iter().map(score).collect());
    Ok(Scores { members, non_members })
}
