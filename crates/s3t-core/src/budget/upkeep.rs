//! The cost of a stream of deletion requests over time, with the training that it makes necessary.
//!
//! Costs are in whatever unit one build is given in: seconds, FLOPs, block passes.

/// The expected number of complete retrainings after each number of requests `0..=n`, if the system is trained again
/// whenever every shard is dead: the renewal function of the law of its lifetime.
///
/// `all_dead[r]` is `P[every shard is dead after r requests]`, as
/// [`probability_all_dead`](crate::budget::lifetime::probability_all_dead) gives it. Takes `n^2` steps.
///
/// # Proof note
///
/// *Before*: lifetimes of successive builds are independent with the same law, which holds because requests are
/// independent and a build starts from untouched slices. *After*: `M(r) = F(r) + sum_k f(k) M(r - k)` with
/// `f(k) = F(k) - F(k-1)`, by conditioning on the first death at request k. No approximation.
pub fn expected_retrainings(all_dead: &[f64]) -> Vec<f64> {
    let mut retrainings: Vec<f64> = Vec::with_capacity(all_dead.len());
    for (requests, dead) in all_dead.iter().enumerate() {
        let after_the_first = |first: usize| {
            let chance = all_dead[first] - all_dead[first - 1];
            chance * retrainings[requests - first]
        };
        let later: f64 = (1..=requests).map(after_the_first).sum();
        retrainings.push(dead + later);
    }
    retrainings
}

/// The expected cost of one repair after `requests` requests since everything was whole.
///
/// `stages` gives, for each stage, the probability that a request hits one of its slices, and the cost of training it.
///
/// # Proof note
///
/// *After* the repair everything is whole again, so repairs are alike. *Why*: a stage must be trained again exactly if one
/// of its slices was hit, which has probability `1 - (1 - p)^requests`; expectations add up whatever depends on what.
/// The records that deletions take away are few among many and not counted.
pub fn repair_cost(stages: impl IntoIterator<Item = (f64, f64)>, requests: u64) -> f64 {
    stages.into_iter().map(|(hit, cost)| cost * -f64::exp_m1(requests as f64 * (-hit.min(1.0)).ln_1p())).sum()
}

/// The cost of a first build and of the stream, after each number of requests `0..=n`, where one repair follows after
/// every `every` requests. `every` = 1 with one sequence is SISA with retraining at once.
///
/// # Panics
///
/// If `every` is 0.
pub fn cost_with_repairs(build: f64, repair: f64, every: u64, requests: u64) -> Vec<f64> {
    assert!(every > 0, "a repair follows after 1 request or more");
    (0..=requests).map(|done| build + repair * (done / every) as f64).collect()
}

/// The cost of a first build and of the stream, after each number of requests `0..=n`, where everything is built again
/// whenever every shard is dead; `all_dead` as in [`expected_retrainings`].
pub fn cost_with_retraining(build: f64, all_dead: &[f64]) -> Vec<f64> {
    expected_retrainings(all_dead).into_iter().map(|retrainings| build * (1.0 + retrainings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::lifetime::{deletion_rate, probability_all_dead};

    #[test]
    fn one_slice_dies_with_every_request() {
        let retrainings = expected_retrainings(&probability_all_dead(1, 1.0, 5));
        assert_eq!(retrainings, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(cost_with_retraining(2.0, &[0.0, 1.0, 1.0]), [2.0, 4.0, 6.0]);
    }

    #[test]
    fn two_heads_by_hand() {
        // Two slices, both heads: F = 0, 0, 1/2, 3/4; M(3) = F(3) + f(2) M(1) = 3/4, M(4) = 7/8 + 1/2 M(2).
        let retrainings = expected_retrainings(&probability_all_dead(2, 0.5, 4));
        let expected = [0.0, 0.0, 0.5, 0.75, 0.875 + 0.25];
        assert!(
            retrainings.iter().zip(expected).all(|(found, value)| (found - value).abs() < 1e-15),
            "{retrainings:?}"
        );
    }

    #[test]
    fn in_the_long_run_one_retraining_comes_with_every_lifetime() {
        let retrainings = expected_retrainings(&probability_all_dead(20, 1.0 / 20.0, 4000));
        let slope = (retrainings[4000] - retrainings[2000]) / 2000.0;
        assert!((slope - 1.0 / deletion_rate(5, 4, 4)).abs() < 1e-9, "{slope}");
    }

    #[test]
    fn repairs_rebuild_what_was_hit() {
        // Two stages: hit with 1/4 and 1/2. After 2 requests: 7/16 and 3/4.
        assert!((repair_cost([(0.25, 16.0), (0.5, 4.0)], 2) - (7.0 + 3.0)).abs() < 1e-12);
        assert!((repair_cost([(1.0, 3.0)], 1) - 3.0).abs() < 1e-15);
        assert_eq!(cost_with_repairs(10.0, 2.0, 3, 7), [10.0, 10.0, 10.0, 12.0, 12.0, 12.0, 14.0, 14.0]);
    }
}
