//! Sequences: the orders in which a shard's slices are trained.

mod order;
mod rotation;
mod strategy;

pub use order::{PrefixTree, Sequence, diversity, untouched};
pub use rotation::{Cyclic, Single, rotations};
pub use strategy::{
    MAX_POSITIONS, MAX_STEPS, SequenceRequest, SequenceStrategy, check_factorial, check_steps, factorial, out_of_range,
    plan_sequences,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{CoreError, Prior, ShardId, SliceId};

    fn request(slices: u32, budget: usize) -> SequenceRequest<'static> {
        SequenceRequest { shard: ShardId(0), slices, budget, prior: &Prior::Uniform, seed: 0 }
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Broken(Vec<Vec<u32>>);

    #[typetag::serde(name = "broken-for-test")]
    impl SequenceStrategy for Broken {
        fn sequences(&self, _request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
            Ok(self.0.iter().map(|order| Sequence::unchecked(order.iter().copied().map(SliceId).collect())).collect())
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
