//! Intervals hold the truth as often as they say, by simulation with fixed seeds.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_attack::area::auc;
use s3t_attack::epsilon::{Guesses, lower_bound};
use s3t_attack::interval::clopper_pearson;
use s3t_attack::power::Power;
use s3t_attack::roc::{Roc, Scores};
use statrs::distribution::{Binomial, ContinuousCDF, Discrete, Normal};

const NOMINAL: f64 = 0.95;

fn normals(rng: &mut ChaCha8Rng, count: usize, mean: f64) -> Vec<f64> {
    (0..count).map(|_| mean + rng.sample::<f64, _>(StandardNormal)).collect()
}

/// The share of trials in which something holds.
fn share(seed: u64, trials: usize, holds: impl Fn(&mut ChaCha8Rng) -> bool) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..trials).filter(|_| holds(&mut rng)).count() as f64 / trials as f64
}

#[track_caller]
fn within_one_percent(coverage: f64) {
    assert!((coverage - NOMINAL).abs() <= 0.01, "{coverage}");
}

#[test]
fn the_area_under_the_roc_is_covered() {
    for (seed, shift, members, non_members) in [(1, 0.5, 200, 200), (2, 1.5, 150, 400), (3, 0.0, 300, 100)] {
        let truth = Normal::standard().cdf(shift / 2.0_f64.sqrt());
        let coverage = share(seed, 8000, |rng| {
            let scores = Scores { members: normals(rng, members, shift), non_members: normals(rng, non_members, 0.0) };
            auc(&scores, NOMINAL).unwrap().interval.contains(truth)
        });
        within_one_percent(coverage);
    }
}

#[test]
fn the_binomial_interval_covers_at_least_as_stated_and_hardly_more() {
    // Exactly, by summing over all outcomes: never below, for any probability.
    for trials in [5_u64, 40, 150] {
        for step in 1..50 {
            let truth = f64::from(step) / 50.0;
            let outcomes = Binomial::new(truth, trials).unwrap();
            let covered = (0..=trials).filter(|k| clopper_pearson(*k, trials, NOMINAL).unwrap().contains(truth));
            let coverage: f64 = covered.map(|successes| outcomes.pmf(successes)).sum();
            assert!(coverage >= NOMINAL - 1e-9, "{trials} {truth} {coverage}");
        }
    }
    // By simulation, for samples as large as a report wants.
    for (seed, truth) in [(4, 0.05), (5, 0.3), (6, 0.5)] {
        let coverage = share(seed, 8000, |rng| {
            let successes = (0..3000).filter(|_| rng.random_bool(truth)).count();
            clopper_pearson(successes as u64, 3000, NOMINAL).unwrap().contains(truth)
        });
        within_one_percent(coverage);
    }
}

#[test]
fn the_true_positive_rate_is_covered_at_its_threshold() {
    let coverage = share(7, 4000, |rng| {
        let (members, non_members) = (normals(rng, 1500, 1.0), normals(rng, 1000, 0.0));
        let measured = Roc::new(&members, &non_members).unwrap().tpr_at_fpr(0.01, NOMINAL).unwrap();
        // Members are called by a score above the eleventh of the non-members.
        let mut sorted = non_members;
        sorted.sort_by(|one, other| other.total_cmp(one));
        let truth = 1.0 - Normal::standard().cdf(sorted[10] - 1.0);
        measured.interval.contains(truth)
    });
    within_one_percent(coverage);
}

#[test]
fn the_bound_on_epsilon_is_seldom_above_the_truth_and_close_for_randomised_response() {
    // Each coin is told with the probability that epsilon = 1 allows: the tightest case of the theorem.
    let probability = 1.0 / (1.0 + (-1.0_f64).exp());
    let coverage = share(8, 4000, |rng| {
        let right = (0..2000).filter(|_| rng.random_bool(probability)).count() as u64;
        lower_bound(Guesses { records: 2000, guesses: 2000, right }, 0.0, NOMINAL).unwrap().epsilon <= 1.0
    });
    within_one_percent(coverage);
}

#[test]
fn an_attack_without_power_is_seldom_called_powerful_and_a_strong_one_always() {
    let alarms = share(9, 3000, |rng| {
        let scores = Scores { members: normals(rng, 300, 0.0), non_members: normals(rng, 300, 0.0) };
        Power::measure(&scores, &[0.01], NOMINAL).unwrap().found
    });
    assert!(alarms <= 0.05, "{alarms}");
    let found = share(10, 300, |rng| {
        let scores = Scores { members: normals(rng, 300, 0.5), non_members: normals(rng, 300, 0.0) };
        Power::measure(&scores, &[0.01], NOMINAL).unwrap().found
    });
    assert!(found > 0.95, "{found}");
}

#[test]
fn the_power_by_resampling_is_near_the_share_of_samples_that_are_found() {
    let sample = |rng: &mut ChaCha8Rng, shift: f64| Scores {
        members: normals(rng, 150, shift),
        non_members: normals(rng, 150, 0.0),
    };
    for (seed, shift) in [(11, 0.3), (12, 0.45), (13, 1.0)] {
        let found = share(seed, 400, |rng| Power::measure(&sample(rng, shift), &[0.01], NOMINAL).unwrap().found);
        let mut rng = ChaCha8Rng::seed_from_u64(seed + 100);
        let estimates = (0..40).map(|of| Power::detection(&sample(&mut rng, shift), &[0.01], NOMINAL, 50, of).unwrap());
        let mean = estimates.sum::<f64>() / 40.0;
        // A resample varies about a sample that varies about the truth, so middling powers are drawn to the middle.
        assert!((found - mean).abs() < 0.15, "{shift}: {found} by samples, {mean} by resamples");
    }
}
