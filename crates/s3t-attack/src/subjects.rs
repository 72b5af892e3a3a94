//! Scores of subjects: whoever is forgotten with several records is found by the strongest of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, mean, same_length};

/// The scores of the records of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectScore {
    /// The subject.
    pub subject: String,
    /// The number of its records.
    pub records: u64,
    /// The largest score.
    pub largest: f64,
    /// The mean score.
    pub mean: f64,
}

/// The scores of each subject, the largest first; subjects with equal scores by name.
///
/// # Errors
///
/// [`AttackError`] for empty lists, different lengths, or scores that are not finite.
///
/// ```
/// use s3t_attack::subjects::by_subject;
///
/// let scores = by_subject(&[0.1, 2.0, 0.5], &["ann", "bob", "ann"])?;
/// assert_eq!(scores[0].subject, "bob");
/// assert_eq!((scores[1].records, scores[1].largest, scores[1].mean), (2, 0.5, 0.3));
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn by_subject<S: AsRef<str>>(scores: &[f64], subjects: &[S]) -> Result<Vec<SubjectScore>, AttackError> {
    finite("scores", scores)?;
    same_length("subjects", subjects.len(), "scores", scores.len())?;
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (score, subject) in scores.iter().zip(subjects) {
        groups.entry(subject.as_ref()).or_default().push(*score);
    }
    let group = |(subject, mut scores): (&str, Vec<f64>)| {
        // The sum does not depend on the order of the records.
        scores.sort_by(f64::total_cmp);
        let largest = scores.last().copied().unwrap_or_default();
        SubjectScore { subject: subject.to_owned(), records: scores.len() as u64, largest, mean: mean(&scores) }
    };
    let mut all: Vec<SubjectScore> = groups.into_iter().map(group).collect();
    all.sort_by(|one, other| other.largest.total_cmp(&one.largest));
    Ok(all)
}
