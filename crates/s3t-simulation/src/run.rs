//! Trials, in parallel and in order.
//!
//! # Proof note
//!
//! *Before*: a system, a stream, a seed. *After*: a result that is a function of these, whatever the number of threads.
//! *Why*: trial i draws from stream i of one `ChaCha8` generator and from nothing else, and trials are summed up in order.

use std::sync::{Mutex, PoisonError};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::SimulationError;
use crate::simulation::Simulation;
use crate::source::Source;
use crate::summary::{CurvePoint, Lifetimes, Summary};
use crate::trial::{Life, Prepared};

/// The largest number of counts that a curve holds in memory.
const MAX_COUNTS: usize = 10_000_000;

impl Simulation {
    /// Finds how many requests the system lasts.
    ///
    /// # Errors
    ///
    /// [`SimulationError::InvalidField`] for a system or stream that cannot be simulated, naming the field.
    pub fn lifetimes(&self) -> Result<Lifetimes, SimulationError> {
        let lives = self.lives()?;
        let survived = lives.iter().filter(|life| life.survived).count();
        Ok(Lifetimes {
            all_dead: Summary::of(lives.iter().map(|life| life.all as f64).collect()),
            first_dead: Summary::of(lives.iter().map(|life| life.first as f64).collect()),
            trials: lives.len(),
            survived,
        })
    }

    pub(crate) fn lives(&self) -> Result<Vec<Life>, SimulationError> {
        #[allow(clippy::redundant_closure_for_method_calls, reason = "the method is for one lifetime, `run` needs all")]
        self.run(|simulation, source, rng| simulation.life(source, rng))
    }

    /// Follows the best depth of the shards at these numbers of requests, which rise.
    ///
    /// # Errors
    ///
    /// As [`lifetimes`](Self::lifetimes).
    pub fn curve(&self, at: &[u64]) -> Result<Vec<CurvePoint>, SimulationError> {
        let depths = self.shape.slices as usize + 1;
        if at.len().saturating_mul(depths) > MAX_COUNTS {
            let problem = format!("are {} for {depths} depths; together at most {MAX_COUNTS}", at.len());
            return Err(SimulationError::field("requests", problem));
        }
        if at.len().saturating_mul(self.trials) > MAX_COUNTS {
            let problem =
                format!("is {} over {} numbers of requests; together at most {MAX_COUNTS}", self.trials, at.len());
            return Err(SimulationError::field("trials", problem));
        }
        // Of each trial only the mean depths are kept: all counts of all trials would be gigabytes.
        let sums = Mutex::new(vec![vec![0u64; depths]; at.len()]);
        let positions = self.positions();
        let trials = self.run(|simulation, source, rng| {
            let counts = simulation.follow(source, rng, at, &positions);
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            for (sums, counts) in sums.iter_mut().zip(&counts) {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(*count));
            }
            let depth =
                |counts: &Vec<u32>| (0..).zip(counts).map(|(depth, count)| depth * u64::from(*count)).sum::<u64>();
            counts.iter().map(depth).collect::<Vec<u64>>()
        })?;
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
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
    ) -> Result<Vec<R>, SimulationError> {
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
}
