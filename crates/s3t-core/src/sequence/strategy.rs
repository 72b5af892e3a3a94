//! The trait of sequence strategies, and the check of its contract.

use std::collections::HashSet;
use std::fmt::Debug;

use super::order::Sequence;
use crate::{CoreError, Prior, ShardId};

/// The largest number of slices that all sequences of a shard may have together: they are held in memory.
pub const MAX_POSITIONS: u64 = 4_000_000;

/// The largest number of elementary steps that choosing sequences may take: some seconds.
pub const MAX_STEPS: f64 = 2e9;

/// The input of a strategy: no record, no digest, no count of records.
#[derive(Debug, Clone, Copy)]
pub struct SequenceRequest<'a> {
    /// The shard the sequences are for.
    pub shard: ShardId,
    /// The number of slices L.
    pub slices: u32,
    /// The number of sequences B wanted.
    pub budget: usize,
    /// The probability that a request hits each slice.
    pub prior: &'a Prior,
    /// The pipeline's seed, for strategies that draw.
    pub seed: u64,
}

/// A way to choose the B sequences of a shard.
///
/// # Contract
///
/// The result is a function of the request and the strategy's fields: B distinct permutations of `0..L`, or an error.
/// [`plan_sequences`] checks it.
#[typetag::serde(tag = "type")]
pub trait SequenceStrategy: Debug + Send + Sync {
    /// The reason for the choice, for people; `None` if it is plain from the name.
    fn reason(&self, _request: &SequenceRequest<'_>) -> Option<String> {
        None
    }

    /// `true` if other shards with the same request may get other sequences. Where it is `false`, one shard stands for all.
    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        true
    }

    /// The approximate number of elementary steps that [`sequences`](Self::sequences) takes. More than [`MAX_STEPS`] are refused
    /// before it is asked. `s3t advise` tries the strategies with the fewest steps first, and leaves out those that would make
    /// the search too long.
    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        request.budget as f64 * f64::from(request.slices)
    }

    /// True where the strategy exists to compare others with: `s3t advise` does not try it for this request, unless it is asked for.
    fn is_baseline(&self, _request: &SequenceRequest<'_>) -> bool {
        false
    }

    /// Chooses the sequences.
    ///
    /// # Errors
    ///
    /// [`CoreError::BudgetOutOfRange`] if the strategy cannot make B distinct sequences, or another [`CoreError`] that
    /// names the field at fault.
    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError>;
}

/// Runs a strategy and checks its contract.
///
/// # Errors
///
/// The strategy's own error; the prior's; [`CoreError::BrokenStrategy`] if the result is not B distinct permutations.
pub fn plan_sequences(
    strategy: &dyn SequenceStrategy,
    request: &SequenceRequest<'_>,
) -> Result<Vec<Sequence>, CoreError> {
    let name = strategy.typetag_name();
    if request.budget == 0 {
        return Err(CoreError::field("budget", "is 0; use at least 1 sequence"));
    }
    check_steps(strategy, request, 1)?;
    request.prior.check(request.slices)?;
    let sequences = strategy.sequences(request)?;
    let broken = |problem: String| CoreError::BrokenStrategy { strategy: name.to_owned(), problem };
    if sequences.len() != request.budget {
        return Err(broken(format!("it returned {} sequences, not {}", sequences.len(), request.budget)));
    }
    let mut seen = HashSet::new();
    for sequence in &sequences {
        Sequence::new(sequence.slices().to_vec(), request.slices).map_err(|error| broken(error.to_string()))?;
        if !seen.insert(sequence) {
            return Err(broken(format!("it returned the sequence {sequence} twice")));
        }
    }
    Ok(sequences)
}

/// Checks that the sequences of so many shards fit into memory and are found in a time that somebody waits for.
///
/// # Errors
///
/// [`CoreError::BudgetOutOfRange`] saying what to lower.
pub fn check_steps(
    strategy: &dyn SequenceStrategy,
    request: &SequenceRequest<'_>,
    shards: u32,
) -> Result<(), CoreError> {
    let places = (request.budget as u64).saturating_mul(request.slices.into()).saturating_mul(shards.into());
    let name = strategy.typetag_name();
    let lower = if shards > 1 { "shards, slices or a lower budget" } else { "slices or a lower budget" };
    if places > MAX_POSITIONS {
        let reason = format!(
            "budget x slices{} is {places}, and {MAX_POSITIONS} are held in memory; use fewer {lower}",
            if shards > 1 { " x shards" } else { "" }
        );
        return Err(out_of_range(name, request, reason));
    }
    let steps = strategy.steps(request) * f64::from(shards);
    if steps > MAX_STEPS {
        let reason = format!(
            "it would take about {steps:.0e} steps, and {MAX_STEPS:.0e} are made; use fewer {lower}, or `cyclic`"
        );
        return Err(out_of_range(name, request, reason));
    }
    Ok(())
}

/// A [`CoreError::BudgetOutOfRange`] for a strategy.
pub fn out_of_range(strategy: &str, request: &SequenceRequest<'_>, reason: impl Into<String>) -> CoreError {
    CoreError::BudgetOutOfRange {
        strategy: strategy.to_owned(),
        budget: request.budget,
        slices: request.slices,
        reason: reason.into(),
    }
}

/// n!, `None` where it does not fit.
pub fn factorial(n: u32) -> Option<u128> {
    (1..=u128::from(n)).try_fold(1u128, u128::checked_mul)
}

/// Refuses a budget above L!.
///
/// # Errors
///
/// [`CoreError::BudgetOutOfRange`].
pub fn check_factorial(strategy: &str, request: &SequenceRequest<'_>) -> Result<(), CoreError> {
    match factorial(request.slices) {
        Some(possible) if request.budget as u128 > possible => {
            Err(out_of_range(strategy, request, format!("there are {possible}; use a budget of 1 to {possible}")))
        }
        _ => Ok(()),
    }
}
