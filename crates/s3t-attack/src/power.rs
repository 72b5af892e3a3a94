//! The power of an attack: an attack that finds nothing shows something only if it finds members where there are some (SMI, arXiv 2602.01150).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::area::auc;
use crate::inputs::{finite, open_unit, within};
use crate::interval::Estimate;
use crate::roc::{Roc, Scores, TprAtFpr};

/// The success of an attack on a model that has seen the members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// The area under the ROC.
    pub auc: Estimate,
    /// The true positive rates at the false positive rates that the sample is large enough for.
    pub tpr: Vec<TprAtFpr>,
    /// The confidence of all intervals together.
    pub confidence: f64,
    /// `true` if the interval of the area is above one half, or that of a true positive rate above that of its false positive rate.
    pub found: bool,
}

impl Power {
    /// Measures the success on scores of a model that has seen the members.
    ///
    /// Each interval has a share of the error (Bonferroni), so that an attack of no power is called powerful with a probability of at most
    /// `1 - confidence` (as far as DeLong's interval holds).
    ///
    /// # Errors
    ///
    /// As [`auc`] and [`Roc::tpr_at_fpr`], but false positive rates that the sample is too small for are left out.
    ///
    /// ```
    /// use s3t_attack::power::Power;
    /// use s3t_attack::roc::Scores;
    ///
    /// let numbers = |from: f64| (0..200).map(|i| from + f64::from(i)).collect::<Vec<_>>();
    /// let over_fitted = Scores { members: numbers(80.0), non_members: numbers(0.0) };
    /// assert!(Power::measure(&over_fitted, &[0.01, 0.001], 0.95)?.found);
    /// let blind = Scores { members: numbers(0.0), non_members: numbers(0.0) };
    /// assert!(!Power::measure(&blind, &[0.01, 0.001], 0.95)?.found);
    /// # Ok::<(), s3t_attack::AttackError>(())
    /// ```
    pub fn measure(before: &Scores, rates: &[f64], confidence: f64) -> Result<Self, AttackError> {
        open_unit("confidence", confidence)?;
        let share = 1.0 - (1.0 - confidence) / (rates.len() + 1) as f64;
        let auc = auc(before, share)?;
        let roc = Roc::new(&before.members, &before.non_members)?;
        let mut tpr = Vec::new();
        for rate in rates {
            match roc.tpr_at_fpr(*rate, share) {
                Ok(measured) => tpr.push(measured),
                Err(AttackError::TooFewNonMembers { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let found = auc.interval.low > 0.5 || tpr.iter().any(|tpr| tpr.interval.low > tpr.fpr_interval.high);
        Ok(Self { auc, tpr, confidence, found })
    }

    /// The share of resamples, members and non-members drawn anew with replacement, in which the evidence is found: an estimate of the
    /// probability that the attack finds it in other records of the same kind. The same seed gives the same share.
    ///
    /// # Errors
    ///
    /// As [`measure`](Self::measure), and for 0 resamples.
    pub fn detection(
        scores: &Scores,
        rates: &[f64],
        confidence: f64,
        resamples: u32,
        seed: u64,
    ) -> Result<f64, AttackError> {
        within("resamples", f64::from(resamples), "at least 1", resamples > 0)?;
        finite("members", &scores.members)?;
        finite("non_members", &scores.non_members)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = |scores: &[f64]| -> Vec<f64> {
            (0..scores.len()).map(|_| scores[rng.random_range(0..scores.len())]).collect()
        };
        let mut found = 0_u32;
        for _ in 0..resamples {
            let resample = Scores { members: drawn(&scores.members), non_members: drawn(&scores.non_members) };
            found += u32::from(Self::measure(&resample, rates, confidence)?.found);
        }
        Ok(f64::from(found) / f64::from(resamples))
    }
}
