//! Sequence strategies that others are compared with.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use s3t_core::digest::DigestBuilder;
use s3t_core::sequence::out_of_range;
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
    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        let possible = factorial(request.slices);
        if possible.is_some_and(|possible| request.budget as u128 > possible) {
            let reason = format!("there are {}", possible.unwrap_or_default());
            return Err(out_of_range("random", request, reason));
        }
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

/// n!, `None` where it does not fit.
fn factorial(n: u32) -> Option<u128> {
    (1..=u128::from(n)).try_fold(1u128, u128::checked_mul)
}

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
}
