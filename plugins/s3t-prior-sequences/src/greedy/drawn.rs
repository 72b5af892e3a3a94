//! The objective beyond the slices for which it can be exact: drawn scenarios, and a beam search for the best addition.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::digest::DigestBuilder;
use s3t_core::{CoreError, Sequence, SequenceRequest, SliceId};

use super::Greedy;
use super::objective::Objective;

/// The objective on drawn scenarios, each a set of slices that were hit. Bit i of a word array stands for scenario i.
pub(super) struct Drawn {
    slices: usize,
    scenarios: usize,
    beam: usize,
    /// `[slice]`: the scenarios that leave it untouched.
    untouched: Vec<Vec<u64>>,
}

impl Drawn {
    pub(super) fn new(probabilities: &[f64], requests: u64, settings: &Greedy, request: &SequenceRequest<'_>) -> Self {
        let seed =
            DigestBuilder::new("greedy scenarios").number(request.seed).number(u64::from(request.shard.0)).finish();
        let mut rng = ChaCha8Rng::from_seed(*seed.as_bytes());
        let words = settings.scenarios.div_ceil(64);
        let full = |word: usize| match settings.scenarios - word * 64 {
            left @ 0..64 => (1u64 << left) - 1,
            _ => u64::MAX,
        };
        let mut untouched = vec![(0..words).map(full).collect::<Vec<u64>>(); probabilities.len()];
        for scenario in 0..settings.scenarios {
            for _ in 0..requests {
                let mut point: f64 = rng.random();
                let hit = probabilities.iter().position(|probability| {
                    point -= probability;
                    point < 0.0
                });
                if let Some(slice) = hit {
                    untouched[slice][scenario / 64] &= !(1 << (scenario % 64));
                }
            }
        }
        Self { slices: probabilities.len(), scenarios: settings.scenarios, beam: settings.beam, untouched }
    }

    fn all(&self) -> Vec<u64> {
        let words = self.scenarios.div_ceil(64);
        let mut all = vec![u64::MAX; words];
        if !self.scenarios.is_multiple_of(64) {
            all[words - 1] = (1 << (self.scenarios % 64)) - 1;
        }
        all
    }
}

struct Prefix {
    order: Vec<SliceId>,
    alive: Vec<u64>,
    gain: u64,
}

impl Objective for Drawn {
    /// `[k - 1]`: the scenarios in which the best depth is below k.
    type State = Vec<Vec<u64>>;

    fn state(&self, sequences: &[Sequence]) -> Result<Self::State, CoreError> {
        let mut below = vec![self.all(); self.slices];
        for sequence in sequences {
            let mut alive = self.all();
            for (below, slice) in below.iter_mut().zip(sequence.slices()) {
                alive.iter_mut().zip(&self.untouched[slice.index()]).for_each(|(alive, slice)| *alive &= slice);
                below.iter_mut().zip(&alive).for_each(|(below, alive)| *below &= !alive);
            }
        }
        Ok(below)
    }

    fn value(&self, below: &Self::State) -> f64 {
        let short: u64 = below.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        (self.slices * self.scenarios) as f64 - short as f64
    }

    fn best_addition(&self, below: &Self::State) -> Vec<SliceId> {
        let mut beam = vec![Prefix { order: Vec::new(), alive: self.all(), gain: 0 }];
        for below in below {
            // Gain, scenarios alive, parent, slice.
            let mut candidates: Vec<(u64, u64, usize, usize)> = Vec::new();
            for (parent, prefix) in beam.iter().enumerate() {
                for slice in (0..self.slices).filter(|slice| !prefix.order.contains(&SliceId(*slice as u32))) {
                    let (mut gain, mut alive) = (prefix.gain, 0);
                    for ((word, untouched), below) in prefix.alive.iter().zip(&self.untouched[slice]).zip(below) {
                        alive += u64::from((word & untouched).count_ones());
                        gain += u64::from((word & untouched & below).count_ones());
                    }
                    candidates.push((gain, alive, parent, slice));
                }
            }
            candidates
                .sort_by_key(|(gain, alive, parent, slice)| (std::cmp::Reverse((*gain, *alive)), *parent, *slice));
            let extend = |(gain, _, parent, slice): (u64, u64, usize, usize)| {
                let mut order = beam[parent].order.clone();
                order.push(SliceId(slice as u32));
                let alive = beam[parent].alive.iter().zip(&self.untouched[slice]).map(|(word, slice)| word & slice);
                Prefix { order, alive: alive.collect(), gain }
            };
            beam = candidates.into_iter().take(self.beam).map(extend).collect();
        }
        beam.swap_remove(0).order
    }
}
