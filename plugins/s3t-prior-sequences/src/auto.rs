//! Choosing the strategy.

use s3t_core::sequence::{Cyclic, check_factorial};
use s3t_core::{CoreError, Prior, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::greedy::EXACT_SLICES;
use crate::{Bms, Greedy};

/// Picks a strategy by L, B and the prior, and says why (in `s3t plan`).
///
/// # Proof note
///
/// *After*: the result of the strategy that it names, so its guarantees. One sequence: the slices by rising probability,
/// which is best at every depth, since its first k slices are the k least likely of all, so
/// `P[depth >= k] = (1 - p(first k))^r` is as large as any order can make it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auto {}

enum Choice {
    Sorted,
    Cyclic,
    Greedy,
    Bms,
}

impl Auto {
    fn choice(request: &SequenceRequest<'_>) -> (Choice, String) {
        let SequenceRequest { slices, budget, prior, .. } = request;
        let alike = match prior {
            Prior::Uniform => true,
            Prior::PerSlice(values) => values.windows(2).all(|pair| pair[0] == pair[1]),
        };
        if *budget == 1 {
            (Choice::Sorted, "one sequence: the slices by rising probability, which is best at every depth".into())
        } else if alike {
            (
                Choice::Cyclic,
                "cyclic: all slices are equally likely, and rotations spread each over all positions".into(),
            )
        } else if *slices <= EXACT_SLICES {
            (Choice::Greedy, format!("greedy: with {slices} slices the expected best depth can be computed exactly"))
        } else {
            let beyond = if *budget > *slices as usize { ", and conditional sampling beyond L" } else { "" };
            (Choice::Bms, format!("bms: {slices} slices are too many for greedy's exact search{beyond}"))
        }
    }
}

#[typetag::serde(name = "auto")]
impl SequenceStrategy for Auto {
    fn depends_on_shard(&self, request: &SequenceRequest<'_>) -> bool {
        match Self::choice(request).0 {
            Choice::Sorted | Choice::Cyclic => false,
            Choice::Greedy => Greedy::default().depends_on_shard(request),
            Choice::Bms => Bms::default().depends_on_shard(request),
        }
    }

    fn reason(&self, request: &SequenceRequest<'_>) -> Option<String> {
        Some(Self::choice(request).1)
    }

    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        // The choice looks at every slice's probability.
        let choosing = f64::from(request.slices);
        choosing
            + match Self::choice(request).0 {
                Choice::Sorted | Choice::Cyclic => Cyclic {}.steps(request),
                Choice::Greedy => Greedy::default().steps(request),
                Choice::Bms => Bms::default().steps(request),
            }
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("auto", request)?;
        match Self::choice(request).0 {
            Choice::Sorted => {
                let probabilities = request.prior.probabilities(request.slices);
                let mut order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
                order.sort_by(|one, other| probabilities[one.index()].total_cmp(&probabilities[other.index()]));
                Ok(vec![Sequence::new(order, request.slices)?])
            }
            Choice::Cyclic => Cyclic {}.sequences(request),
            Choice::Greedy => Greedy::default().sequences(request),
            Choice::Bms => Bms::default().sequences(request),
        }
    }
}

plugin!(SequenceStrategy, "auto", Auto);

#[cfg(test)]
mod tests {
    use s3t_core::ShardId;
    use s3t_core::sequence::plan_sequences;

    use super::*;

    #[test]
    fn the_choice_follows_slices_budget_and_prior() {
        let rising = |slices: u32| Prior::PerSlice((1..=slices).map(|slice| f64::from(slice) / 1000.0).collect());
        for (slices, budget, prior, word) in [
            (4, 1, Prior::Uniform, "one sequence"),
            (4, 3, Prior::Uniform, "cyclic"),
            (4, 3, Prior::PerSlice(vec![0.1; 4]), "cyclic"),
            (4, 9, rising(4), "greedy"),
            (20, 3, rising(20), "bms"),
            (20, 30, rising(20), "beyond L"),
        ] {
            let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &prior, seed: 0 };
            let reason = Auto {}.reason(&request).unwrap();
            assert!(reason.contains(word), "{reason}");
            assert_eq!(plan_sequences(&Auto {}, &request).unwrap().len(), budget);
        }
        let prior = Prior::PerSlice(vec![0.3, 0.1, 0.2]);
        let request = SequenceRequest { shard: ShardId(0), slices: 3, budget: 1, prior: &prior, seed: 0 };
        assert_eq!(Auto {}.sequences(&request).unwrap()[0].to_string(), "1 2 0");
    }
}
