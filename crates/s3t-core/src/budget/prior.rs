//! The probability that a deletion hits each slice.

use serde::{Deserialize, Serialize};

use crate::{CoreError, PartitionShape, PerShard};

/// The probability that a deletion request falls into each slice of a shard.
///
/// It may come from anything but the records themselves: a prior read from content would let a deleted record choose
/// which sequences survive it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Prior {
    /// Every slice is as likely as any other, or nothing is known.
    #[default]
    Uniform,
    /// One probability for each slice; what is missing to 1 is the probability that a request hits no slice.
    PerSlice(Vec<f64>),
}

impl Prior {
    /// The probability of each of L slices: 1/L each if nothing is known.
    pub fn probabilities(&self, slices: u32) -> Vec<f64> {
        match self {
            Self::Uniform => vec![1.0 / f64::from(slices); slices as usize],
            Self::PerSlice(values) => values.clone(),
        }
    }

    /// Checks the prior against the number of slices L.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] if a per-slice prior has another length than L, holds a value that is negative or not
    /// finite, or sums to more than 1 (plus rounding).
    pub fn check(&self, slices: u32) -> Result<(), CoreError> {
        let Self::PerSlice(values) = self else { return Ok(()) };
        if values.len() != slices as usize {
            let problem = format!("has {} values for {slices} slices; give one for each slice", values.len());
            return Err(CoreError::field("prior", problem));
        }
        if let Some((slice, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite() || **value < 0.0) {
            let problem = format!("gives {value} for slice {slice}; probabilities are finite and not negative");
            return Err(CoreError::field("prior", problem));
        }
        let sum: f64 = values.iter().sum();
        if sum > 1.0 + 1e-9 {
            return Err(CoreError::field("prior", format!("sums to {sum}; probabilities sum to at most 1")));
        }
        Ok(())
    }

    /// The prior of a shard whose slices a request hits at these rates; uniform if they are all 0.
    pub fn of_rates(rates: &[f64]) -> Self {
        let total: f64 = rates.iter().sum();
        if total > 0.0 { Self::PerSlice(rates.iter().map(|rate| rate / total).collect()) } else { Self::Uniform }
    }
}

/// The probability that a request hits each slice, in one entry that stands for all shards: a request hits each shard with
/// the same probability, and in it a slice with the prior's.
pub fn rates_of_prior(prior: &Prior, shape: PartitionShape) -> PerShard<Vec<f64>> {
    let shards = f64::from(shape.shards);
    PerShard::alike(prior.probabilities(shape.slices).into_iter().map(|probability| probability / shards).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_priors_are_refused() {
        for (values, word) in [
            (vec![0.5], "3 slices"),
            (vec![0.5, -0.1, 0.0], "-0.1"),
            (vec![f64::NAN, 0.0, 0.0], "NaN"),
            (vec![0.5, 0.4, 0.2], "sums"),
        ] {
            let message = Prior::PerSlice(values).check(3).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        assert!(Prior::PerSlice(vec![1.0, 0.0, 0.0]).check(3).is_ok());
        assert!(Prior::Uniform.check(3).is_ok());
    }
}
