//! Signals of a classifier about one record: confidence, loss, and the scaled logit that LiRA needs.

use crate::AttackError;
use crate::inputs::finite;

/// The logarithm of the sum of exponentials, without overflow.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    top + values.map(|value| (value - top).exp()).sum::<f64>().ln()
}

fn checked(logits: &[f64], label: usize) -> Result<(), AttackError> {
    finite("logits", logits)?;
    if logits.len() < 2 {
        return Err(AttackError::Length { what: "logits", found: logits.len(), expected: 2, of: "classes" });
    }
    if label >= logits.len() {
        return Err(AttackError::OutOfRange { what: "label", value: label as f64, allowed: "a position in `logits`" });
    }
    Ok(())
}

/// The logarithm of the softmax probability of a label, in nats.
///
/// # Errors
///
/// [`AttackError`] for fewer than two logits, a logit that is not finite, or a label outside.
pub fn log_probability(logits: &[f64], label: usize) -> Result<f64, AttackError> {
    checked(logits, label)?;
    Ok(logits[label] - log_sum_exp(logits.iter().copied()))
}

/// The softmax probability of a label: the confidence that RMIA compares.
///
/// # Errors
///
/// As [`log_probability`].
pub fn confidence(logits: &[f64], label: usize) -> Result<f64, AttackError> {
    log_probability(logits, label).map(f64::exp)
}

/// The cross-entropy of a label, in nats.
///
/// # Errors
///
/// As [`log_probability`].
pub fn loss(logits: &[f64], label: usize) -> Result<f64, AttackError> {
    log_probability(logits, label).map(|log| -log)
}

/// The scaled logit `log(p / (1 - p))` of a label's probability p (arXiv 2112.03570, "logit scaling").
///
/// It is computed as `z_y - log sum_{j != y} exp z_j`: a confidence of 1 - 1e-40 still has a finite value.
///
/// # Errors
///
/// As [`log_probability`].
///
/// ```
/// use s3t_attack::signal::{confidence, scaled_logit};
///
/// let logits = [2.0, 0.0, -1.0];
/// let p = confidence(&logits, 0)?;
/// assert!((scaled_logit(&logits, 0)? - (p / (1.0 - p)).ln()).abs() < 1e-12);
/// assert_eq!(scaled_logit(&[100.0, 0.0], 0)?, 100.0);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn scaled_logit(logits: &[f64], label: usize) -> Result<f64, AttackError> {
    checked(logits, label)?;
    let others = logits.iter().enumerate().filter(|(class, _)| *class != label).map(|(_, logit)| *logit);
    Ok(logits[label] - log_sum_exp(others))
}
