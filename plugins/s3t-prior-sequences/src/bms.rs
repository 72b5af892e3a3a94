//! Bipartite matching.

use s3t_core::sequence::{check_factorial, untouched};
use s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::assignment::Assignment;
use crate::conditional::{Sampler, drawing_steps};

/// The worth of an edge of the matching: the score of the sequence that it makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// `sum_i i (1 - sum_(j <= i) p_j)^t`: the published score.
    #[default]
    Weighted,
    /// `sum_i (1 - sum_(j <= i) p_j)^t`: the expected depth of the sequence after t requests.
    Depth,
}

/// Bipartite matching (S3T, section 3.3 and algorithm 2): L sequences that start with one slice each are extended all at
/// once, slice by slice, by a matching of greatest total score; the B best are kept. Beyond L, sequences sampled as
/// `conditional` does follow them.
///
/// # Proof note
///
/// *Before*: 1 <= B <= L!. *After*: B distinct permutations; the first L of them (all, for B <= L) have no slice at the same
/// position. *Why*: after n steps every sequence lacks L - n slices, and every slice is lacked by L - n sequences, because
/// each matching used every slice once; a regular bipartite graph has a perfect matching, so the next step can be made.
/// Each position holds every slice once. The score of a longer prefix is the score of the shorter one plus one term, and a
/// constant in each row does not change which matching is best, so the term alone is matched. Ties go as the solver decides,
/// which is a function of the scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bms {
    /// The score: `weighted` or `depth`.
    pub score: Score,
    /// The exponent t of the score: the number of requests it looks ahead.
    pub t: u32,
}

impl Default for Bms {
    fn default() -> Self {
        Self { score: Score::default(), t: 100 }
    }
}

impl Bms {
    /// The term that a prefix of this length gains, where `hit` is the sum of its slices' probabilities.
    fn term(&self, length: usize, hit: f64) -> f64 {
        let weight = match self.score {
            Score::Weighted => length as f64,
            Score::Depth => 1.0,
        };
        weight * untouched(hit, self.t)
    }

    /// The score of a sequence.
    fn score_of(&self, sequence: &Sequence, probabilities: &[f64]) -> f64 {
        match self.score {
            Score::Weighted => sequence.score(probabilities, self.t),
            Score::Depth => sequence.expected_depth(probabilities, self.t),
        }
    }

    /// The L prefixes of this length, the one that starts with slice s at index s.
    fn prefixes(&self, probabilities: &[f64], length: usize) -> Result<Vec<Vec<usize>>, CoreError> {
        let slices = probabilities.len();
        let mut prefixes: Vec<Vec<usize>> = (0..slices).map(|slice| vec![slice]).collect();
        let mut hit = probabilities.to_vec();
        let mut used: Vec<Vec<bool>> = (0..slices).map(|row| (0..slices).map(|slice| slice == row).collect()).collect();
        let mut solver = Assignment::new(slices);
        for length in 2..=length {
            let term = |row: usize, slice: usize| self.term(length, hit[row] + probabilities[slice]);
            let best = extend(&mut solver, slices, |row, slice| (!used[row][slice]).then(|| term(row, slice)))?;
            for (row, slice) in best.into_iter().enumerate() {
                prefixes[row].push(slice);
                used[row][slice] = true;
                hit[row] += probabilities[slice];
            }
        }
        Ok(prefixes)
    }

    /// The L sequences, best first.
    fn matched(&self, probabilities: &[f64]) -> Result<Vec<Sequence>, CoreError> {
        let slices = probabilities.len();
        let mut scored = Vec::with_capacity(slices);
        for prefix in self.prefixes(probabilities, slices)? {
            let order = prefix.into_iter().map(|slice| SliceId(slice as u32)).collect();
            let sequence = Sequence::new(order, slices as u32)?;
            scored.push((self.score_of(&sequence, probabilities), sequence));
        }
        // Stable: equal scores keep the order of their first slices.
        scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        Ok(scored.into_iter().map(|(_, sequence)| sequence).collect())
    }
}

/// The perfect matching of greatest weight: the column of each row. A weight of `None` is not an edge.
fn extend(
    solver: &mut Assignment,
    size: usize,
    weight: impl Fn(usize, usize) -> Option<f64>,
) -> Result<Vec<usize>, CoreError> {
    let mut costs = vec![f64::INFINITY; size * size];
    for (row, costs) in costs.chunks_mut(size).enumerate() {
        for (column, cost) in costs.iter_mut().enumerate() {
            *cost = weight(row, column).map_or(f64::INFINITY, |weight| -weight);
        }
    }
    // The greatest weight is 1, so that prices of one step suit the next.
    let greatest = -costs.iter().copied().fold(0.0, f64::min);
    if greatest > 0.0 {
        costs.iter_mut().for_each(|cost| *cost /= greatest);
    }
    let unsolved = || CoreError::field("prior", "leads to scores that cannot be matched; use `cyclic`");
    solver.solve(&costs).ok_or_else(unsolved)
}

#[typetag::serde(name = "bms")]
impl SequenceStrategy for Bms {
    fn depends_on_shard(&self, request: &SequenceRequest<'_>) -> bool {
        // What follows the matched sequences is drawn.
        request.budget > request.slices as usize
    }

    fn steps(&self, request: &SequenceRequest<'_>) -> f64 {
        // L matchings, each of L rows and columns, and what is drawn beyond L.
        let beyond = request.budget > request.slices as usize;
        16.0 * f64::from(request.slices).powi(3) + if beyond { drawing_steps(request) } else { 0.0 }
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        check_factorial("bms", request)?;
        let probabilities = request.prior.probabilities(request.slices);
        let mut chosen = self.matched(&probabilities)?;
        chosen.truncate(request.budget);
        if chosen.len() < request.budget {
            let mut sampler = Sampler::new(request, "bms beyond L");
            chosen.iter().for_each(|sequence| sampler.take(sequence));
            while chosen.len() < request.budget {
                chosen.push(sampler.draw()?);
            }
        }
        Ok(chosen)
    }
}

plugin!(SequenceStrategy, "bms", Bms);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use s3t_core::sequence::plan_sequences;
    use s3t_core::{Prior, ShardId};

    use super::*;

    fn choose(bms: &Bms, prior: &[f64], budget: usize) -> Vec<Sequence> {
        let prior = Prior::PerSlice(prior.to_vec());
        let slices = match &prior {
            Prior::PerSlice(values) => values.len() as u32,
            Prior::Uniform => unreachable!(),
        };
        plan_sequences(bms, &SequenceRequest { shard: ShardId(0), slices, budget, prior: &prior, seed: 0 }).unwrap()
    }

    fn text(sequences: &[Sequence]) -> Vec<String> {
        sequences.iter().map(ToString::to_string).collect()
    }

    /// `tests/golden/bms.json` holds what scipy's assignment solver makes of the same algorithm (`tests/golden/make_bms.py`):
    /// the prefixes up to the first tie, and the total score of the step after them.
    #[test]
    fn the_reference_solver_finds_the_same_prefixes() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../tests/golden/bms.json")).unwrap();
        let mut longest = 0;
        for case in golden.as_array().unwrap() {
            let prior: Vec<f64> = serde_json::from_value(case["prior"].clone()).unwrap();
            let bms: Bms = serde_json::from_value(serde_json::json!({"score": case["score"], "t": case["t"]})).unwrap();
            let expected: Vec<Vec<usize>> = serde_json::from_value(case["prefixes"].clone()).unwrap();
            let length = expected[0].len();
            longest = longest.max(length);
            assert_eq!(bms.prefixes(&prior, length).unwrap(), expected, "{case}");
            let score = |prefix: &Vec<usize>| -> f64 {
                let sums = (1..=prefix.len()).map(|n| (n, prefix[..n].iter().map(|slice| prior[*slice]).sum()));
                sums.map(|(n, hit)| bms.term(n, hit)).sum()
            };
            let total: f64 = bms.prefixes(&prior, length + 1).unwrap().iter().map(score).sum();
            let reference = case["next_total"].as_f64().unwrap();
            assert!((total - reference).abs() < 1e-9 * reference, "{total}: {case}");
        }
        assert_eq!(longest, 2, "longer prefixes pair up over the same slices, which ties");
        // The worked example: the four sequences pair up the safest and the likeliest slices.
        let found = choose(&Bms { t: 3, ..Bms::default() }, &[0.4, 0.3, 0.2, 0.1], 4);
        let starts: Vec<String> = found.iter().map(|sequence| sequence.to_string()[..3].to_owned()).collect();
        assert_eq!(starts, ["3 2", "2 3", "1 0", "0 1"]);
    }

    #[test]
    fn zeros_ties_and_certainty_work() {
        for prior in [vec![0.0; 5], vec![0.2; 5], vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![0.5, 0.5, 0.0, 0.0, 0.0]] {
            for score in [Score::Weighted, Score::Depth] {
                let bms = Bms { score, ..Bms::default() };
                for budget in [1, 3, 5, 20, 120] {
                    let found = choose(&bms, &prior, budget);
                    assert_eq!(text(&found), text(&choose(&bms, &prior, budget)));
                }
            }
        }
        // A slice that is certain to be hit comes first once, and the sequences that start with it are the worst.
        let found = choose(&Bms::default(), &[1.0, 0.0, 0.0], 2);
        assert!(found.iter().all(|sequence| sequence.slices()[0] != SliceId(0)), "{:?}", text(&found));
    }

    fn brute_force(weights: &[Vec<Option<f64>>], row: usize, used: u32) -> f64 {
        if row == weights.len() {
            return 0.0;
        }
        (0..weights.len())
            .filter(|column| used >> column & 1 == 0)
            .filter_map(|column| Some(weights[row][column]? + brute_force(weights, row + 1, used | 1 << column)))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    proptest! {
        #[test]
        fn the_matching_is_the_best_of_all_assignments(
            slices in 2usize..7, used in 1usize..6, t in 1u32..150, seeds in proptest::collection::vec(0u32..6, 36),
        ) {
            // A Latin rectangle of `used` columns leaves a regular graph, as in the algorithm.
            let used = used.min(slices - 1);
            let bms = Bms { t, ..Bms::default() };
            let weights: Vec<Vec<Option<f64>>> = (0..slices).map(|row| (0..slices).map(|slice| {
                let taken = (slice + slices - row) % slices < used;
                (!taken).then(|| bms.term(used + 1, f64::from(seeds[row * 6 + slice]) / 8.0))
            }).collect()).collect();
            let found = extend(&mut Assignment::new(slices), slices, |row, slice| weights[row][slice]).unwrap();
            let total: f64 = found.iter().enumerate().map(|(row, slice)| weights[row][*slice].expect("an edge")).sum();
            let best = brute_force(&weights, 0, 0);
            prop_assert!((total - best).abs() <= 1e-12 * best.max(1e-300), "{} {}", total, best);
        }

        #[test]
        fn matched_sequences_are_diverse(values in proptest::collection::vec(0.0f64..1.0, 1..20), depth: bool) {
            let total: f64 = values.iter().sum::<f64>().max(1.0);
            let prior: Vec<f64> = values.iter().map(|value| value / total).collect();
            let score = if depth { Score::Depth } else { Score::Weighted };
            let found = choose(&Bms { score, t: 10 }, &prior, prior.len());
            for (index, one) in found.iter().enumerate() {
                for other in &found[index + 1..] {
                    prop_assert_eq!(one.distance(other), prior.len());
                }
            }
        }
    }
}
