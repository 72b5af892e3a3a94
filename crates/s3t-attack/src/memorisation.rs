//! Memorisation of secrets by language models: the exposure of a canary (Carlini et al. 2019, arXiv 1802.08232).
//!
//! A canary is a text with a secret that was drawn from a known space. A model that has memorised the canary finds it likelier than the
//! same text with the other secrets of the space. A model that never saw it ranks the secret anywhere: its exposure is above b bits
//! with a probability of `2^-b`, and [`CHANCE`] in the mean.

use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::inputs::{finite, within};
use crate::skew_normal::SkewNormal;

/// The exposure, in bits, of a secret that is ranked by chance, in the mean over a large space: the mean of `-log2 U` for a uniform U.
pub const CHANCE: f64 = std::f64::consts::LOG2_E;

/// The exposure of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// The bits by which the secret is easier to guess than by chance: `log2 |R| - log2 rank`, or its approximation.
    pub bits: f64,
    /// The rank among all secrets of the space, from 1; `None` for an approximation.
    pub rank: Option<u64>,
}

/// The exposure by the rank among all secrets: `log2 |R| - log2 rank`. The rank counts the secrets that are at least as likely, so that ties
/// count against memorisation.
///
/// Both arguments are negative log-likelihoods in any one base; `others` has every other secret of the space.
///
/// # Errors
///
/// [`AttackError`] for an empty list or numbers that are not finite.
///
/// ```
/// use s3t_attack::memorisation::exposure;
///
/// let exposure = exposure(2.0, &[9.0, 1.0, 8.0, 2.0, 7.0, 9.5, 9.0])?;
/// assert_eq!((exposure.rank, exposure.bits), (Some(3), 3.0 - 3_f64.log2()));
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn exposure(secret: f64, others: &[f64]) -> Result<Exposure, AttackError> {
    check(secret, others)?;
    let rank = 1 + others.iter().filter(|other| **other <= secret).count() as u64;
    let bits = (others.len() as f64 + 1.0).log2() - (rank as f64).log2();
    Ok(Exposure { bits, rank: Some(rank) })
}

/// The exposure by a skew-normal distribution that is fitted to the negative log-likelihoods of a sample of other secrets: `-log2` of the
/// probability of one that is at most as large as the secret's (section 4.4 there, and `compute_exposure_extrapolation` of TensorFlow
/// Privacy). For spaces too large to rank; it may exceed the bits of the space.
///
/// # Errors
///
/// As [`exposure`] and [`SkewNormal::fit`].
pub fn extrapolated_exposure(secret: f64, sample: &[f64]) -> Result<Exposure, AttackError> {
    check(secret, sample)?;
    let bits = -SkewNormal::fit(sample)?.log_below(secret) / std::f64::consts::LN_2;
    Ok(Exposure { bits, rank: None })
}

fn check(secret: f64, others: &[f64]) -> Result<(), AttackError> {
    finite("others", others)?;
    within("secret", secret, "a finite number", secret.is_finite())
}
