//! RMIA, the robust membership inference attack: Zarifzadeh et al., "Low-Cost High-Power Membership Inference Attacks" (arXiv 2312.03262).
//!
//! An example is compared with a population of records that are no members: its score is the share of them that it dominates. One
//! reference model is enough.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, mean, same_length, within};
use crate::roc::Roc;

/// The probabilities that models give the true labels of some records, each above 0 and at most 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidences {
    /// By the model under attack, one for each record.
    pub target: Vec<f64>,
    /// By the reference models, a list for each record.
    pub references: Vec<Vec<f64>>,
}

/// The estimate of a record's marginal probability from reference models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Marginal {
    /// The mean over reference models, of which half were trained with the record.
    Online,
    /// From models that were trained without the record: `((1 + a) mean + (1 - a)) / 2`, the paper's offline estimate.
    Offline {
        /// The slope of `p_inside = a p_outside + (1 - a)`, from 0 to 1: 1 for models that memorise nothing.
        a: f64,
    },
}

fn checked(what: &'static str, references: &'static str, confidences: &Confidences) -> Result<(), AttackError> {
    finite(what, &confidences.target)?;
    same_length(references, confidences.references.len(), what, confidences.target.len())?;
    for list in &confidences.references {
        finite(references, list)?;
    }
    let all = confidences.target.iter().chain(confidences.references.iter().flatten());
    match all.copied().find(|value| !(*value > 0.0 && *value <= 1.0)) {
        Some(value) => Err(AttackError::OutOfRange { what, value, allowed: "a probability above 0 and at most 1" }),
        None => Ok(()),
    }
}

/// `p(x | target) / p(x)` for each record.
fn ratios(confidences: &Confidences, marginal: Marginal) -> Vec<f64> {
    let records = confidences.target.iter().zip(&confidences.references);
    let ratio = |(&target, references): (&f64, &Vec<f64>)| {
        let mean = mean(references);
        let marginal = match marginal {
            Marginal::Online => mean,
            Marginal::Offline { a } => f64::midpoint((1.0 + a) * mean, 1.0 - a),
        };
        target / marginal
    };
    records.map(ratio).collect()
}

/// The score of each example: the share of the population over whose ratio its own is more than `gamma` times as large (the
/// paper's score, with strictly more, so that no record dominates itself).
///
/// # Errors
///
/// [`AttackError`] for empty lists, lists of different lengths, values that are no probabilities above 0, `gamma` below 1 or `a` outside 0 to 1.
///
/// ```
/// use s3t_attack::rmia::{Confidences, Marginal, scores};
///
/// let examples = Confidences { target: vec![0.9, 0.5], references: vec![vec![0.5], vec![0.5]] };
/// let population = Confidences { target: vec![0.4, 0.5, 0.6], references: vec![vec![0.5]; 3] };
/// assert_eq!(scores(&examples, &population, Marginal::Online, 1.0)?, [1.0, 1.0 / 3.0]);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn scores(
    examples: &Confidences,
    population: &Confidences,
    marginal: Marginal,
    gamma: f64,
) -> Result<Vec<f64>, AttackError> {
    checked("examples", "references of examples", examples)?;
    checked("population", "references of population", population)?;
    within("gamma", gamma, "a finite number of at least 1", gamma >= 1.0 && gamma.is_finite())?;
    if let Marginal::Offline { a } = marginal {
        within("a", a, "from 0 to 1", (0.0..=1.0).contains(&a))?;
    }
    let mut population = ratios(population, marginal);
    population.sort_by(f64::total_cmp);
    let dominated = |ratio: f64| population.partition_point(|other| ratio / other > gamma) as f64;
    Ok(ratios(examples, marginal).into_iter().map(|ratio| dominated(ratio) / population.len() as f64).collect())
}

/// The `a` of a grid with the largest area under the ROC when a reference model is attacked in the target's place; the first of equals.
///
/// `examples.target` are the probabilities by that reference model, whose members are known, and `examples.references` those by the others.
/// The model under attack has no part in it.
///
/// # Errors
///
/// As [`scores`], and for an empty grid, or if there are no members or no non-members.
pub fn choose_a(
    examples: &Confidences,
    is_member: &[bool],
    population: &Confidences,
    gamma: f64,
    grid: &[f64],
) -> Result<f64, AttackError> {
    finite("grid", grid)?;
    same_length("is_member", is_member.len(), "examples", examples.target.len())?;
    let mut best: Option<(f64, f64)> = None;
    for &a in grid {
        let scores = scores(examples, population, Marginal::Offline { a }, gamma)?;
        let of = |wanted: bool| -> Vec<f64> {
            scores.iter().zip(is_member).filter(|(_, is)| **is == wanted).map(|(score, _)| *score).collect()
        };
        let auc = Roc::new(&of(true), &of(false))?.auc();
        if best.is_none_or(|(_, largest)| auc > largest) {
            best = Some((a, auc));
        }
    }
    best.map(|(a, _)| a).ok_or(AttackError::Empty { what: "grid" })
}
