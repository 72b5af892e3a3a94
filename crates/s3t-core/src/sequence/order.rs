//! One order of slices, and the prefixes of several.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CoreError, SliceId};

/// An order of all L slices of a shard. A deletion in the slice at position p leaves the first p stages usable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
            let order = order.into_iter().map(|slice| slice.0).collect();
            Err(CoreError::NotAPermutation { slices: order, expected: slices })
        }
    }

    /// Wraps a permutation that is made right by construction, or a wrong one in tests.
    pub(super) fn unchecked(order: Vec<SliceId>) -> Self {
        Self(order)
    }

    /// The slices in order.
    pub fn slices(&self) -> &[SliceId] {
        &self.0
    }

    /// The position of a slice, from 0.
    pub fn position(&self, slice: SliceId) -> Option<usize> {
        self.0.iter().position(|other| *other == slice)
    }

    /// The number of positions in which two sequences differ: the Hamming distance, L when they share no prefix and no position.
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
    libm::pow((1.0 - hit).max(0.0), f64::from(t))
}

/// The mean distance of two different sequences of a set, 0 for one sequence: what the paper calls diversity (S3T, section
/// 4.3). For rotations of L slices it is L.
pub fn diversity(sequences: &[Sequence]) -> f64 {
    // How many pairs agree at a position is how often each slice stands there, over two.
    let mut at: BTreeMap<(usize, SliceId), u64> = BTreeMap::new();
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

    /// The number of prefixes of at least one slice.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `true` if there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
