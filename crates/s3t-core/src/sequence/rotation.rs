//! Rotations of the slices: the built-in strategies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::Sequence;
use super::strategy::{SequenceRequest, SequenceStrategy, check_factorial, out_of_range};
use crate::{CoreError, SliceId};

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
        Ok(rotations(&(0..request.slices).map(SliceId).collect::<Vec<_>>(), 1))
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
        sequences.extend((budget > 0).then(|| Sequence::unchecked(prefix.clone())));
        return;
    }
    for first in 0..rest.len().min(budget) {
        let share = budget / rest.len() + usize::from(first < budget % rest.len());
        let rotated: Vec<SliceId> = rest[first..].iter().chain(&rest[..first]).copied().collect();
        if share == 1 {
            sequences.push(Sequence::unchecked(prefix.iter().chain(&rotated).copied().collect()));
        } else {
            prefix.push(rotated[0]);
            rotate(prefix, &rotated[1..], share, sequences);
            prefix.pop();
        }
    }
}
