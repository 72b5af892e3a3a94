//! The depth of the best sequence of a shard after some requests.
//!
//! # Proof note
//!
//! The best depth is a function of the set of slices that were not hit: the largest k for which the first k slices of some
//! sequence are all in it. [`DepthTable`] holds that function for all `2^L` sets. A request hits each slice with its own
//! probability, independently of the others. If all slices are equally likely, the number of distinct slices hit is a
//! Markov chain and, given the number, every set is equally likely: every term is positive. Otherwise the law of the set
//! comes by inclusion and exclusion from `P[no slice of V is hit in r requests] = (1 - p(V))^r`. Neither is an
//! approximation; the error is that of rounding, below `2^L x 2.2e-16` in the worst case of the second.

use crate::{CoreError, Sequence};

/// The largest L for which a table over all sets of slices is made.
pub const MAX_EXACT_SLICES: u32 = 20;

/// The best depth for every set of slices that were not hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthTable {
    slices: u32,
    /// `[set of slices not hit]`
    depths: Vec<u8>,
}

impl DepthTable {
    /// The table of a set of sequences of L slices. Takes `L 2^L` steps.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] for L above [`MAX_EXACT_SLICES`], [`CoreError::NotAPermutation`] for a sequence of
    /// another length.
    pub fn new(sequences: &[Sequence], slices: u32) -> Result<Self, CoreError> {
        if slices > MAX_EXACT_SLICES {
            let problem =
                format!("is {slices}; exact depths go up to {MAX_EXACT_SLICES}, beyond it `simulate` estimates them");
            return Err(CoreError::field("slices", problem));
        }
        let mut depths = vec![0u8; 1 << slices];
        for sequence in sequences {
            Sequence::new(sequence.slices().to_vec(), slices)?;
            let mut prefix = 0usize;
            for (depth, slice) in (1u8..).zip(sequence.slices()) {
                prefix |= 1 << slice.index();
                depths[prefix] = depth;
            }
        }
        // The best over all subsets of a set.
        for slice in 0..slices {
            for set in 0..depths.len() {
                if set >> slice & 1 == 1 {
                    depths[set] = depths[set].max(depths[set ^ (1 << slice)]);
                }
            }
        }
        Ok(Self { slices, depths })
    }

    /// The best depth if exactly these slices (bit s for slice s) were not hit.
    pub fn depth(&self, not_hit: usize) -> u32 {
        u32::from(self.depths[not_hit])
    }

    /// All depths, indexed by the set of slices not hit.
    pub fn depths(&self) -> &[u8] {
        &self.depths
    }

    /// L.
    pub fn slices(&self) -> u32 {
        self.slices
    }
}

/// The law of the best depth of a shard as requests come in.
#[derive(Debug, Clone)]
pub struct DepthLaw {
    table: DepthTable,
    hits: Hits,
}

#[derive(Debug, Clone)]
enum Hits {
    /// Every slice with this probability. `shares[j][k]`: of the sets of j slices hit, the share that leaves depth k.
    Alike {
        probability: f64,
        shares: Vec<Vec<f64>>,
    },
    Each(Vec<f64>),
}

impl DepthLaw {
    /// The law for sequences of L slices, where a request hits slice s with probability `hits[s]`, and no slice of the shard
    /// with what is missing to 1.
    ///
    /// # Errors
    ///
    /// As [`DepthTable::new`]; [`CoreError::InvalidField`] for invalid probabilities.
    pub fn new(sequences: &[Sequence], hits: &[f64]) -> Result<Self, CoreError> {
        crate::Prior::PerSlice(hits.to_vec()).check(hits.len() as u32)?;
        let table = DepthTable::new(sequences, hits.len() as u32)?;
        let alike = hits.windows(2).all(|pair| pair[0] == pair[1]);
        let hits = match hits.first() {
            Some(probability) if alike => Hits::Alike { probability: *probability, shares: shares(&table) },
            _ => Hits::Each(hits.to_vec()),
        };
        Ok(Self { table, hits })
    }

    /// `P[best depth = k]` for k in `0..=L` after this many requests.
    pub fn distribution(&self, requests: u64) -> Vec<f64> {
        let mut law = vec![0.0; self.table.slices as usize + 1];
        match &self.hits {
            Hits::Alike { probability, shares } => {
                for (hit, chance) in occupancy(self.table.slices, *probability, requests).into_iter().enumerate() {
                    for (depth, share) in shares[hit].iter().enumerate() {
                        law[depth] += chance * share;
                    }
                }
            }
            Hits::Each(hits) => {
                for (set, chance) in untouched_sets(hits, requests).into_iter().enumerate() {
                    law[self.table.depths[set] as usize] += chance;
                }
            }
        }
        law
    }

    /// `P[best depth >= k]` after this many requests.
    pub fn retention(&self, depth: u32, requests: u64) -> f64 {
        self.distribution(requests).iter().skip(depth as usize).sum()
    }

    /// The expected best depth after this many requests; a dead shard counts as 0.
    pub fn expected_depth(&self, requests: u64) -> f64 {
        let law = self.distribution(requests);
        law.iter().enumerate().map(|(depth, chance)| depth as f64 * chance).sum()
    }

    /// The expected utility after this many requests, where `utility[k]` is what a model of depth k is worth (depth 0: a
    /// dead shard, for example the base model).
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] unless there are L + 1 values.
    pub fn expected_utility(&self, utility: &[f64], requests: u64) -> Result<f64, CoreError> {
        let law = self.distribution(requests);
        if utility.len() != law.len() {
            let problem = format!(
                "has {} values; give {}, for depth 0 (a dead shard) to {}",
                utility.len(),
                law.len(),
                law.len() - 1
            );
            return Err(CoreError::field("utility", problem));
        }
        Ok(law.iter().zip(utility).map(|(chance, utility)| chance * utility).sum())
    }
}

/// The law of the set of slices not hit after this many requests, indexed by set; `hits[s]` as in [`DepthLaw::new`].
/// Takes `L 2^L` steps.
pub fn untouched_sets(hits: &[f64], requests: u64) -> Vec<f64> {
    let sets = 1usize << hits.len();
    // p(V), then P[no slice of V is hit].
    let mut chances = vec![0.0; sets];
    for set in 1..sets {
        let lowest = set.trailing_zeros() as usize;
        chances[set] = chances[set & (set - 1)] + hits[lowest];
    }
    for chance in &mut chances {
        // Sequences are chosen by it, of equal ones by the last bit: the same on every machine.
        *chance = libm::pow((1.0 - *chance).max(0.0), requests as f64);
    }
    // Inclusion and exclusion: exactly V is untouched.
    for slice in 0..hits.len() {
        for set in 0..sets {
            if set >> slice & 1 == 0 {
                chances[set] = (chances[set] - chances[set | 1 << slice]).max(0.0);
            }
        }
    }
    chances
}

/// `P[j distinct slices are hit]` for j in `0..=L` after this many requests, each slice hit with this probability.
///
/// A sum of positive terms; takes `L min(requests, L^2 log requests)` steps.
pub fn occupancy(slices: u32, probability: f64, requests: u64) -> Vec<f64> {
    let slices = slices as usize;
    if requests > LOOPED_REQUESTS {
        return occupancy_by_squaring(slices, probability, requests);
    }
    let mut law = vec![0.0; slices + 1];
    law[0] = 1.0;
    for _ in 0..requests {
        for j in (0..=slices).rev() {
            let stay = (1.0 - (slices - j) as f64 * probability).max(0.0);
            let enter = if j > 0 { law[j - 1] * (slices - j + 1) as f64 * probability } else { 0.0 };
            law[j] = law[j] * stay + enter;
        }
    }
    law
}

/// Up to here one request is taken after the other.
const LOOPED_REQUESTS: u64 = 20_000;

/// The first row of the transition matrix to the power of `requests`.
fn occupancy_by_squaring(slices: usize, probability: f64, mut requests: u64) -> Vec<f64> {
    let size = slices + 1;
    let mut step = vec![vec![0.0; size]; size];
    for (j, row) in step.iter_mut().enumerate() {
        let enter = ((slices - j) as f64 * probability).min(1.0);
        row[j] = 1.0 - enter;
        if j < slices {
            row[j + 1] = enter;
        }
    }
    let times = |one: &[f64], other: &[Vec<f64>]| -> Vec<f64> {
        (0..size).map(|to| one.iter().zip(other).map(|(chance, row)| chance * row[to]).sum()).collect()
    };
    let mut law = vec![0.0; size];
    law[0] = 1.0;
    while requests > 0 {
        if requests & 1 == 1 {
            law = times(&law, &step);
        }
        step = step.iter().map(|row| times(row, &step)).collect();
        requests >>= 1;
    }
    law
}

/// The paper's Lemma 2, `P[depth >= k after r] = 1 - (1 - (1 - k/L)^r)^min(B, L!/(L-k)!)`: an approximation that takes
/// sequences to be independent of each other (S3T, section 3.4 and appendix A).
///
/// For requests that are uniform over slices; those to a system of `shards` shards hit one slice of a shard with 1/(mL).
pub fn retention_lemma_2(depth: u32, requests: u64, shards: u32, slices: u32, budget: u64) -> f64 {
    let one = (1.0 - f64::from(depth) / (f64::from(shards) * f64::from(slices))).powf(requests as f64);
    let prefixes: f64 = (0..depth.min(slices)).map(|used| f64::from(slices - used)).product();
    1.0 - (1.0 - one).powf((budget as f64).min(prefixes))
}

fn shares(table: &DepthTable) -> Vec<Vec<f64>> {
    let slices = table.slices as usize;
    let mut counts = vec![vec![0u64; slices + 1]; slices + 1];
    for (set, depth) in table.depths.iter().enumerate() {
        counts[slices - set.count_ones() as usize][*depth as usize] += 1;
    }
    counts
        .into_iter()
        .map(|row| {
            let all: u64 = row.iter().sum();
            row.into_iter().map(|count| count as f64 / all as f64).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SliceId;
    use crate::sequence::{Cyclic, SequenceRequest, SequenceStrategy};
    use crate::{Prior, ShardId};

    fn cyclic(slices: u32, budget: usize) -> Vec<Sequence> {
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &Prior::Uniform, seed: 0 };
        Cyclic {}.sequences(&request).unwrap()
    }

    /// All outcomes, one after the other: the law as exact numerators over `weights.sum() ^ requests`.
    fn brute_force(sequences: &[Sequence], weights: &[u64], requests: u32) -> Vec<u64> {
        let slices = weights.len() - 1;
        let mut law = vec![0; slices + 1];
        let mut outcome = vec![0usize; requests as usize];
        loop {
            let weight: u64 = outcome.iter().map(|slice| weights[*slice]).product();
            let best = sequences
                .iter()
                .map(|sequence| sequence.slices().iter().take_while(|slice| !outcome.contains(&slice.index())).count())
                .max();
            law[best.unwrap_or(0)] += weight;
            let Some(place) = outcome.iter().position(|slice| *slice < slices) else { return law };
            outcome[place] += 1;
            outcome[..place].fill(0);
        }
    }

    #[test]
    fn the_paper_s_formula_is_off_where_the_exact_law_is_not() {
        // One shard, k = 1, r = 3, L = B = 4: three requests cannot hit four first slices.
        assert!((retention_lemma_2(1, 3, 1, 4, 4) - 0.888).abs() < 5e-4);
        let law = DepthLaw::new(&cyclic(4, 4), &[0.25; 4]).unwrap();
        assert!((law.retention(1, 3) - 1.0).abs() < 1e-15);
        // For one sequence it is exact.
        let law = DepthLaw::new(&cyclic(4, 1), &[0.25; 4]).unwrap();
        for (depth, requests) in [(1, 1), (2, 3), (4, 2)] {
            assert!((law.retention(depth, requests) - retention_lemma_2(depth, requests, 1, 4, 1)).abs() < 1e-15);
        }
    }

    #[test]
    fn twenty_slices_are_exact_and_more_are_refused() {
        let law = DepthLaw::new(&cyclic(20, 20), &[0.05; 20]).unwrap();
        assert!((law.distribution(30).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let message = DepthLaw::new(&cyclic(21, 2), &[0.01; 21]).unwrap_err().to_string();
        assert!(message.contains("`simulate`"), "{message}");
    }

    #[test]
    fn many_requests_have_the_law_of_as_many_single_ones() {
        let one_by_one = occupancy(7, 3e-5, LOOPED_REQUESTS);
        let squared = occupancy_by_squaring(7, 3e-5, LOOPED_REQUESTS);
        assert!(one_by_one.iter().zip(&squared).all(|(one, other)| (one - other).abs() < 1e-11), "{squared:?}");
        let rare = occupancy(4, 1e-12, 1_000_000_000_000);
        assert!((rare[0] - (-4.0f64).exp()).abs() < 1e-4, "{rare:?}");
    }

    #[test]
    fn a_certain_slice_is_hit_by_the_first_request() {
        let law = DepthLaw::new(&cyclic(3, 3), &[1.0, 0.0, 0.0]).unwrap();
        assert_eq!(law.distribution(0), [0.0, 0.0, 0.0, 1.0]);
        // The sequence 1 2 0 keeps depth 2.
        assert_eq!(law.distribution(5), [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(law.expected_utility(&[0.1, 0.5, 0.7, 0.9], 5).unwrap(), 0.7);
        assert!(law.expected_utility(&[0.1], 5).is_err());
    }

    fn sequences() -> impl Strategy<Value = (Vec<Sequence>, Vec<u64>, u32)> {
        (1u32..6).prop_flat_map(|slices| {
            let order = Just((0..slices).map(SliceId).collect::<Vec<_>>()).prop_shuffle();
            let sequence = order.prop_map(move |order| Sequence::new(order, slices).unwrap());
            (
                proptest::collection::vec(sequence, 1..7),
                proptest::collection::vec(0u64..5, slices as usize + 1),
                0u32..7,
            )
        })
    }

    proptest! {
        #[test]
        fn depth_laws_are_those_of_all_outcomes((sequences, mut weights, requests) in sequences(), alike: bool) {
            // The last weight is for requests that hit no slice of the shard.
            if alike {
                let first = weights[0].max(1);
                let slices = weights.len() - 1;
                weights[..slices].fill(first);
            }
            let total: u64 = weights.iter().sum();
            prop_assume!(total > 0);
            let counted = brute_force(&sequences, &weights, requests);
            let hits: Vec<f64> = weights[..weights.len() - 1].iter().map(|weight| *weight as f64 / total as f64).collect();
            let found = DepthLaw::new(&sequences, &hits).unwrap().distribution(requests.into());
            for (found, count) in found.iter().zip(&counted) {
                let exact = *count as f64 / (total as f64).powi(requests as i32);
                prop_assert!((found - exact).abs() <= 1e-14, "{} {}", found, exact);
            }
        }
    }
}
