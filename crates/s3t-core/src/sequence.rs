//! Sequences: the orders in which a shard's slices are trained.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CoreError, Prior, ShardId, SliceId};

/// An order of all L slices of a shard. A deletion in the slice at position p leaves the first p stages usable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(Vec<SliceId>);

impl Sequence {
    /// Checks and wraps a permutation of `0..slices`.
    ///
    /// # Errors
    ///
    /// [`CoreError::NotAPermutation`] if a slice is missing, doubled or out of range.
    pub fn new(order: Vec<SliceId>, slices: u32) -> Result<Self, CoreError> {
        let mut seen = vec![false; order.len()];
        let new = |slice: &SliceId| seen.get_mut(slice.index()).is_some_and(|seen| !std::mem::replace(seen, true));
        if order.len() == slices as usize && order.iter().all(new) {
            Ok(Self(order))
        } else {
            Err(CoreError::NotAPermutation { slices: order, expected: slices })
        }
    }

    /// The slices in order.
    pub fn slices(&self) -> &[SliceId] {
        &self.0
    }

    /// The position of a slice, from 0.
    pub fn position(&self, slice: SliceId) -> Option<usize> {
        self.0.iter().position(|other| *other == slice)
    }

    /// In how many positions two sequences differ: the Hamming distance, L when they share no prefix and no position.
    pub fn distance(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).filter(|(one, other)| one != other).count()
    }

    /// The published score, `sum_i i (1 - sum_(j <= i) p_j)^t` over the prefixes (S3T, appendix B, equation 24).
    ///
    /// # Panics
    ///
    /// If a slice has no probability.
    pub fn score(&self, probabilities: &[f64], t: u32) -> f64 {
        (1..).zip(self.untouched(probabilities, t)).map(|(length, chance)| f64::from(length) * chance).sum()
    }

    /// The expected depth after t requests, `sum_i (1 - sum_(j <= i) p_j)^t`.
    ///
    /// # Panics
    ///
    /// If a slice has no probability.
    pub fn expected_depth(&self, probabilities: &[f64], t: u32) -> f64 {
        self.untouched(probabilities, t).sum()
    }

    /// The probability that each prefix is untouched after t requests.
    fn untouched(&self, probabilities: &[f64], t: u32) -> impl Iterator<Item = f64> {
        let mut hit = 0.0;
        self.0.iter().map(move |slice| {
            hit += probabilities[slice.index()];
            untouched(hit, t)
        })
    }
}

/// The probability that slices which a request hits with probability `hit` are untouched after t requests.
pub fn untouched(hit: f64, t: u32) -> f64 {
    (1.0 - hit).max(0.0).powi(t.min(i32::MAX as u32) as i32)
}

/// The mean distance of two different sequences of a set, 0 for one sequence: what the paper calls diversity (S3T, section
/// 4.3). For rotations of L slices it is L.
pub fn diversity(sequences: &[Sequence]) -> f64 {
    // How many pairs agree at a position is how often each slice stands there, over two.
    let mut at: std::collections::BTreeMap<(usize, SliceId), u64> = std::collections::BTreeMap::new();
    for sequence in sequences {
        for place in sequence.0.iter().copied().enumerate() {
            *at.entry(place).or_default() += 1;
        }
    }
    let count = sequences.len() as u64;
    if count < 2 {
        return 0.0;
    }
    let agreements: u64 = at.values().map(|times| times * (times - 1)).sum();
    sequences[0].0.len() as f64 - agreements as f64 / (count * (count - 1)) as f64
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, slice) in self.0.iter().enumerate() {
            write!(f, "{}{slice}", if position == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// The prefixes of a set of sequences, each once. Takes steps in proportion to the slices of all sequences.
#[derive(Debug, Default)]
pub struct PrefixTree(HashMap<(usize, SliceId), usize>);

impl PrefixTree {
    /// The prefix without slices.
    pub const EMPTY: usize = 0;

    /// The number of a prefix (given by its number) with one more slice, and whether it was not there before.
    pub fn extend(&mut self, prefix: usize, slice: SliceId) -> (usize, bool) {
        let next = self.0.len() + 1;
        let number = *self.0.entry((prefix, slice)).or_insert(next);
        (number, number == next)
    }

    /// How many prefixes of at least one slice there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The most slices that all sequences of a shard may have together: they are held in memory.
pub const MOST_PLACES: u64 = 4_000_000;

/// The most elementary steps that choosing sequences may take: some seconds.
pub const MOST_STEPS: f64 = 2e9;

/// What a strategy may look at: no record, no digest, no count of records.
#[derive(Debug, Clone, Copy)]
pub struct SequenceRequest<'a> {
    /// The shard the sequences are for.
    pub shard: ShardId,
    /// The number of slices L.
    pub slices: u32,
    /// The number of sequences B wanted.
    pub budget: usize,
    /// How likely each slice is to be hit.
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
    /// Why it chooses what it chooses for this request, if that is not plain from its name. For people.
    fn reason(&self, _request: &SequenceRequest<'_>) -> Option<String> {
        None
    }

    /// Whether other shards with the same request may get other sequences. Where it is false, one shard stands for all.
    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        true
    }

    /// About how many elementary steps [`sequences`](Self::sequences) takes: more than [`MOST_STEPS`] are refused before it is asked.
    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        request.budget as f64 * f64::from(request.slices)
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
        Sequence::new(sequence.0.clone(), request.slices).map_err(|error| broken(error.to_string()))?;
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
    if places > MOST_PLACES {
        let reason = format!(
            "budget x slices{} is {places}, and {MOST_PLACES} are held in memory; use fewer {lower}",
            if shards > 1 { " x shards" } else { "" }
        );
        return Err(out_of_range(name, request, reason));
    }
    let steps = strategy.steps(request) * f64::from(shards);
    if steps > MOST_STEPS {
        let reason = format!(
            "it would take about {steps:.0e} steps, and {MOST_STEPS:.0e} are made; use fewer {lower}, or `cyclic`"
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

/// One sequence, `0 1 .. L-1`: the order of SISA (Bourtoule et al. 2021). The budget must be 1.
///
/// # Proof note
///
/// *After*: the identity permutation, whatever the seed and prior. With B = 1 there is nothing to be distinct from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Single {}

#[typetag::serde(name = "single")]
impl SequenceStrategy for Single {
    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        false
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        if request.budget != 1 {
            return Err(out_of_range("single", request, "it makes exactly 1; use `cyclic` for more"));
        }
        Ok(vec![Sequence((0..request.slices).map(SliceId).collect())])
    }
}

crate::plugin!(SequenceStrategy, "single", Single);

/// Iterative cyclic rotation (S3T, section 3.3 and algorithm 1): the rotations of `0 1 .. L-1`; for more than L sequences,
/// prefixes are kept and what follows them is rotated. Every budget from 1 to L! works.
///
/// # Proof note
///
/// *Before*: 1 <= B <= L!. *After*: B distinct permutations. For B <= L no two have a slice at the same position (Hamming
/// distance L); for B = L every slice stands once at every position; the first slices of any two prefixes of a common
/// start are used equally often, to within one. *Why*: position p of rotation b holds slice `(b + p) mod L`, and
/// `b + p = b' + p (mod L)` only for `b = b'`. With more sequences, each rotation of n slices fixes its first slice and
/// shares out B over the n rotations, the remainder going to the first; a share is at most (n-1)!, so by induction every
/// rotation continues in distinct ways, and rotations differ in their first slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cyclic {}

#[typetag::serde(name = "cyclic")]
impl SequenceStrategy for Cyclic {
    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        false
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("cyclic", request)?;
        let order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
        Ok(rotations(&order, request.budget))
    }
}

crate::plugin!(SequenceStrategy, "cyclic", Cyclic);

/// The first `budget` sequences of iterative cyclic rotation of `order`, as [`Cyclic`] makes them of `0 1 .. L-1`.
/// At most `order.len()!` of them.
pub fn rotations(order: &[SliceId], budget: usize) -> Vec<Sequence> {
    let mut sequences = Vec::new();
    rotate(&mut Vec::with_capacity(order.len()), order, budget, &mut sequences);
    sequences
}

fn rotate(prefix: &mut Vec<SliceId>, rest: &[SliceId], budget: usize, sequences: &mut Vec<Sequence>) {
    if rest.is_empty() {
        sequences.extend((budget > 0).then(|| Sequence(prefix.clone())));
        return;
    }
    for first in 0..rest.len().min(budget) {
        let share = budget / rest.len() + usize::from(first < budget % rest.len());
        let rotated: Vec<SliceId> = rest[first..].iter().chain(&rest[..first]).copied().collect();
        if share == 1 {
            sequences.push(Sequence(prefix.iter().chain(&rotated).copied().collect()));
        } else {
            prefix.push(rotated[0]);
            rotate(prefix, &rotated[1..], share, sequences);
            prefix.pop();
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(slices: u32, budget: usize) -> SequenceRequest<'static> {
        SequenceRequest { shard: ShardId(0), slices, budget, prior: &Prior::Uniform, seed: 0 }
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Broken(Vec<Vec<u32>>);

    #[typetag::serde(name = "broken-for-test")]
    impl SequenceStrategy for Broken {
        fn sequences(&self, _request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
            Ok(self.0.iter().map(|order| Sequence(order.iter().copied().map(SliceId).collect())).collect())
        }
    }

    #[test]
    fn broken_strategies_are_caught() {
        for (result, word) in [
            (vec![vec![0, 1]], "not 2"),
            (vec![vec![0, 1], vec![0, 1]], "twice"),
            (vec![vec![0, 1], vec![1, 1]], "permutation"),
            (vec![vec![0, 1], vec![0, 2]], "permutation"),
        ] {
            let message = plan_sequences(&Broken(result), &request(2, 2)).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        assert!(plan_sequences(&Cyclic {}, &request(2, 0)).is_err());
    }

    #[test]
    fn every_budget_up_to_the_factorial_works() {
        for slices in 1u32..=6 {
            let all = factorial(slices).unwrap() as usize;
            for budget in 1..=all {
                plan_sequences(&Cyclic {}, &request(slices, budget)).unwrap();
            }
            let refusal = plan_sequences(&Cyclic {}, &request(slices, all + 1)).unwrap_err();
            assert!(matches!(refusal, CoreError::BudgetOutOfRange { .. }), "{refusal}");
        }
        // 64! does not fit any integer.
        assert_eq!(plan_sequences(&Cyclic {}, &request(64, 500)).unwrap().len(), 500);
    }

    #[test]
    fn diversity_is_the_mean_distance() {
        for (slices, budget) in [(4, 1), (4, 4), (5, 7), (6, 120)] {
            let found = plan_sequences(&Cyclic {}, &request(slices, budget)).unwrap();
            let pairs = || found.iter().flat_map(|one| found.iter().map(move |other| (one, other)));
            let sum: usize = pairs().map(|(one, other)| one.distance(other)).sum();
            let expected = sum as f64 / ((budget * (budget - 1)) as f64).max(1.0);
            assert!((diversity(&found) - expected).abs() < 1e-12, "{slices} {budget}");
        }
    }

    #[test]
    fn scores_by_hand() {
        let sequence = Sequence::new([2, 0, 1].map(SliceId).to_vec(), 3).unwrap();
        let probabilities = [0.2, 0.5, 0.1];
        // 0.9, 0.7 and 0.2 are left.
        assert!((sequence.score(&probabilities, 2) - (0.81 + 2.0 * 0.49 + 3.0 * 0.04)).abs() < 1e-12);
        assert!((sequence.expected_depth(&probabilities, 2) - (0.81 + 0.49 + 0.04)).abs() < 1e-12);
    }

    #[test]
    fn the_remainder_is_spread_over_the_prefixes() {
        let found = plan_sequences(&Cyclic {}, &request(3, 5)).unwrap();
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["0 1 2", "0 2 1", "1 2 0", "1 0 2", "2 0 1"]);
    }

    proptest! {
        #[test]
        fn cyclic_sequences_are_distinct_and_diverse(slices in 1u32..40, budget in 1usize..200) {
            let found = plan_sequences(&Cyclic {}, &request(slices, budget));
            if factorial(slices).is_some_and(|all| budget as u128 > all) {
                prop_assert!(found.is_err());
                return Ok(());
            }
            let found = found.unwrap();
            for slice in (0..slices).map(SliceId) {
                let heads = found.iter().filter(|sequence| sequence.slices()[0] == slice).count();
                prop_assert!(heads == budget / slices as usize || heads == budget.div_ceil(slices as usize));
            }
            if budget <= slices as usize {
                for (index, one) in found.iter().enumerate() {
                    for other in &found[index + 1..] {
                        prop_assert_eq!(one.distance(other), slices as usize);
                    }
                }
            }
        }

        #[test]
        fn single_makes_one_sequence_only(slices in 1u32..40, budget in 1usize..5) {
            prop_assert_eq!(plan_sequences(&Single {}, &request(slices, budget)).is_ok(), budget == 1);
        }
    }
}
