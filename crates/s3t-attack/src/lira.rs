//! LiRA, the likelihood ratio attack: Carlini et al., "Membership Inference Attacks From First Principles" (arXiv 2112.03570).
//!
//! Shadow models of the same recipe are trained with an example (*inside*) and without it (*outside*). The scaled logits that they give the example
//! ([`scaled_logit`](crate::signal::scaled_logit)) are taken to be normal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};

use crate::AttackError;
use crate::inputs::{finite, mean, same_length, within};

/// The deviation of an example's shadow values. All deviations divide by the degrees of freedom, not by the number of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Deviation {
    /// One for each example; needs two shadow values of each, and many for a good estimate.
    PerExample,
    /// One for all examples of a set (inside or outside), around each example's own mean: for few shadow models (the paper's
    /// "global variance"). Inside and outside are never mixed.
    Pooled,
    /// Between the two, as BaVarIA-n (arXiv 2603.11799): `(d0 s0^2 + d s^2) / (d0 + d)` with the pooled variance s0^2 and the example's own
    /// s^2 of d degrees of freedom (Smyth, "Linear models and empirical Bayes methods", 2004).
    Shrunk {
        /// The weight d0 of the pooled variance, in degrees of freedom, above 0.
        prior: f64,
    },
    /// As [`Self::Shrunk`], but not taken to be known: the next value of a shadow model has Student's t distribution with `d0 + d` degrees of
    /// freedom around the mean of the example's `n` values, of scale `sqrt(1 + 1/n)` times the deviation. It is the predictive distribution of
    /// a normal one whose variance has an inverse gamma prior and whose mean has a uniform one; BaVarIA-t (arXiv 2603.11799) is of this
    /// family. Tails are heavy where an example has few shadow values.
    Predictive {
        /// The weight d0 of the pooled variance, in degrees of freedom, above 0.
        prior: f64,
    },
}

/// Scaled logits of shadow models, a list for each example.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shadows {
    /// Of models that were trained with the example.
    pub inside: Vec<Vec<f64>>,
    /// Of models that were trained without the example.
    pub outside: Vec<Vec<f64>>,
}

/// The offline score of an example.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OfflineScore {
    /// Deviations of the target's value above the mean of the outside models; of [`Deviation::Predictive`] those of a normal value that is as
    /// improbable, down to the smallest positive number. Ranks as `probability` does, which saturates sooner.
    pub deviations: f64,
    /// The probability that an outside model gives at most the target's value.
    pub probability: f64,
}

/// The distribution of the values that shadow models give an example: normal, or Student's t.
struct Fit {
    mean: f64,
    /// The deviation of a normal distribution.
    scale: f64,
    student: Option<StudentsT>,
}

impl Fit {
    fn new(values: &[f64], variance: f64, deviation: Deviation) -> Self {
        let (mean, count) = (mean(values), values.len() as f64);
        match deviation {
            Deviation::PerExample | Deviation::Pooled | Deviation::Shrunk { .. } => {
                Self { mean, scale: variance.sqrt(), student: None }
            }
            Deviation::Predictive { prior } => Self {
                mean,
                scale: (variance * (1.0 + 1.0 / count)).sqrt(),
                student: Some(
                    StudentsT::new(0.0, 1.0, prior + count - 1.0).expect("a prior above 0 and one value or more"),
                ),
            },
        }
    }

    /// Up to a constant that all normal fits share.
    fn log_density(&self, value: f64) -> f64 {
        let deviations = (value - self.mean) / self.scale;
        let standard = self.student.map_or(-deviations.powi(2) / 2.0, |student| student.ln_pdf(deviations));
        standard - self.scale.ln()
    }

    fn score(&self, value: f64) -> OfflineScore {
        let (deviations, normal) = ((value - self.mean) / self.scale, Normal::standard());
        let Some(student) = self.student else {
            return OfflineScore { deviations, probability: normal.cdf(deviations) };
        };
        // From the nearer tail, as 1 less a small number has lost it.
        let tail = normal.inverse_cdf(student.cdf(-deviations.abs()));
        OfflineScore { deviations: if deviations > 0.0 { -tail } else { tail }, probability: student.cdf(deviations) }
    }
}

/// The distribution of each example.
fn fits(set: &'static str, values: &[Vec<f64>], deviation: Deviation) -> Result<Vec<Fit>, AttackError> {
    if let Deviation::Shrunk { prior } | Deviation::Predictive { prior } = deviation {
        within("prior", prior, "a finite number above 0", prior > 0.0 && prior.is_finite())?;
    }
    let needed = if deviation == Deviation::PerExample { 2 } else { 1 };
    for (example, values) in values.iter().enumerate() {
        if values.len() < needed {
            return Err(AttackError::TooFewShadows { set, example, found: values.len(), needed });
        }
        finite(set, values)?;
    }
    let squares = |values: &[f64]| {
        let mean = mean(values);
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let freedom = |values: &[f64]| (values.len() - 1) as f64;
    let all_freedom: f64 = values.iter().map(|values| freedom(values)).sum();
    if all_freedom == 0.0 {
        return Err(AttackError::TooFewShadows { set, example: 0, found: 1, needed: 2 });
    }
    let pooled = values.iter().map(|values| squares(values)).sum::<f64>() / all_freedom;
    let fit = |(example, values): (usize, &Vec<f64>)| {
        let variance = match deviation {
            Deviation::PerExample => squares(values) / freedom(values),
            Deviation::Pooled => pooled,
            Deviation::Shrunk { prior } | Deviation::Predictive { prior } => {
                (prior * pooled + squares(values)) / (prior + freedom(values))
            }
        };
        if variance > 0.0 {
            Ok(Fit::new(values, variance, deviation))
        } else {
            Err(AttackError::NoSpread { set, example })
        }
    };
    values.iter().enumerate().map(fit).collect()
}

/// The online attack: the logarithm of the likelihood of the target's value under the inside models over that under the outside models (algorithm 1).
///
/// # Errors
///
/// [`AttackError`] for lists of different lengths, values that are not finite, too few shadow values, or shadow values without spread.
///
/// ```
/// use s3t_attack::lira::{Deviation, Shadows, online};
///
/// let shadows = Shadows { inside: vec![vec![4.0, 6.0]; 2], outside: vec![vec![0.0, 2.0]; 2] };
/// let scores = online(&[5.0, 1.0], &shadows, Deviation::PerExample)?;
/// // Means 5 and 1, both variances 2: the ratios are exp(4) and exp(-4).
/// assert!((scores[0] - 4.0).abs() < 1e-12 && (scores[1] + 4.0).abs() < 1e-12);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn online(target: &[f64], shadows: &Shadows, deviation: Deviation) -> Result<Vec<f64>, AttackError> {
    finite("target", target)?;
    same_length("inside", shadows.inside.len(), "target", target.len())?;
    same_length("outside", shadows.outside.len(), "target", target.len())?;
    let inside = fits("inside", &shadows.inside, deviation)?;
    let outside = fits("outside", &shadows.outside, deviation)?;
    let fits = inside.iter().zip(&outside);
    Ok(target
        .iter()
        .zip(fits)
        .map(|(&value, (inside, outside))| inside.log_density(value) - outside.log_density(value))
        .collect())
}

/// The offline attack, which needs outside models only.
///
/// # Errors
///
/// As [`online`].
///
/// ```
/// use s3t_attack::lira::{Deviation, offline};
///
/// let scores = offline(&[1.0, 3.0], &[vec![0.0, 2.0], vec![0.0, 2.0]], Deviation::Pooled)?;
/// assert!((scores[0].probability - 0.5).abs() < 1e-12);
/// assert!((scores[1].deviations - 2.0_f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), s3t_attack::AttackError>(())
/// ```
pub fn offline(target: &[f64], outside: &[Vec<f64>], deviation: Deviation) -> Result<Vec<OfflineScore>, AttackError> {
    finite("target", target)?;
    same_length("outside", outside.len(), "target", target.len())?;
    let fits = fits("outside", outside, deviation)?;
    Ok(target.iter().zip(fits).map(|(&value, fit)| fit.score(value)).collect())
}
