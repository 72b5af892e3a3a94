//! Inputs that cannot be used are refused by name.

use s3t_attack::AttackError;
use s3t_attack::area::auc;
use s3t_attack::baseline::blind;
use s3t_attack::benchmarks::{forget_quality, priv_leak};
use s3t_attack::epsilon::{Guesses, lower_bound, p_value};
use s3t_attack::interval::clopper_pearson;
use s3t_attack::language::{Shift, error_zone, loss_difference, loss_ratio, min_k, min_k_plus_plus};
use s3t_attack::lira::{Deviation, Shadows, offline, online};
use s3t_attack::rmia::{Confidences, Marginal, choose_a, scores};
use s3t_attack::roc::{Roc, Scores};
use s3t_attack::signal::{confidence, scaled_logit};
use s3t_attack::subjects::by_subject;

const NAN: f64 = f64::NAN;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, AttackError>, part: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(part), "`{part}` is not in: {error}");
}

#[test]
fn signals() {
    refused(scaled_logit(&[1.0], 0), "`logits` has 1 entries, expected 2");
    refused(scaled_logit(&[1.0, NAN], 0), "`logits` holds NaN at position 1");
    refused(confidence(&[1.0, 2.0], 2), "`label` is 2; allowed is a position in `logits`");
    refused(confidence(&[], 0), "`logits` is empty");
}

#[test]
fn likelihood_ratios() {
    let few = vec![vec![1.0], vec![2.0]];
    refused(
        offline(&[1.0, 2.0], &few, Deviation::PerExample),
        "`outside` has 1 shadow values of example 0, needed are 2; use `Deviation::Pooled`",
    );
    refused(offline(&[1.0, 2.0], &few, Deviation::Pooled), "needed are 2");
    refused(offline(&[1.0], &[vec![]], Deviation::Pooled), "has 0 shadow values");
    refused(offline(&[1.0], &[vec![2.0, 2.0]], Deviation::PerExample), "`outside` of example 0 has deviation 0");
    refused(offline(&[1.0], &[vec![2.0, NAN]], Deviation::PerExample), "`outside` holds NaN at position 1");
    for deviation in [Deviation::Shrunk { prior: 0.0 }, Deviation::Predictive { prior: 0.0 }] {
        refused(offline(&[1.0], &[vec![2.0, 3.0]], deviation), "`prior` is 0; allowed is a finite number above 0");
    }
    refused(
        offline(&[1.0, 2.0], &[vec![2.0, 3.0]], Deviation::Pooled),
        "`outside` has 1 entries, expected 2: one for each of `target`",
    );
    let shadows = Shadows { inside: vec![], outside: vec![vec![2.0, 3.0]] };
    refused(online(&[1.0], &shadows, Deviation::Pooled), "`inside` has 0 entries");
}

#[test]
fn robust_attack() {
    let one = |target: f64, reference: f64| Confidences { target: vec![target], references: vec![vec![reference]] };
    let good = one(0.5, 0.5);
    refused(
        scores(&one(0.0, 0.5), &good, Marginal::Online, 1.0),
        "`examples` is 0; allowed is a probability above 0 and at most 1",
    );
    refused(scores(&good, &one(0.5, 1.5), Marginal::Online, 1.0), "`population` is 1.5");
    refused(scores(&good, &good, Marginal::Online, 0.5), "`gamma` is 0.5");
    refused(scores(&good, &good, Marginal::Offline { a: 2.0 }, 1.0), "`a` is 2; allowed is from 0 to 1");
    let none = Confidences { target: vec![0.5], references: vec![vec![]] };
    refused(scores(&none, &good, Marginal::Online, 1.0), "`references of examples` is empty");
    refused(choose_a(&good, &[true], &good, 1.0, &[0.5]), "`non_members` is empty");
    refused(choose_a(&good, &[true], &good, 1.0, &[]), "`grid` is empty");
    refused(choose_a(&good, &[], &good, 1.0, &[0.5]), "`is_member` has 0 entries, expected 1");
}

#[test]
fn texts() {
    refused(loss_ratio(&[0.0], &[-1.0]), "use `loss_difference`");
    refused(loss_ratio(&[0.5], &[-1.0]), "`target` is 0.5; allowed is a logarithm of a probability, at most 0");
    refused(loss_difference(&[-1.0], &[-1.0, -2.0]), "`base` has 2 entries, expected 1");
    refused(min_k(&[-1.0], 0.0), "`share` is 0");
    refused(min_k(&[], 0.2), "`target` is empty");
    refused(min_k_plus_plus(&[-1.0], &[-1.0], &[0.0], 0.2), "`deviations` is 0; allowed is above 0");
    refused(error_zone(&[], Shift::Probability), "`target` is empty");
}

#[test]
fn measures() {
    refused(Roc::new(&[], &[1.0]), "`members` is empty");
    refused(Roc::new(&[1.0], &[f64::INFINITY]), "`non_members` holds inf at position 0");
    let roc = Roc::new(&[1.0], &vec![0.0; 999]).unwrap();
    refused(
        roc.tpr_at_fpr(0.001, 0.95),
        "a false positive rate of 0.001 needs at least 1000 non-members, there are 999",
    );
    refused(roc.tpr_at_fpr(0.0, 0.95), "`fpr` is 0; allowed is above 0 and below 1");
    refused(roc.tpr_at_fpr(0.01, 1.0), "`confidence` is 1");
    refused(auc(&Scores { members: vec![1.0], non_members: vec![0.0] }, 95.0), "`confidence` is 95");
    refused(clopper_pearson(1, 0, 0.95), "`trials` is empty");
    refused(clopper_pearson(3, 2, 0.95), "`successes` is 3; allowed is at most `trials`");
    refused(forget_quality(&[1.0], &[]), "`retrained` is empty");
    refused(priv_leak(0.5, 1.0), "`priv_leak` has no value: the area of the retrained model is 1");
    refused(priv_leak(1.5, 0.5), "`auc_unlearned` is 1.5");
    refused(by_subject(&[1.0], &["a", "b"]), "`subjects` has 2 entries, expected 1");
    refused(blind(&[vec![1.0]], &[vec![1.0], vec![2.0]]), "`members` has 1 entries, expected 2");
    refused(
        blind(&[vec![1.0], vec![2.0]], &[vec![1.0], vec![2.0, 3.0]]),
        "`non_members` has 2 entries, expected 1: one for each of `features`",
    );
}

#[test]
fn bounds_on_epsilon() {
    let guesses = |records, guesses, right| Guesses { records, guesses, right };
    refused(lower_bound(guesses(10, 0, 0), 0.0, 0.95), "`guesses` is empty");
    refused(lower_bound(guesses(10, 11, 0), 0.0, 0.95), "`guesses` is 11; allowed is at most `records`");
    refused(lower_bound(guesses(10, 5, 6), 0.0, 0.95), "`right` is 6; allowed is at most `guesses`");
    refused(lower_bound(guesses(10, 5, 5), -0.1, 0.95), "`delta` is -0.1");
    refused(lower_bound(guesses(10, 5, 5), 0.0, 0.0), "`confidence` is 0");
    refused(p_value(guesses(10, 5, 5), -1.0, 0.0), "`epsilon` is -1");
}

#[test]
fn small_samples_have_wide_intervals_and_no_panic() {
    let single = auc(&Scores { members: vec![1.0], non_members: vec![0.0] }, 0.95).unwrap();
    assert_eq!((single.value, single.interval.high), (1.0, 1.0));
    assert!((single.interval.low - 0.025).abs() < 1e-12);
    let constant = auc(&Scores { members: vec![3.0; 50], non_members: vec![3.0; 50] }, 0.95).unwrap();
    assert_eq!(constant.value, 0.5);
    assert!(constant.interval.low < 0.4 && constant.interval.high > 0.6);
}
