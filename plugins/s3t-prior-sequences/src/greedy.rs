//! Greedy choice on the expected best depth.

mod drawn;
mod exact;
mod objective;

use std::collections::HashSet;

use s3t_core::budget::depth::untouched_sets;
use s3t_core::sequence::{Cyclic, check_factorial, rotations};
use s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::drawn::Drawn;
use self::exact::Exact;
use self::objective::Objective;
use crate::Bms;

/// The largest L for which the objective is exact.
pub(crate) const EXACT_SLICES: u32 = 14;

/// The largest number of prefixes or scenarios: more take gigabytes.
const MAX_ENTRIES: usize = 1_000_000;

/// Greedy on what counts: the expected depth of the best sequence after some requests.
///
/// Sequences are added one by one, each the one that adds most, then exchanged one by one while that helps. Rotations and
/// `bms` are starting points too, and the best set is taken, so it is never worse than either. Up to 14 slices the
/// objective is exact and the best addition is found among all L! orders; beyond, both are estimated on drawn scenarios
/// with a beam search.
///
/// # Proof note
///
/// *Before*: 1 <= B <= L!. *After*: B distinct permutations whose expected best depth after `requests` requests is at least
/// `1 - 1/e` of the greatest possible (exact case), and at least that of `cyclic` and `bms`. *Why*: given which slices
/// were hit, the best depth of a set of sequences is a maximum over its members, so it is monotone and submodular in
/// the set, and so is its expectation; greedy additions are then within `1 - 1/e` (Nemhauser, Wolsey and Fisher 1978), and
/// exchanges and the choice among starting points only raise it. The gain of a sequence is the sum over k of
/// `W(first k slices)`, where W(S) is the probability that S is untouched and the best depth so far is below |S|; the best
/// sequence is therefore the heaviest path from the empty set to all slices in the lattice of sets, found in `L 2^L` steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Greedy {
    /// After how many requests to the shard the depth counts; 0 for L.
    pub requests: u64,
    /// Beyond 14 slices: prefixes kept at each step of the beam search.
    pub beam: usize,
    /// Beyond 14 slices: drawn scenarios the objective is estimated on.
    pub scenarios: usize,
}

impl Default for Greedy {
    fn default() -> Self {
        Self { requests: 0, beam: 32, scenarios: 2048 }
    }
}

#[typetag::serde(name = "greedy")]
impl SequenceStrategy for Greedy {
    fn depends_on_shard(&self, request: &SequenceRequest<'_>) -> bool {
        // Scenarios are drawn; `bms`, a starting point, draws beyond L.
        request.slices > EXACT_SLICES || request.budget > request.slices as usize
    }

    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        let (slices, budget) = (f64::from(request.slices), request.budget as f64);
        let matching = Bms::default().steps(request);
        if request.slices <= EXACT_SLICES {
            let sets = slices.exp2();
            return matching + 3.0 * budget * (slices * slices * sets + budget * slices);
        }
        let words = (self.scenarios as f64 / 64.0).ceil();
        let drawing = self.scenarios as f64 * self.requests.max(request.slices.into()) as f64 * slices;
        let additions = 4.0 * budget * slices * slices * self.beam as f64 * (words + slices / 4.0 + 20.0);
        matching + drawing + additions + 8.0 * budget * budget * slices * words
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("greedy", request)?;
        for (field, value) in [("beam", self.beam), ("scenarios", self.scenarios)] {
            if !(1..=MAX_ENTRIES).contains(&value) {
                return Err(CoreError::field(field, format!("is {value}; it takes 1 to {MAX_ENTRIES}")));
            }
        }
        let probabilities = request.prior.probabilities(request.slices);
        let requests = if self.requests == 0 { u64::from(request.slices) } else { self.requests };
        if request.slices <= EXACT_SLICES {
            choose(&Exact { law: untouched_sets(&probabilities, requests), slices: request.slices }, request)
        } else {
            choose(&Drawn::new(&probabilities, requests, self, request), request)
        }
    }
}

plugin!(SequenceStrategy, "greedy", Greedy);

fn choose<O: Objective>(objective: &O, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
    let (mut best, complete) = greedy(objective, request)?;
    if complete {
        return Ok(best);
    }
    let mut best_value = objective.value(&objective.state(&best)?);
    for other in [Cyclic {}.sequences(request)?, Bms::default().sequences(request)?] {
        let value = objective.value(&objective.state(&other)?);
        if value > best_value {
            (best, best_value) = (other, value);
        }
    }
    exchange(objective, request, &mut best, best_value)?;
    Ok(best)
}

/// Adds the best sequence until the budget is used up; whether nothing adds anything any more, so that the set is as good as
/// all sequences together.
fn greedy<O: Objective>(objective: &O, request: &SequenceRequest<'_>) -> Result<(Vec<Sequence>, bool), CoreError> {
    let mut chosen: Vec<Sequence> = Vec::with_capacity(request.budget);
    while chosen.len() < request.budget {
        let addition = objective.best_addition(&objective.state(&chosen)?);
        let addition = Sequence::new(addition, request.slices)?;
        if chosen.contains(&addition) {
            break;
        }
        chosen.push(addition);
    }
    let complete = chosen.len() < request.budget;
    // Nothing adds any more: rotations fill the budget, of which there are enough, since B of them are distinct.
    let order: Vec<SliceId> = (0..request.slices).map(SliceId).collect();
    let mut known: HashSet<Sequence> = chosen.iter().cloned().collect();
    for sequence in rotations(&order, request.budget) {
        if chosen.len() < request.budget && known.insert(sequence.clone()) {
            chosen.push(sequence);
        }
    }
    Ok((chosen, complete))
}

/// Replaces one sequence at a time by a better one, until a whole pass changes nothing or three passes were made.
fn exchange<O: Objective>(
    objective: &O,
    request: &SequenceRequest<'_>,
    chosen: &mut [Sequence],
    mut value: f64,
) -> Result<(), CoreError> {
    for _ in 0..3 {
        let before = value;
        for index in 0..chosen.len() {
            let mut others = chosen.to_vec();
            others.remove(index);
            let addition = Sequence::new(objective.best_addition(&objective.state(&others)?), request.slices)?;
            if others.contains(&addition) {
                continue;
            }
            others.insert(index, addition);
            let exchanged = objective.value(&objective.state(&others)?);
            if exchanged > value * (1.0 + 1e-12) {
                chosen.clone_from_slice(&others);
                value = exchanged;
            }
        }
        if value <= before {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use s3t_core::budget::depth::DepthLaw;
    use s3t_core::sequence::plan_sequences;
    use s3t_core::{Prior, ShardId};

    use super::*;

    fn request(slices: u32, budget: usize, prior: &Prior) -> SequenceRequest<'_> {
        SequenceRequest { shard: ShardId(0), slices, budget, prior, seed: 0 }
    }

    fn all_orders(slices: u32) -> Vec<Sequence> {
        rotations(&(0..slices).map(SliceId).collect::<Vec<_>>(), (1..=slices as usize).product())
    }

    fn prior(slices: u32) -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.0f64..1.0, slices as usize).prop_map(|values| {
            let total: f64 = values.iter().map(|value| value.powi(3)).sum::<f64>().max(1e-9);
            values.iter().map(|value| value.powi(3) / total).collect()
        })
    }

    fn shape() -> impl Strategy<Value = (Vec<f64>, usize)> {
        (4u32..=8).prop_flat_map(|slices| (prior(slices), 1..=slices as usize))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn never_worse_than_cyclic_or_bms((values, budget) in shape()) {
            let slices = values.len() as u32;
            let prior = Prior::PerSlice(values.clone());
            let request = request(slices, budget, &prior);
            let depth = |strategy: &dyn SequenceStrategy| {
                let sequences = plan_sequences(strategy, &request).unwrap();
                DepthLaw::new(&sequences, &values).unwrap().expected_depth(u64::from(slices))
            };
            let found = depth(&Greedy::default());
            for other in [depth(&Cyclic {}), depth(&Bms::default())] {
                prop_assert!(found >= other - 1e-12, "{} {}", found, other);
            }
        }

        #[test]
        fn the_best_addition_is_the_best_of_all_orders(values in prior(5), budget in 0usize..4, requests in 1u64..12) {
            let prior = Prior::PerSlice(values.clone());
            let objective = Exact { slices: 5, law: untouched_sets(&values, requests) };
            let mut chosen = if budget == 0 { Vec::new() } else { Cyclic {}.sequences(&request(5, budget, &prior)).unwrap() };
            let addition = Sequence::new(objective.best_addition(&objective.state(&chosen).unwrap()), 5).unwrap();
            let mut value_with = |sequence: Sequence| {
                chosen.push(sequence);
                let value = objective.value(&objective.state(&chosen).unwrap());
                chosen.pop();
                value
            };
            let found = value_with(addition);
            let best = all_orders(5).into_iter().map(&mut value_with).fold(0.0, f64::max);
            prop_assert!((found - best).abs() < 1e-12, "{} {}", found, best);
        }
    }

    #[test]
    fn the_drawn_objective_agrees_with_the_exact_one() {
        let values = [0.3, 0.05, 0.2, 0.1, 0.25, 0.1];
        let prior = Prior::PerSlice(values.to_vec());
        let settings = Greedy { scenarios: 20_000, ..Greedy::default() };
        let drawn = Drawn::new(&values, 4, &settings, &request(6, 3, &prior));
        let sequences = Cyclic {}.sequences(&request(6, 3, &prior)).unwrap();
        let estimate = drawn.value(&drawn.state(&sequences).unwrap()) / 20_000.0;
        let exact = DepthLaw::new(&sequences, &values).unwrap().expected_depth(4);
        // Depths are at most 6, so five standard errors are below 5 x 3 / sqrt(20,000).
        assert!((estimate - exact).abs() < 0.11, "{estimate} {exact}");
    }

    #[test]
    fn many_slices_and_many_sequences_work() {
        let rising = Prior::PerSlice((1..=24).map(|slice| f64::from(slice) / 300.0).collect());
        let settings = Greedy { scenarios: 300, beam: 4, requests: 10 };
        let found = plan_sequences(&settings, &request(24, 30, &rising)).unwrap();
        // The safest slices come early.
        assert!(found[0].slices()[0].0 < 6, "{}", found[0]);
        assert_eq!(plan_sequences(&Greedy::default(), &request(5, 120, &Prior::Uniform)).unwrap().len(), 120);
        assert!(plan_sequences(&Greedy { beam: 0, ..Greedy::default() }, &request(3, 2, &rising)).is_err());
    }
}
