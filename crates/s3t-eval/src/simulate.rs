//! Request streams, simulated.
//!
//! # Proof note
//!
//! *Before*: a system, a stream, a seed. *After*: a result that is a function of these, whatever the number of threads.
//! *Why*: trial i draws from stream i of one `ChaCha8` generator and from nothing else, and trials are summed up in order.
//! A system's life depends on the first slices of its sequences only, so the loop that finds it keeps one bit for each.

use rand::distr::{Distribution, Uniform};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::weighted::WeightedAliasIndex;
use rayon::prelude::*;
use s3t_core::{PartitionShape, Prior, Sequence};
use serde::Serialize;
use statrs::statistics::{Data, Distribution as _, OrderStatistics};

use crate::{EvalError, Trace};

/// Where requests come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Stream {
    /// Every request hits a slice of all shards, each as likely as any other.
    Uniform,
    /// Every request hits a shard, each as likely as any other, and in it a slice with these probabilities. What is missing
    /// to 1 is the probability that it hits no slice.
    Prior(Vec<f64>),
    /// Every request hits each slice with its own probability, `[shard][slice]`, the same for every shard if there is one
    /// entry. What is missing to 1 is the probability that it hits no slice.
    Rates(Vec<Vec<f64>>),
    /// Somebody who knows the sequences hits their first slices, shard after shard.
    Adversarial,
    /// Requests come in bursts that stay in one slice, for example because what came in together leaves together. The
    /// number of requests of a burst is geometric with this mean.
    Bursty {
        /// The mean number of requests of a burst, at least 1.
        mean_burst: f64,
    },
    /// Every request is a subject with a geometric number of records. Together, they lie in one slice, as partitions by
    /// subject have it; scattered, each lies anywhere, as a partition by record would have it.
    Subjects {
        /// The mean number of records of a subject, at least 1.
        mean_records: f64,
        /// Whether records of a subject lie anywhere.
        scattered: bool,
    },
    /// Requests that were recorded.
    Trace(Trace),
}

impl Stream {
    /// Requests that follow a prior.
    pub fn of(prior: &Prior) -> Self {
        match prior {
            Prior::Uniform => Self::Uniform,
            Prior::PerSlice(values) => Self::Prior(values.clone()),
        }
    }
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// The sequences of each shard; one entry stands for all shards.
    pub sequences: Vec<Vec<Sequence>>,
    /// Where requests come from.
    pub stream: Stream,
    /// With the records of each slice, `[shard][slice]` (one entry stands for all shards), each request of a uniform stream
    /// deletes one of them for good; without, slices never run out.
    pub records: Option<Vec<Vec<u64>>>,
    /// Independent streams.
    pub trials: usize,
    /// The seed.
    pub seed: u64,
    /// Requests after which a trial is given up.
    pub max_requests: u64,
}

/// How a number varies over trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// The standard deviation.
    pub standard_deviation: f64,
    /// The 5th, 25th, 50th, 75th and 95th percentiles.
    pub quantiles: [f64; 5],
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// How many requests systems lasted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lifetimes {
    /// Requests until every shard was dead.
    pub all_dead: Summary,
    /// Requests until the first shard was dead.
    pub first_dead: Summary,
    /// Trials.
    pub trials: usize,
    /// Trials that ended before every shard was dead: they count with the requests that there were, so that the mean is
    /// too small.
    pub survived: usize,
}

/// The state of the system after some requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Requests.
    pub requests: u64,
    /// The best depth, averaged over shards and trials; a dead shard counts as 0.
    pub depth: f64,
    /// The standard error of it.
    pub standard_error: f64,
    /// The 5th and 95th percentile over trials of the average over shards.
    pub band: [f64; 2],
    /// The share of shards that are alive.
    pub alive: f64,
    /// The share of shards with each best depth `0..=L`, over all trials.
    pub depths: Vec<f64>,
}

impl Summary {
    /// Sums up values.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn of(values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "there is nothing to sum up");
        let trials = values.len() as f64;
        let mut data = Data::new(values);
        let mean = data.mean().unwrap_or(f64::NAN);
        let standard_deviation = if trials > 1.0 { data.std_dev().unwrap_or(0.0) } else { 0.0 };
        let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| data.quantile(share));
        let (min, max) = (data.order_statistic(1), data.order_statistic(trials as usize));
        Self { mean, standard_error: standard_deviation / trials.sqrt(), standard_deviation, quantiles, min, max }
    }
}

impl Simulation {
    /// Finds how many requests the system lasts.
    ///
    /// # Errors
    ///
    /// [`EvalError::InvalidField`] for a system or stream that cannot be simulated, naming the field.
    pub fn lifetimes(&self) -> Result<Lifetimes, EvalError> {
        let lives = self.lives()?;
        let survived = lives.iter().filter(|life| life.survived).count();
        Ok(Lifetimes {
            all_dead: Summary::of(lives.iter().map(|life| life.all as f64).collect()),
            first_dead: Summary::of(lives.iter().map(|life| life.first as f64).collect()),
            trials: lives.len(),
            survived,
        })
    }

    pub(crate) fn lives(&self) -> Result<Vec<Life>, EvalError> {
        #[allow(clippy::redundant_closure_for_method_calls, reason = "the method is for one lifetime, `run` needs all")]
        self.run(|simulation, source, rng| simulation.life(source, rng))
    }

    /// Follows the best depth of the shards at these numbers of requests, which rise.
    ///
    /// # Errors
    ///
    /// As [`lifetimes`](Self::lifetimes).
    pub fn curve(&self, at: &[u64]) -> Result<Vec<CurvePoint>, EvalError> {
        let depths = self.shape.slices as usize + 1;
        if at.len().saturating_mul(depths) > MOST_COUNTS {
            let problem = format!("are {} for {depths} depths; together at most {MOST_COUNTS}", at.len());
            return Err(EvalError::InvalidField { field: "requests".into(), problem });
        }
        if at.len().saturating_mul(self.trials) > MOST_COUNTS {
            let problem =
                format!("is {} over {} numbers of requests; together at most {MOST_COUNTS}", self.trials, at.len());
            return Err(EvalError::InvalidField { field: "trials".into(), problem });
        }
        // Of each trial only the mean depths are kept: all counts of all trials would be gigabytes.
        let sums = std::sync::Mutex::new(vec![vec![0u64; depths]; at.len()]);
        let positions = self.positions();
        let trials = self.run(|simulation, source, rng| {
            let counts = simulation.follow(source, rng, at, &positions);
            let mut sums = sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (sums, counts) in sums.iter_mut().zip(&counts) {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(*count));
            }
            let depth =
                |counts: &Vec<u32>| (0..).zip(counts).map(|(depth, count)| depth * u64::from(*count)).sum::<u64>();
            counts.iter().map(depth).collect::<Vec<u64>>()
        })?;
        let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shards = f64::from(self.shape.shards);
        let point = |(index, requests): (usize, &u64)| {
            let all = shards * trials.len() as f64;
            let depths: Vec<f64> = sums[index].iter().map(|count| *count as f64 / all).collect();
            let of_trial = |trial: &Vec<u64>| trial[index] as f64 / shards;
            let Summary { mean, standard_error, quantiles, .. } = Summary::of(trials.iter().map(of_trial).collect());
            CurvePoint {
                requests: *requests,
                depth: mean,
                standard_error,
                band: [quantiles[0], quantiles[4]],
                alive: 1.0 - depths[0],
                depths,
            }
        };
        Ok(at.iter().enumerate().map(point).collect())
    }

    /// Runs every trial, in parallel, and returns the results in order.
    fn run<R: Send>(
        &self,
        trial: impl Fn(&Prepared<'_>, &mut Source<'_>, &mut ChaCha8Rng) -> R + Sync,
    ) -> Result<Vec<R>, EvalError> {
        let prepared = Prepared::new(self)?;
        let source = Source::new(self)?;
        let generator = ChaCha8Rng::seed_from_u64(self.seed);
        let one = |source: &mut Source<'_>, index: usize| {
            let mut rng = generator.clone();
            rng.set_stream(index as u64);
            source.restart(&mut rng);
            trial(&prepared, source, &mut rng)
        };
        // A fixed stream has one course.
        let trials = if source.is_random() { self.trials } else { 1 };
        Ok((0..trials).into_par_iter().map_init(|| source.clone(), one).collect())
    }

    fn sequences_of(&self, shard: usize) -> &[Sequence] {
        if self.sequences.len() == 1 { &self.sequences[0] } else { &self.sequences[shard] }
    }

    /// The position of each slice in each sequence, `[shard or one for all][slice x sequences + sequence]`.
    fn positions(&self) -> Vec<Vec<u32>> {
        let of_shard = |sequences: &Vec<Sequence>| {
            let mut positions = vec![0; sequences.len() * self.shape.slices as usize];
            for (number, sequence) in sequences.iter().enumerate() {
                for (position, slice) in (0..).zip(sequence.slices()) {
                    if let Some(place) = positions.get_mut(slice.index() * sequences.len() + number) {
                        *place = position;
                    }
                }
            }
            positions
        };
        self.sequences.iter().map(of_shard).collect()
    }
}

/// How one trial went.
pub(crate) struct Life {
    /// Requests until every shard was dead, or until the stream ended.
    pub(crate) all: u64,
    /// Requests until the first shard was dead, or until the stream ended.
    first: u64,
    pub(crate) survived: bool,
}

/// What all trials start from.
struct Prepared<'a> {
    simulation: &'a Simulation,
    /// One bit for each slice of each shard: whether a sequence starts with it.
    heads: Vec<u64>,
    /// Distinct first slices of each shard.
    head_counts: Vec<u32>,
}

impl<'a> Prepared<'a> {
    fn new(simulation: &'a Simulation) -> Result<Self, EvalError> {
        let PartitionShape { shards, slices } = simulation.shape;
        let field = |field: &str, problem: String| Err(EvalError::InvalidField { field: field.into(), problem });
        let total = u64::from(shards) * u64::from(slices);
        if total == 0 || total > u64::from(u32::MAX) {
            return field("shards", format!("x slices is {total}; it takes 1 to {}", u32::MAX));
        }
        if simulation.sequences.len() != 1 && simulation.sequences.len() != shards as usize {
            let problem = format!("are given for {} shards, not for 1 or {shards}", simulation.sequences.len());
            return field("sequences", problem);
        }
        if let Some(wrong) = simulation.sequences.iter().flatten().find(|one| one.slices().len() != slices as usize) {
            return field("sequences", format!("hold `{wrong}`, which is not an order of {slices} slices"));
        }
        if !(1..=MOST_TRIALS).contains(&simulation.trials) {
            return field("trials", format!("is {}; it takes 1 to {MOST_TRIALS}", simulation.trials));
        }
        let mut heads = vec![0u64; (total as usize).div_ceil(64)];
        let mut head_counts = vec![0; shards as usize];
        for (shard, count) in head_counts.iter_mut().enumerate() {
            for sequence in simulation.sequences_of(shard) {
                let Some(first) = sequence.slices().first() else { continue };
                let slice = shard * slices as usize + first.index();
                let (word, bit) = (slice / 64, 1 << (slice % 64));
                *count += u32::from(heads[word] & bit == 0);
                heads[word] |= bit;
            }
            if *count == 0 {
                return field("sequences", format!("of shard {shard} are none; use at least 1"));
            }
        }
        Ok(Self { simulation, heads, head_counts })
    }

    /// One trial until every shard is dead.
    fn life(&self, source: &mut Source<'_>, rng: &mut ChaCha8Rng) -> Life {
        match source {
            Source::Uniform(uniform) => self.life_of(rng, |rng| Some((uniform.sample(rng), true))),
            other => self.life_of(rng, |rng| other.next(rng)),
        }
    }

    fn life_of(&self, rng: &mut ChaCha8Rng, mut next: impl FnMut(&mut ChaCha8Rng) -> Option<(u32, bool)>) -> Life {
        let mut untouched = self.heads.clone();
        let mut left = self.head_counts.clone();
        let (mut alive, mut requests, mut first) = (left.len(), 0u64, None);
        loop {
            let Some((slice, starts)) =
                next(rng).filter(|(_, starts)| requests < self.simulation.max_requests || !starts)
            else {
                return Life { all: requests, first: first.unwrap_or(requests), survived: true };
            };
            requests += u64::from(starts);
            let bit = 1u64 << (slice % 64);
            let Some(word) = untouched.get_mut(slice as usize / 64).filter(|word| **word & bit != 0) else { continue };
            *word &= !bit;
            let shard = (slice / self.simulation.shape.slices) as usize;
            left[shard] -= 1;
            if left[shard] == 0 {
                first.get_or_insert(requests);
                alive -= 1;
                if alive == 0 {
                    return Life { all: requests, first: first.unwrap_or(requests), survived: false };
                }
            }
        }
    }

    /// One trial: how many shards have each best depth, after each number of requests in `at`.
    fn follow(
        &self,
        source: &mut Source<'_>,
        rng: &mut ChaCha8Rng,
        at: &[u64],
        positions: &[Vec<u32>],
    ) -> Vec<Vec<u32>> {
        let PartitionShape { shards, slices } = self.simulation.shape;
        // Where the sequences of each shard stand, and how deep each still is: those of one shard that was hit.
        let mut prefixes: Vec<Vec<u32>> = vec![Vec::new(); shards as usize];
        let mut hit = vec![false; shards as usize * slices as usize];
        let mut best = vec![slices; shards as usize];
        let mut counts = vec![0u32; slices as usize + 1];
        counts[slices as usize] = shards;
        let (mut requests, mut found) = (0u64, Vec::with_capacity(at.len()));
        // When all shards are dead nothing changes any more.
        while found.len() < at.len() && counts[0] < shards {
            let Some((slice, starts)) = source.next(rng) else { break };
            if starts {
                // What follows belongs to the next request: note down what was reached.
                while found.len() < at.len() && at[found.len()] <= requests {
                    found.push(counts.clone());
                }
                requests += 1;
            }
            let Some(hit_before) = hit.get_mut(slice as usize) else { continue };
            if std::mem::replace(hit_before, true) {
                continue;
            }
            let shard = (slice / slices) as usize;
            // A sequence is as deep as the first of its slices that was hit.
            let of_shard = if positions.len() == 1 { &positions[0] } else { &positions[shard] };
            let count = of_shard.len() / slices as usize;
            let depths = &mut prefixes[shard];
            if depths.is_empty() {
                depths.resize(count, slices);
            }
            let places = &of_shard[(slice % slices) as usize * count..][..count];
            depths.iter_mut().zip(places).for_each(|(depth, place)| *depth = (*depth).min(*place));
            let depth = depths.iter().copied().max().unwrap_or(0);
            counts[best[shard] as usize] -= 1;
            counts[depth as usize] += 1;
            best[shard] = depth;
        }
        // All numbers below `requests` were noted down when that request started.
        found.resize(at.len(), counts);
        found
    }
}

/// The requests of one trial. A slice outside the system (`NONE`) stands for a request that hits nothing.
#[derive(Clone)]
enum Source<'a> {
    Uniform(Uniform<u32>),
    Finite { ends: Vec<u32>, deleted: Vec<u64>, left: u32 },
    Prior { shards: Uniform<u32>, slices: u32, index: WeightedAliasIndex<f64> },
    Fixed { order: std::borrow::Cow<'a, [u32]>, next: usize },
    Bursty { slices: Uniform<u32>, stop: f64, left: Option<u32> },
    Scattered { slices: Uniform<u32>, stop: f64, more: bool },
    Placed { slices: Uniform<u32>, ids: &'a [u32], places: Vec<u32>, next: usize },
}

const NONE: u32 = u32::MAX;

/// The most records that a finite stream deletes: each is a bit of memory for each thread.
const MOST_RECORDS: u64 = 1 << 29;

/// The most counts that a curve holds in memory.
const MOST_COUNTS: usize = 10_000_000;

/// The most trials: their results are held in memory.
const MOST_TRIALS: usize = 10_000_000;

/// Draws a slice with these probabilities, and one past the last for a request that hits none.
fn alias(probabilities: Vec<f64>, slices: u32) -> Result<WeightedAliasIndex<f64>, EvalError> {
    let prior = Prior::PerSlice(probabilities);
    prior.check(slices)?;
    let mut weights = prior.probabilities(slices);
    weights.push((1.0 - weights.iter().sum::<f64>()).max(0.0));
    WeightedAliasIndex::new(weights)
        .map_err(|error| EvalError::InvalidField { field: "prior".into(), problem: format!("is unusable: {error}") })
}

impl<'a> Source<'a> {
    fn new(simulation: &'a Simulation) -> Result<Self, EvalError> {
        let PartitionShape { shards, slices } = simulation.shape;
        let invalid = |field: &str, problem: String| EvalError::InvalidField { field: field.into(), problem };
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
                    let copies = if sizes.len() == 1 { shards } else { 1 };
                    let each = || (0..copies).flat_map(|_| sizes.iter().flatten().copied());
                    if each().count() != (shards * slices) as usize {
                        return Err(invalid("records", format!("are not given for {shards} x {slices} slices")));
                    }
                    let records = each().fold(0u64, u64::saturating_add);
                    if !(1..=MOST_RECORDS).contains(&records) {
                        return Err(invalid("records", format!("are {records}; it takes 1 to {MOST_RECORDS}")));
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
            Stream::Rates(rates) if rates.len() == 1 => {
                let probabilities = rates[0].iter().map(|rate| rate * f64::from(shards)).collect();
                Self::Prior { shards: upto(shards)?, slices, index: alias(probabilities, slices)? }
            }
            // One shard of all slices.
            Stream::Rates(rates) => {
                let flat = rates.iter().flatten().copied().collect();
                Self::Prior { shards: upto(1)?, slices: shards * slices, index: alias(flat, shards * slices)? }
            }
            Stream::Adversarial => {
                let heads = |shard: u32| {
                    let firsts: std::collections::BTreeSet<u32> = simulation
                        .sequences_of(shard as usize)
                        .iter()
                        .filter_map(|one| Some(shard * slices + one.slices().first()?.0))
                        .collect();
                    firsts
                };
                let mut of_shards: Vec<_> = (0..shards).map(heads).collect();
                // The shard that takes the fewest requests dies first.
                of_shards.sort_by_key(std::collections::BTreeSet::len);
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
                let place = |address: &s3t_core::SliceAddress| {
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

    fn is_random(&self) -> bool {
        !matches!(self, Self::Fixed { .. })
    }

    /// Starts a trial.
    fn restart(&mut self, rng: &mut ChaCha8Rng) {
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
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Option<(u32, bool)> {
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
                (if slice < *slices { shard * *slices + slice } else { NONE }, true)
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
