//! The exact objective, by dynamic programming over all sets of slices.

use s3t_core::budget::depth::DepthTable;
use s3t_core::{CoreError, Sequence, SliceId};

use super::objective::Objective;

/// The exact objective, over the law of the set of slices not hit.
pub(super) struct Exact {
    pub(super) slices: u32,
    /// `P[exactly these slices are untouched]`, by set.
    pub(super) law: Vec<f64>,
}

impl Objective for Exact {
    type State = DepthTable;

    fn state(&self, sequences: &[Sequence]) -> Result<DepthTable, CoreError> {
        DepthTable::new(sequences, self.slices)
    }

    fn value(&self, table: &DepthTable) -> f64 {
        self.law.iter().zip(table.depths()).map(|(chance, depth)| chance * f64::from(*depth)).sum()
    }

    fn best_addition(&self, table: &DepthTable) -> Vec<SliceId> {
        let slices = self.slices as usize;
        let sets = self.law.len();
        // W(S) = P[S is untouched and the best depth is below |S|], one size of S at a time.
        let mut gains = vec![0.0; sets];
        for size in 1..=slices {
            let below = |set: usize| if usize::from(table.depths()[set]) < size { self.law[set] } else { 0.0 };
            let mut sums: Vec<f64> = (0..sets).map(below).collect();
            for slice in 0..slices {
                for set in 0..sets {
                    if set >> slice & 1 == 0 {
                        sums[set] += sums[set | 1 << slice];
                    }
                }
            }
            for (set, gain) in gains.iter_mut().enumerate() {
                if set.count_ones() as usize == size {
                    *gain = sums[set];
                }
            }
        }
        // The heaviest path; `last[set]` is the slice that completes the set.
        let mut last = vec![0u8; sets];
        for set in 1..sets {
            let (mut best, mut slice) = (f64::NEG_INFINITY, 0);
            for candidate in (0..slices).filter(|candidate| set >> candidate & 1 == 1) {
                let path = gains[set ^ (1 << candidate)];
                if path > best {
                    (best, slice) = (path, candidate);
                }
            }
            last[set] = slice as u8;
            gains[set] += best;
        }
        let mut order = Vec::with_capacity(slices);
        let mut set = sets - 1;
        while set > 0 {
            order.push(SliceId(last[set].into()));
            set ^= 1 << last[set];
        }
        order.reverse();
        order
    }
}
