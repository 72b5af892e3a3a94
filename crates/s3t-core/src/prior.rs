//! How likely each slice is to be hit by a deletion.

use serde::{Deserialize, Serialize};

use crate::partition::Group;
use crate::{CoreError, PartitionShape, Partitioner, StoreSecret, SubjectId};

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
}

/// The probability that a request hits each slice, in one entry that stands for all shards: a request hits each shard with
/// the same probability, and in it a slice with the prior's.
pub fn rates_of_prior(prior: &Prior, shape: PartitionShape) -> Vec<Vec<f64>> {
    let shards = f64::from(shape.shards);
    vec![prior.probabilities(shape.slices).into_iter().map(|probability| probability / shards).collect()]
}

/// The probability that a request hits each slice, `[shard][slice]`, from how likely each subject is to ask: a request is
/// a subject's in proportion to its number, and hits the slice where the partition puts that subject.
///
/// # Proof note
///
/// *Before*: one number for each subject, given by the operator and not read from records, and a partition that places a
/// subject by itself. *After*: rates that sum to 1, a function of the numbers, the shape and the secret. *Why it matters*:
/// which records there are is no argument, so sequences chosen from these rates are the same whether a record was ever
/// there or not.
///
/// # Errors
///
/// [`CoreError::InvalidField`] for a number that is negative, not finite or above 1, for numbers that are all 0, and for a
/// partitioner that places by order.
pub fn rates_of_subjects(
    subjects: &[(SubjectId, f64)],
    partitioner: &dyn Partitioner,
    shape: PartitionShape,
    secret: &StoreSecret,
) -> Result<Vec<Vec<f64>>, CoreError> {
    if partitioner.uses_order() {
        let problem = format!(
            "comes from subjects, but `{}` places records by their order; use `keyed-hash`",
            partitioner.typetag_name()
        );
        return Err(CoreError::field("prior", problem));
    }
    let mut rates = vec![vec![0.0; shape.slices as usize]; shape.shards as usize];
    for (subject, probability) in subjects {
        if !(0.0..=1.0).contains(probability) {
            let problem = format!("gives {probability} for subject `{subject}`; probabilities are from 0 to 1");
            return Err(CoreError::field("prior", problem));
        }
        let place = partitioner.place(Group::Subject(subject), 0, shape, secret);
        rates[place.shard.index()][place.slice.index()] += probability;
    }
    let total: f64 = rates.iter().flatten().sum();
    if total <= 0.0 {
        return Err(CoreError::field("prior", "gives no subject a probability above 0"));
    }
    rates.iter_mut().flatten().for_each(|rate| *rate /= total);
    Ok(rates)
}

impl Prior {
    /// The prior of a shard whose slices a request hits at these rates; uniform if they are all 0.
    pub fn of_rates(rates: &[f64]) -> Self {
        let total: f64 = rates.iter().sum();
        if total > 0.0 { Self::PerSlice(rates.iter().map(|rate| rate / total).collect()) } else { Self::Uniform }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{Contiguous, KeyedHash};

    #[test]
    fn rates_follow_the_subjects_to_their_slices() {
        let shape = PartitionShape { shards: 2, slices: 3 };
        let secret = StoreSecret::from_bytes([7; 32]);
        let subject = |name: &str, probability| (SubjectId::new(name).unwrap(), probability);
        let subjects = [subject("ann", 0.5), subject("bob", 0.25), subject("cleo", 0.0), subject("dan", 0.25)];
        let rates = rates_of_subjects(&subjects, &KeyedHash {}, shape, &secret).unwrap();
        assert!((rates.iter().flatten().sum::<f64>() - 1.0).abs() < 1e-12);
        let ann = KeyedHash {}.place(Group::Subject(&subjects[0].0), 0, shape, &secret);
        assert!(rates[ann.shard.index()][ann.slice.index()] >= 0.5);
        for shard in &rates {
            Prior::of_rates(shard).check(3).unwrap();
        }
        assert_eq!(Prior::of_rates(&[0.0, 0.0]), Prior::Uniform);
        for (subjects, word) in [
            (vec![subject("ann", 1.5)], "`ann`"),
            (vec![subject("ann", f64::NAN)], "NaN"),
            (vec![subject("ann", 0.0)], "no subject"),
        ] {
            let message = rates_of_subjects(&subjects, &KeyedHash {}, shape, &secret).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let contiguous = Contiguous { capacity: Some(10) };
        let message = rates_of_subjects(&subjects, &contiguous, shape, &secret).unwrap_err().to_string();
        assert!(message.contains("`contiguous` places records by their order"), "{message}");
    }

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
