//! The number of deletion requests that a system lasts.
//!
//! A shard is dead when the first slice of each of its sequences was hit, so what counts are the distinct first slices of
//! a shard. Everything here is exact for the stated process. Sums over shards are taken over groups of
//! shards that are alike, so the cost grows with the number of different rates, not with the number of shards.
//!
//! # Proof note
//!
//! *Many records in each slice*: requests are independent, and a request hits slice c with probability `q_c`. Let requests
//! arrive as a Poisson process of rate 1: then slices are hit by independent processes of rates `q_c`, slice c is untouched
//! at time t with probability `exp(-q_c t)`, and by Wald's identity the expected number of requests until a stopping time
//! is the expected time. *Finite*: N records, deleted in random order. Give every record an independent uniform
//! arrival time; a record that comes R-th arrives in the mean at R / (N + 1), and the order is independent of the times,
//! so an expected rank is N + 1 times an expected time. Slice c is untouched at time u with probability `(1 - u)^(n_c)`,
//! which is `exp(-n_c s)` with `u = 1 - exp(-s)`. Both cases are therefore one integral over exp(-rate x time).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Sequence;

/// Rates below this are taken for 0: their reciprocals are beyond any time, and beyond numbers soon after.
const NEVER: f64 = 1e-250;

/// The n-th harmonic number, `1 + 1/2 + .. + 1/n`; 0 for n = 0. Relative error below 1e-14.
pub fn harmonic(n: u64) -> f64 {
    if n == 0 { 0.0 } else { statrs::function::harmonic::harmonic(n) }
}

/// The expected number of deletion requests until every shard is dead, `m L H_(m B')` with `B' = min(B, L)` distinct
/// first slices in each shard (S3T, section 4).
///
/// Holds for requests that are uniform over slices, independent, and many records in each slice. SISA is B = 1.
pub fn deletion_rate(shards: u64, slices: u64, budget: u64) -> f64 {
    shards as f64 * slices as f64 * harmonic(shards.saturating_mul(budget.min(slices)))
}

/// Shards that are alike, with the rates of their distinct first slices.
///
/// A rate is the probability that a request hits the first slice, or, with [`Requests::Finite`], the number of records in it.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstSlices {
    /// The number of these shards.
    pub shards: u64,
    /// The rate of each distinct first slice of one such shard.
    pub rates: Vec<f64>,
}

impl FirstSlices {
    /// The first slices of `shards` shards that all have these sequences; `rates[s]` is the rate of slice s of one shard.
    ///
    /// # Panics
    ///
    /// If a sequence holds a slice that has no rate.
    pub fn of(shards: u64, sequences: &[Sequence], rates: &[f64]) -> Self {
        let firsts: BTreeSet<usize> =
            sequences.iter().filter_map(|sequence| Some(sequence.slices().first()?.index())).collect();
        Self { shards, rates: firsts.into_iter().map(|first| rates[first]).collect() }
    }
}

/// The process that requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// Independent; a first slice's rate is the probability that a request hits it. Slices never run out of records.
    Independent,
    /// This many records are deleted one after the other in random order; a first slice's rate is its number of records.
    Finite(u64),
}

/// The number of requests that a system lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lifetime {
    /// Expected requests until every shard is dead (infinite if a first slice can never be hit).
    #[serde(deserialize_with = "crate::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub all_dead: f64,
    /// Expected requests until the first shard is dead.
    #[serde(deserialize_with = "crate::budget::null_is_infinite")]
    #[schemars(with = "Option<f64>")]
    pub first_dead: f64,
    /// Requests with which somebody who picks slices kills every shard.
    pub adversary_all: u64,
    /// Requests with which somebody who picks slices kills one shard.
    pub adversary_first: u64,
}

impl Lifetime {
    /// The lifetime of a system.
    pub fn of(system: &[FirstSlices], requests: Requests) -> Self {
        Self {
            all_dead: expected_requests_until_all_dead(system, requests),
            first_dead: expected_requests_until_first_dead(system, requests),
            adversary_all: system.iter().map(|group| group.shards * group.rates.len() as u64).sum(),
            adversary_first: system
                .iter()
                .filter(|group| group.shards > 0)
                .map(|group| group.rates.len() as u64)
                .min()
                .unwrap_or(0),
        }
    }
}

/// The expected number of requests until every shard is dead: the integral over t of `1 - prod_c (1 - exp(-q_c t))`
/// (S3T, section 4, for any rates). Infinite if a first slice can never be hit; 0 without first slices.
///
/// Relative error below 1e-11.
pub fn expected_requests_until_all_dead(system: &[FirstSlices], requests: Requests) -> f64 {
    let mut rates: BTreeMap<u64, f64> = BTreeMap::new();
    for group in system {
        for rate in &group.rates {
            // Positive floats are ordered like their bits.
            *rates.entry(rate.to_bits()).or_default() += group.shards as f64;
        }
    }
    let rates: Vec<(f64, f64)> = rates.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect();
    let never = rates.iter().any(|(rate, count)| *rate < NEVER && *count > 0.0);
    if never {
        return f64::INFINITY;
    }
    expected_time(&rates, requests, |time| {
        let mut log_all_hit = 0.0;
        for (rate, count) in &rates {
            log_all_hit += count * log_hit(*rate, time);
            if log_all_hit < -50.0 {
                return 1.0;
            }
        }
        -f64::exp_m1(log_all_hit)
    })
}

/// The expected number of requests until some shard is dead: the integral over t of
/// `prod_d (1 - prod_(c in d) (1 - exp(-q_c t)))`. Infinite if no shard can die; 0 if one has no first slices.
///
/// Relative error below 1e-11.
pub fn expected_requests_until_first_dead(system: &[FirstSlices], requests: Requests) -> f64 {
    let mut groups: BTreeMap<Vec<u64>, f64> = BTreeMap::new();
    for group in system.iter().filter(|group| group.shards > 0) {
        let mut bits: Vec<u64> = group.rates.iter().map(|rate| rate.to_bits()).collect();
        bits.sort_unstable();
        if group.rates.iter().all(|rate| *rate >= NEVER) {
            *groups.entry(bits).or_default() += group.shards as f64;
        }
    }
    if groups.is_empty() {
        return if system.iter().all(|group| group.shards == 0) { 0.0 } else { f64::INFINITY };
    }
    if groups.keys().any(Vec::is_empty) {
        return 0.0;
    }
    let groups: Vec<(Vec<f64>, f64)> =
        groups.into_iter().map(|(bits, count)| (bits.into_iter().map(f64::from_bits).collect(), count)).collect();
    let rates: Vec<(f64, f64)> =
        groups.iter().flat_map(|(rates, count)| rates.iter().map(|rate| (*rate, *count))).collect();
    expected_time(&rates, requests, |time| {
        let mut log_all_alive = 0.0;
        for (rates, count) in &groups {
            let log_dead: f64 = rates.iter().map(|rate| log_hit(*rate, time)).sum();
            log_all_alive += count * log_complement(log_dead);
            if log_all_alive < -50.0 {
                return 0.0;
            }
        }
        log_all_alive.exp()
    })
}

/// The probability that every one of `firsts` equally likely first slices was hit after each number of requests
/// `0..=requests`, where a request hits each with probability `rate`. Exact, and a sum of positive terms.
///
/// The chain of the number of first slices hit: from j it goes to j + 1 with probability `(firsts - j) rate`.
pub fn probability_all_dead(firsts: u64, rate: f64, requests: u64) -> Vec<f64> {
    let firsts = firsts as usize;
    let mut hit = vec![0.0; firsts + 1];
    hit[0] = 1.0;
    let mut all = vec![hit[firsts]];
    for _ in 0..requests {
        for j in (0..=firsts).rev() {
            let stay = 1.0 - (firsts - j) as f64 * rate;
            let enter = if j > 0 { hit[j - 1] * (firsts - j + 1) as f64 * rate } else { 0.0 };
            hit[j] = hit[j] * stay + enter;
        }
        all.push(hit[firsts]);
    }
    all
}

/// `ln(1 - exp(-rate x time))`.
fn log_hit(rate: f64, time: f64) -> f64 {
    log_complement(-rate * time)
}

/// `ln(1 - exp(x))` for x <= 0, with full precision at both ends.
fn log_complement(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-f64::exp_m1(x)).ln() } else { (-x.exp()).ln_1p() }
}

fn expected_time(rates: &[(f64, f64)], requests: Requests, survives: impl Fn(f64) -> f64) -> f64 {
    let Some(slowest) = rates.iter().map(|(rate, _)| *rate).reduce(f64::min) else { return 0.0 };
    let total: f64 = rates.iter().map(|(rate, count)| rate * count).sum();
    match requests {
        Requests::Independent => integral(1e-17 / total, slowest, rates, &survives),
        Requests::Finite(records) => {
            let weighted = |time: f64| survives(time) * (-time).exp();
            // The weight ends the integral at time 40 however slow the first slices are.
            (records as f64 + 1.0) * integral(1e-17 / total.max(1.0), slowest.max(1.0), rates, &weighted)
        }
    }
}

/// The integral over `t > 0` of a function that is 1 before `start` and falls like `exp(-slowest t)` at the end.
///
/// The trapezoid rule in `ln t`: the integrand is analytic there and falls at both ends faster than any power, so the
/// error falls exponentially with the number of nodes. The step is halved until nothing moves.
fn integral(start: f64, slowest: f64, rates: &[(f64, f64)], function: &impl Fn(f64) -> f64) -> f64 {
    let firsts: f64 = rates.iter().map(|(_, count)| count).sum();
    let (low, high) = (start.ln(), ((firsts.max(1.0).ln() + 45.0) / slowest).ln());
    let at = |y: f64| {
        let time = y.exp();
        function(time) * time
    };
    let mut step = 0.25;
    let nodes = |step: f64| ((high - low) / step).ceil() as u64;
    let mut sum: f64 = (0..=nodes(step)).map(|node| at(low + node as f64 * step)).sum();
    let mut value = sum * step;
    loop {
        sum += (0..nodes(step)).map(|node| at(low + (node as f64 + 0.5) * step)).sum::<f64>();
        step /= 2.0;
        let finer = sum * step;
        if (finer - value).abs() <= 1e-13 * finer.abs() || step < 1e-3 {
            return finer + start;
        }
        value = finer;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uniform(shards: u64, firsts: usize, rate: f64) -> Vec<FirstSlices> {
        vec![FirstSlices { shards, rates: vec![rate; firsts] }]
    }

    fn close(one: f64, other: f64, tolerance: f64) -> bool {
        (one - other).abs() <= tolerance * other.abs().max(1.0)
    }

    #[test]
    fn harmonic_numbers_are_the_sums() {
        assert_eq!(harmonic(0), 0.0);
        let mut sum = 0.0;
        for n in 1..=100_000u64 {
            sum += 1.0 / n as f64;
            assert!((harmonic(n) - sum).abs() < 1e-12, "{n}: {} {sum}", harmonic(n));
        }
    }

    #[test]
    fn deletion_rates_match_the_reference_points() {
        // Formula values for m = 5, L = 6, B = 1..6.
        for (budget, expected) in (1..).zip([68.5, 87.9, 99.5, 107.9, 114.5, 119.8]) {
            assert!((deletion_rate(5, 6, budget) - expected).abs() < 0.06, "B = {budget}");
        }
        // More sequences than slices add no first slices.
        assert_eq!(deletion_rate(5, 6, 7), deletion_rate(5, 6, 6));
        let gain = deletion_rate(5, 32, 8) / deletion_rate(5, 32, 1);
        assert!((gain - 1.87).abs() < 0.005, "{gain}");
    }

    #[test]
    fn the_integral_equals_the_closed_form_from_one_first_slice_to_640_000() {
        for (shards, slices, budget) in [(1, 1, 1), (5, 6, 3), (5, 32, 8), (10_000, 64, 64), (1_000_000, 64, 64)] {
            let rate = 1.0 / (shards * slices) as f64;
            let found = expected_requests_until_all_dead(&uniform(shards, budget, rate), Requests::Independent);
            assert!(close(found, deletion_rate(shards, slices, budget as u64), 1e-11), "{found}");
        }
    }

    #[test]
    fn one_first_slice_in_each_shard_dies_first_after_the_mean_of_the_minimum() {
        // With one first slice a shard, the first death is the first request that hits any first slice.
        let found = expected_requests_until_first_dead(&uniform(5, 1, 0.04), Requests::Independent);
        assert!(close(found, 5.0, 1e-11), "{found}");
        // With one shard, first and last are one.
        let one = [FirstSlices { shards: 1, rates: vec![0.1, 0.2, 0.3] }];
        let (first, all) = (
            expected_requests_until_first_dead(&one, Requests::Independent),
            expected_requests_until_all_dead(&one, Requests::Independent),
        );
        assert!(close(first, all, 1e-11), "{first} {all}");
    }

    #[test]
    fn finite_systems_match_the_beta_function() {
        // K first slices of n records among N: (N + 1) (1 - prod_(j = 1..K) jn / (jn + 1)).
        for (firsts, records, n) in [(1u64, 1u64, 1u64), (3, 30, 10), (12, 600, 25), (40, 1_000_000, 1000)] {
            let expected = (records as f64 + 1.0)
                * (1.0 - (1..=firsts).map(|j| (j * n) as f64 / ((j * n) as f64 + 1.0)).product::<f64>());
            let found = expected_requests_until_all_dead(&uniform(firsts, 1, n as f64), Requests::Finite(records));
            assert!(close(found, expected, 1e-10), "{firsts} {records} {n}: {found} {expected}");
        }
        // A large finite system is the independent one.
        let finite = expected_requests_until_all_dead(&uniform(5, 3, 1e9), Requests::Finite(30_000_000_000));
        assert!(close(finite, deletion_rate(5, 6, 3), 1e-7), "{finite}");
    }

    #[test]
    fn first_slices_that_cannot_be_hit_never_die() {
        let system = [FirstSlices { shards: 1, rates: vec![0.5, 0.0] }, FirstSlices { shards: 2, rates: vec![0.1] }];
        let lifetime = Lifetime::of(&system, Requests::Independent);
        assert_eq!(lifetime.all_dead, f64::INFINITY);
        assert!(close(lifetime.first_dead, 5.0, 1e-11));
        assert_eq!((lifetime.adversary_all, lifetime.adversary_first), (4, 1));
        let immortal = [FirstSlices { shards: 1, rates: vec![1e-310] }];
        assert_eq!(expected_requests_until_first_dead(&immortal, Requests::Independent), f64::INFINITY);
        assert_eq!(expected_requests_until_all_dead(&[], Requests::Independent), 0.0);
    }

    /// `E max` by inclusion and exclusion over the sets of first slices.
    fn by_inclusion_and_exclusion(rates: &[f64]) -> f64 {
        (1u32..1 << rates.len())
            .map(|set| {
                let sum: f64 = (0..rates.len()).filter(|first| set >> first & 1 == 1).map(|first| rates[first]).sum();
                let sign = if set.count_ones() % 2 == 1 { 1.0 } else { -1.0 };
                sign / sum
            })
            .sum()
    }

    proptest! {
        #[test]
        fn any_rates_agree_with_inclusion_and_exclusion(rates in proptest::collection::vec(1e-4f64..1.0, 1..9)) {
            let total: f64 = rates.iter().sum();
            let rates: Vec<f64> = rates.iter().map(|rate| rate / total).collect();
            let system = [FirstSlices { shards: 1, rates: rates.clone() }];
            let found = expected_requests_until_all_dead(&system, Requests::Independent);
            let expected = by_inclusion_and_exclusion(&rates);
            prop_assert!(close(found, expected, 1e-9), "{} {}", found, expected);
        }

        #[test]
        fn the_law_of_the_lifetime_has_the_expected_mean(shards in 1u64..4, slices in 1u64..5, budget in 1u64..5) {
            let budget = budget.min(slices);
            let rate = 1.0 / (shards * slices) as f64;
            let law = probability_all_dead(shards * budget, rate, 2000);
            let mean: f64 = law.iter().map(|dead| 1.0 - dead).sum();
            prop_assert!(close(mean, deletion_rate(shards, slices, budget), 1e-9), "{}", mean);
        }
    }
}
