//! The draws of a stream.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rand::RngExt;
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use rand_distr::weighted::WeightedAliasIndex;
use s3t_core::{PartitionShape, Prior, SliceAddress};

use crate::simulation::Simulation;
use crate::{SimulationError, Stream, Trace};

/// The requests of one trial. A slice outside the system (`OUTSIDE`) stands for a request that hits nothing.
#[derive(Clone)]
pub(crate) enum Source<'a> {
    Uniform(Uniform<u32>),
    Finite { ends: Vec<u32>, deleted: Vec<u64>, left: u32 },
    Prior { shards: Uniform<u32>, slices: u32, index: WeightedAliasIndex<f64> },
    Fixed { order: Cow<'a, [u32]>, next: usize },
    Bursty { slices: Uniform<u32>, stop: f64, left: Option<u32> },
    Scattered { slices: Uniform<u32>, stop: f64, more: bool },
    Placed { slices: Uniform<u32>, ids: &'a [u32], places: Vec<u32>, next: usize },
}

const OUTSIDE: u32 = u32::MAX;

/// The largest number of records that a finite stream deletes: each is a bit of memory for each thread.
const MAX_RECORDS: u64 = 1 << 29;

/// Draws a slice with these probabilities, and one past the last for a request that hits none.
fn alias(probabilities: Vec<f64>, slices: u32) -> Result<WeightedAliasIndex<f64>, SimulationError> {
    let prior = Prior::PerSlice(probabilities);
    prior.check(slices)?;
    let mut weights = prior.probabilities(slices);
    weights.push((1.0 - weights.iter().sum::<f64>()).max(0.0));
    WeightedAliasIndex::new(weights).map_err(|error| SimulationError::field("prior", format!("is unusable: {error}")))
}

impl<'a> Source<'a> {
    pub(crate) fn new(simulation: &'a Simulation) -> Result<Self, SimulationError> {
        let PartitionShape { shards, slices } = simulation.shape;
        let invalid = |field: &str, problem: String| SimulationError::field(field, problem);
        let upto = |count: u32| Uniform::new(0, count).map_err(|error| invalid("shards", error.to_string()));
        let all = upto(shards * slices)?;
        // P[a burst or subject ends with a record] = 1 / mean.
        let stop = |field: &str, mean: f64| {
            if mean.is_finite() && mean >= 1.0 {
                Ok(1.0 / mean)
            } else {
                Err(invalid(field, format!("is {mean}; it takes 1 or more")))
            }
        };
        if simulation.records.is_some() && !matches!(simulation.stream, Stream::Uniform) {
            return Err(invalid("records", "run out in a uniform stream only".into()));
        }
        Ok(match &simulation.stream {
            Stream::Uniform => match &simulation.records {
                None => Self::Uniform(all),
                Some(sizes) => {
                    let copies = if sizes.is_alike() { shards } else { 1 };
                    let each = || (0..copies).flat_map(|_| sizes.entries().iter().flatten().copied());
                    if each().count() != (shards * slices) as usize {
                        return Err(invalid("records", format!("are not given for {shards} x {slices} slices")));
                    }
                    let records = each().fold(0u64, u64::saturating_add);
                    if !(1..=MAX_RECORDS).contains(&records) {
                        return Err(invalid("records", format!("are {records}; it takes 1 to {MAX_RECORDS}")));
                    }
                    let mut end = 0;
                    let ends = each().map(|size| {
                        end += size as u32;
                        end
                    });
                    let ends = ends.collect();
                    Self::Finite { ends, deleted: vec![0; (records as usize).div_ceil(64)], left: 0 }
                }
            },
            Stream::Prior(values) => {
                Self::Prior { shards: upto(shards)?, slices, index: alias(values.clone(), slices)? }
            }
            Stream::Rates(rates) if rates.is_alike() => {
                let probabilities = rates.first().iter().map(|rate| rate * f64::from(shards)).collect();
                Self::Prior { shards: upto(shards)?, slices, index: alias(probabilities, slices)? }
            }
            // One shard of all slices.
            Stream::Rates(rates) => {
                let flat = rates.entries().iter().flatten().copied().collect();
                Self::Prior { shards: upto(1)?, slices: shards * slices, index: alias(flat, shards * slices)? }
            }
            Stream::Adversarial => {
                let first_slices = |shard: u32| {
                    let firsts: BTreeSet<u32> = simulation
                        .sequences
                        .get(shard as usize)
                        .iter()
                        .filter_map(|one| Some(shard * slices + one.slices().first()?.0))
                        .collect();
                    firsts
                };
                let mut of_shards: Vec<_> = (0..shards).map(first_slices).collect();
                // The shard that takes the fewest requests dies first.
                of_shards.sort_by_key(BTreeSet::len);
                Self::Fixed { order: of_shards.into_iter().flatten().collect(), next: 0 }
            }
            Stream::Bursty { mean_burst } => {
                Self::Bursty { slices: all, stop: stop("mean_burst", *mean_burst)?, left: None }
            }
            Stream::Subjects { mean_records, scattered } => {
                let stop = stop("mean_records", *mean_records)?;
                // Records in one slice are one hit, however many they are.
                if *scattered { Self::Scattered { slices: all, stop, more: false } } else { Self::Uniform(all) }
            }
            Stream::Trace(Trace::Addresses(addresses)) => {
                let place = |address: &SliceAddress| {
                    let inside = address.shard.0 < shards && address.slice.0 < slices;
                    inside.then(|| address.shard.0 * slices + address.slice.0).ok_or_else(|| {
                        invalid("trace", format!("names {address}, outside {shards} shards of {slices} slices"))
                    })
                };
                Self::Fixed { order: addresses.iter().map(place).collect::<Result<_, _>>()?, next: 0 }
            }
            Stream::Trace(Trace::Ids(ids)) => {
                let count = ids.iter().max().map_or(0, |last| *last as usize + 1);
                Self::Placed { slices: all, ids, places: vec![0; count], next: 0 }
            }
        })
    }

    pub(crate) fn is_random(&self) -> bool {
        !matches!(self, Self::Fixed { .. })
    }

    /// Starts a trial.
    pub(crate) fn restart(&mut self, rng: &mut ChaCha8Rng) {
        match self {
            Self::Uniform(_) | Self::Prior { .. } => {}
            Self::Finite { ends, deleted, left } => {
                deleted.fill(0);
                *left = ends.last().copied().unwrap_or(0);
            }
            Self::Fixed { next, .. } => *next = 0,
            Self::Bursty { left, .. } => *left = None,
            Self::Scattered { more, .. } => *more = false,
            // A partition by keyed hash places every id anywhere, and equal ids alike.
            Self::Placed { slices, places, next, .. } => {
                *next = 0;
                places.fill_with(|| slices.sample(rng));
            }
        }
    }

    /// The next slice that is hit, and whether a request starts with it; `None` at the end of the stream.
    pub(crate) fn next(&mut self, rng: &mut ChaCha8Rng) -> Option<(u32, bool)> {
        Some(match self {
            Self::Uniform(uniform) => (uniform.sample(rng), true),
            Self::Finite { ends, deleted, left } => {
                *left = left.checked_sub(1)?;
                let records = ends.last().copied()?;
                loop {
                    let record = rng.random_range(0..records);
                    let (word, bit) = (record as usize / 64, 1u64 << (record % 64));
                    if deleted[word] & bit == 0 {
                        deleted[word] |= bit;
                        break (ends.partition_point(|end| *end <= record) as u32, true);
                    }
                }
            }
            Self::Prior { shards, slices, index } => {
                let (shard, slice) = (shards.sample(rng), index.sample(rng) as u32);
                (if slice < *slices { shard * *slices + slice } else { OUTSIDE }, true)
            }
            Self::Fixed { order, next } => {
                let slice = *order.get(*next)?;
                *next += 1;
                (slice, true)
            }
            Self::Bursty { slices, stop, left } => {
                let slice = left.take().unwrap_or_else(|| slices.sample(rng));
                if rng.random::<f64>() >= *stop {
                    *left = Some(slice);
                }
                (slice, true)
            }
            Self::Scattered { slices, stop, more } => {
                let starts = !*more;
                *more = rng.random::<f64>() >= *stop;
                (slices.sample(rng), starts)
            }
            Self::Placed { ids, places, next, .. } => {
                let id = *ids.get(*next)?;
                *next += 1;
                (places[id as usize], true)
            }
        })
    }
}
