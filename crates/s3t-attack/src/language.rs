//! Attacks on language models: scores of a text from the log-probabilities of its tokens, in nats. The frozen base model is the reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, mean, same_length, within};

fn log_probabilities(what: &'static str, values: &[f64]) -> Result<(), AttackError> {
    finite(what, values)?;
    match values.iter().find(|value| **value > 0.0) {
        Some(&value) => {
            Err(AttackError::OutOfRange { what, value, allowed: "a logarithm of a probability, at most 0" })
        }
        None => Ok(()),
    }
}

/// The mean loss by the base model over the mean loss by the target (LoRA-Leak, arXiv 2507.18302): above 1 where fine-tuning helped.
///
/// # Errors
///
/// [`AttackError`] for empty lists, different lengths, values above 0, and a target loss of 0 ([`loss_difference`] has a value there).
///
/// ```
/// use s3t_attack::language::loss_ratio;
///
/// assert_eq!(loss_ratio(&[-0.5, -0.5], &[-1.0, -2.0])?, 3.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn loss_ratio(target: &[f64], base: &[f64]) -> Result<f64, AttackError> {
    log_probabilities("target", target)?;
    log_probabilities("base", base)?;
    same_length("base", base.len(), "target", target.len())?;
    let loss = mean(target);
    if loss == 0.0 {
        let reason = "the loss by the target is 0; use `loss_difference`";
        return Err(AttackError::Undefined { what: "loss_ratio", reason });
    }
    Ok(mean(base) / loss)
}

/// The mean loss by the base model less the mean loss by the target.
///
/// # Errors
///
/// As [`loss_ratio`], but a target loss of 0 is allowed.
pub fn loss_difference(target: &[f64], base: &[f64]) -> Result<f64, AttackError> {
    log_probabilities("target", target)?;
    log_probabilities("base", base)?;
    same_length("base", base.len(), "target", target.len())?;
    Ok(mean(target) - mean(base))
}

/// The mean of the smallest values of a share of the tokens: of `floor(share * tokens)`, but of one at least.
fn mean_of_smallest(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = ((values.len() as f64 * share + 1e-9).floor() as usize).max(1);
    mean(&values[..count])
}

/// Min-K%: the mean log-probability of the least likely tokens (Shi et al., arXiv 2310.16789).
///
/// # Errors
///
/// [`AttackError`] for an empty list, values above 0, or a share that is not above 0 and at most 1.
///
/// ```
/// use s3t_attack::language::min_k;
///
/// assert_eq!(min_k(&[-1.0, -4.0, -2.0, -8.0, -1.0], 0.4)?, -6.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn min_k(target: &[f64], share: f64) -> Result<f64, AttackError> {
    log_probabilities("target", target)?;
    within("share", share, "above 0 and at most 1", share > 0.0 && share <= 1.0)?;
    Ok(mean_of_smallest(target.to_vec(), share))
}

/// Min-K%++: as [`min_k`], with each log-probability standardised by the mean and deviation of the log-probabilities of all tokens at its place, under the
/// model's own distribution there (Zhang et al., arXiv 2404.02936).
///
/// # Errors
///
/// As [`min_k`], and for deviations that are not above 0.
pub fn min_k_plus_plus(target: &[f64], means: &[f64], deviations: &[f64], share: f64) -> Result<f64, AttackError> {
    log_probabilities("target", target)?;
    finite("means", means)?;
    finite("deviations", deviations)?;
    same_length("means", means.len(), "target", target.len())?;
    same_length("deviations", deviations.len(), "target", target.len())?;
    within("share", share, "above 0 and at most 1", share > 0.0 && share <= 1.0)?;
    if let Some(&value) = deviations.iter().find(|deviation| **deviation <= 0.0) {
        return Err(AttackError::OutOfRange { what: "deviations", value, allowed: "above 0" });
    }
    let standardised =
        target.iter().zip(means).zip(deviations).map(|((value, mean), deviation)| (value - mean) / deviation);
    Ok(mean_of_smallest(standardised.collect(), share))
}

/// The unit of the shifts that the error zone compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// Differences of probabilities.
    Probability,
    /// Differences of logarithms of probabilities.
    LogProbability,
}

/// A token of a text, for [`error_zone`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ZoneToken {
    /// The token's log-probability by the target.
    pub target: f64,
    /// The token's log-probability by the base model.
    pub base: f64,
    /// `true` if the target finds another token likelier.
    pub is_error: bool,
}

/// The error zone score (EZ-MIA, arXiv 2601.12104): at tokens that the target gets wrong, the shifts upwards against the base model as a share of
/// all shifts.
///
/// With U the sum of the shifts upwards and D that of the shifts downwards the score is U / (U + D), and 1/2 where nothing shifts.
/// U / D and (U - D) / (U + D) rank texts in the same way.
///
/// # Errors
///
/// [`AttackError`] for an empty list or values above 0.
///
/// ```
/// use s3t_attack::language::{Shift, ZoneToken, error_zone};
///
/// let token = |target, base, is_error| ZoneToken { target, base, is_error };
/// let text = [token(-1.0, -4.0, true), token(-3.0, -2.0, true), token(-0.1, -9.0, false)];
/// assert_eq!(error_zone(&text, Shift::LogProbability)?, 0.75);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn error_zone(tokens: &[ZoneToken], shift: Shift) -> Result<f64, AttackError> {
    log_probabilities("target", &tokens.iter().map(|token| token.target).collect::<Vec<_>>())?;
    log_probabilities("base", &tokens.iter().map(|token| token.base).collect::<Vec<_>>())?;
    let (mut up, mut down) = (0.0, 0.0);
    for token in tokens.iter().filter(|token| token.is_error) {
        let moved = match shift {
            Shift::Probability => token.target.exp() - token.base.exp(),
            Shift::LogProbability => token.target - token.base,
        };
        if moved > 0.0 { up += moved } else { down -= moved }
    }
    Ok(if up + down > 0.0 { up / (up + down) } else { 0.5 })
}
