//! Sequence strategies that others are compared with.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use s3t_core::digest::DigestBuilder;
use s3t_core::sequence::{Cyclic, check_factorial, factorial, out_of_range, rotations};
use s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Distinct permutations drawn uniformly without replacement, from the pipeline's seed and the shard.
///
/// # Proof note
///
/// *Before*: B <= L!. *After*: B distinct permutations, a function of seed, shard, L and B. *Why*: a permutation that was
/// drawn already is drawn again (which draws uniformly from the rest), and with B <= L! there is always one left; the
/// generator's state is derived from the request alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {}

#[typetag::serde(name = "random")]
impl SequenceStrategy for Random {
    fn is_baseline(&self, _request: &SequenceRequest<'_>) -> bool {
        true
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("random", request)?;
        let seed =
            DigestBuilder::new("random sequences").number(request.seed).number(u64::from(request.shard.0)).finish();
        let mut rng = ChaCha8Rng::from_seed(*seed.as_bytes());
        let mut seen = HashSet::new();
        let mut sequences = Vec::with_capacity(request.budget);
        while sequences.len() < request.budget {
            let mut order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
            order.shuffle(&mut rng);
            let sequence = Sequence::new(order, request.slices)?;
            if seen.insert(sequence.clone()) {
                sequences.push(sequence);
            }
        }
        Ok(sequences)
    }
}

plugin!(SequenceStrategy, "random", Random);

/// Rotations of the slices sorted by falling safety: the least likely to be hit first; for more than L sequences, prefixes
/// are kept as `cyclic` does. Equally likely slices keep their order.
///
/// # Proof note
///
/// As for `cyclic`, of which this is a renaming of the slices: 1 <= B <= L! distinct permutations; for B <= L no two with a
/// slice at the same position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SortedCyclic {}

#[typetag::serde(name = "sorted-cyclic")]
impl SequenceStrategy for SortedCyclic {
    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        let slices = f64::from(request.slices);
        Cyclic {}.steps(request) + slices * slices.log2().max(1.0)
    }

    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        false
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("sorted-cyclic", request)?;
        let probabilities = request.prior.probabilities(request.slices);
        let mut order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
        order.sort_by(|one, other| probabilities[one.index()].total_cmp(&probabilities[other.index()]));
        Ok(rotations(&order, request.budget))
    }
}

plugin!(SequenceStrategy, "sorted-cyclic", SortedCyclic);

/// All L! orders: the most that training more sequences can reach. The budget must be L!.
///
/// # Proof note
///
/// *After*: every permutation once, in the order of iterative rotation, which with budget L! makes them all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct All {}

#[typetag::serde(name = "all")]
impl SequenceStrategy for All {
    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        Cyclic {}.steps(request) + f64::from(request.slices)
    }

    fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
        false
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        match factorial(request.slices) {
            Some(all) if all == request.budget as u128 => {
                let order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
                Ok(rotations(&order, request.budget))
            }
            Some(all) => Err(out_of_range("all", request, format!("it makes all {all}; use that budget, or `cyclic`"))),
            None => Err(out_of_range("all", request, "there are too many to count; use `cyclic`")),
        }
    }
}

plugin!(SequenceStrategy, "all", All);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use s3t_core::sequence::plan_sequences;
    use s3t_core::{Prior, ShardId};

    use super::*;

    proptest! {
        #[test]
        fn draws_are_distinct_seeded_and_differ_between_shards(slices in 1u32..6, budget in 1usize..130, seed: u64) {
            let request = |shard| SequenceRequest { shard: ShardId(shard), slices, budget, prior: &Prior::Uniform, seed };
            let found = plan_sequences(&Random {}, &request(0));
            if budget as u128 > factorial(slices).unwrap() {
                prop_assert!(found.is_err());
            } else {
                prop_assert_eq!(found.unwrap(), plan_sequences(&Random {}, &request(0)).unwrap());
            }
        }
    }

    #[test]
    fn shards_get_sequences_of_their_own() {
        let request =
            |shard| SequenceRequest { shard: ShardId(shard), slices: 8, budget: 4, prior: &Prior::Uniform, seed: 1 };
        assert_ne!(Random {}.sequences(&request(0)).unwrap(), Random {}.sequences(&request(1)).unwrap());
    }

    #[test]
    fn sorted_cyclic_starts_with_the_safest_slice() {
        let prior = Prior::PerSlice(vec![0.5, 0.1, 0.3, 0.1]);
        let request = SequenceRequest { shard: ShardId(0), slices: 4, budget: 2, prior: &prior, seed: 0 };
        let found: Vec<String> =
            plan_sequences(&SortedCyclic {}, &request).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1 3 2 0", "3 2 0 1"]);
    }

    #[test]
    fn all_makes_all_or_says_how_many_there_are() {
        let request =
            |budget| SequenceRequest { shard: ShardId(0), slices: 4, budget, prior: &Prior::Uniform, seed: 0 };
        assert_eq!(plan_sequences(&All {}, &request(24)).unwrap().len(), 24);
        let message = plan_sequences(&All {}, &request(5)).unwrap_err().to_string();
        assert!(message.contains("all 24"), "{message}");
    }
}
