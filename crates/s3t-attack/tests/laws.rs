//! Laws of attacks and measures: what must not change them, and in which direction they move.

use proptest::prelude::*;
use s3t_attack::area::auc;
use s3t_attack::benchmarks::{forget_quality, priv_leak};
use s3t_attack::epsilon::{Guesses, lower_bound};
use s3t_attack::interval::clopper_pearson;
use s3t_attack::lira::{Deviation, Shadows, offline, online};
use s3t_attack::power::Power;
use s3t_attack::report::{Attack, AttackReport, Audited};
use s3t_attack::rmia::{self, Confidences, Marginal};
use s3t_attack::roc::{Roc, Scores};
use s3t_attack::signal::scaled_logit;
use s3t_attack::subjects::by_subject;

/// Whole numbers with many ties, so that maps of them are exact.
fn scores() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec((-20_i32..20).prop_map(f64::from), 1..60)
}

fn both() -> impl Strategy<Value = Scores> {
    (scores(), scores()).prop_map(|(members, non_members)| Scores { members, non_members })
}

fn shuffled(scores: Vec<f64>) -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (Just(scores.clone()), Just(scores).prop_shuffle())
}

/// Rates of a curve that do not depend on the scale of scores.
fn counts(scores: &Scores) -> Vec<(u64, u64)> {
    let roc = Roc::new(&scores.members, &scores.non_members).unwrap();
    roc.points().iter().map(|point| (point.false_positives, point.true_positives)).collect()
}

proptest! {
    #[test]
    fn a_rising_map_changes_nothing(scores in both()) {
        let map = |values: &[f64]| values.iter().map(|value| value.powi(3) + 2.0 * value + 7.0).collect::<Vec<_>>();
        let mapped = Scores { members: map(&scores.members), non_members: map(&scores.non_members) };
        prop_assert_eq!(counts(&scores), counts(&mapped));
        prop_assert_eq!(auc(&scores, 0.9).unwrap(), auc(&mapped, 0.9).unwrap());
        prop_assert_eq!(
            forget_quality(&scores.members, &scores.non_members).unwrap(),
            forget_quality(&mapped.members, &mapped.non_members).unwrap()
        );
    }

    #[test]
    fn the_order_of_records_changes_no_bit(
        (members, other_members) in scores().prop_flat_map(shuffled),
        (non_members, other_non_members) in scores().prop_flat_map(shuffled),
    ) {
        let (one, other) = (Scores { members, non_members }, Scores { members: other_members, non_members: other_non_members });
        prop_assert_eq!(Roc::new(&one.members, &one.non_members), Roc::new(&other.members, &other.non_members));
        prop_assert_eq!(auc(&one, 0.95).unwrap(), auc(&other, 0.95).unwrap());
        prop_assert_eq!(Power::measure(&one, &[0.1], 0.95), Power::measure(&other, &[0.1], 0.95));
    }

    #[test]
    fn members_and_non_members_mirror_each_other(scores in both()) {
        let mirrored = Scores { members: scores.non_members.clone(), non_members: scores.members.clone() };
        let (one, other) = (auc(&scores, 0.95).unwrap(), auc(&mirrored, 0.95).unwrap());
        prop_assert!((one.value + other.value - 1.0).abs() < 1e-12);
        prop_assert!((one.interval.low + other.interval.high - 1.0).abs() < 1e-9);
        prop_assert!(one.interval.contains(one.value), "{:?}", one);
        let tests = [(&scores.members, &scores.non_members), (&scores.non_members, &scores.members)];
        let [one, other] = tests.map(|(first, second)| forget_quality(first, second).unwrap());
        prop_assert_eq!(one.statistic, other.statistic);
        prop_assert!((one.p_value - other.p_value).abs() < 1e-12 && one.p_value > 0.0 && one.p_value <= 1.0);
    }

    #[test]
    fn equal_groups_tell_nothing(members in scores()) {
        let scores = Scores { non_members: members.clone(), members };
        prop_assert_eq!(auc(&scores, 0.95).unwrap().value, 0.5);
        prop_assert_eq!(forget_quality(&scores.members, &scores.non_members).unwrap().p_value, 1.0);
        prop_assert!(!Power::measure(&scores, &[0.01], 0.95).unwrap().found);
        let audited = Audited { before: scores.clone(), after: scores.clone(), oracle: Some(scores) };
        let report = AttackReport::new(Attack::LossRatio, &audited, 0.95).unwrap();
        let comparison = report.comparison.unwrap();
        prop_assert!(comparison.equal);
        prop_assert_eq!((comparison.priv_leak, comparison.forget_quality.p_value), (Some(0.0), 1.0));
        prop_assert!(report.first_line().starts_with("NO POWER"));
    }

    #[test]
    fn corners_draw_the_same_curve(scores in both()) {
        let roc = Roc::new(&scores.members, &scores.non_members).unwrap();
        let area = |points: &[s3t_attack::roc::RocPoint]| {
            let (mut doubled, mut last) = (0, (0, 0));
            for point in points {
                doubled += (point.false_positives - last.0) * (point.true_positives + last.1);
                last = (point.false_positives, point.true_positives);
            }
            doubled
        };
        prop_assert_eq!(area(roc.points()), area(&roc.corners()));
        prop_assert_eq!(roc.points().last().copied(), roc.corners().last().copied());
    }

    #[test]
    fn the_true_positive_rate_rises_with_the_false_positive_rate(scores in both(), low in 0.02..0.9, more in 0.0..0.09) {
        let roc = Roc::new(&scores.members, &scores.non_members).unwrap();
        if let (Ok(one), Ok(other)) = (roc.tpr_at_fpr(low, 0.95), roc.tpr_at_fpr(low + more, 0.95)) {
            prop_assert!(one.tpr <= other.tpr);
            prop_assert!(one.interval.contains(one.tpr));
        }
    }

    #[test]
    fn the_binomial_interval_mirrors_grows_and_holds_the_share(trials in 1_u64..300, part in 0.0..1.0, confidence in 0.01..0.999) {
        let successes = (part * trials as f64) as u64;
        let interval = clopper_pearson(successes, trials, confidence).unwrap();
        let mirrored = clopper_pearson(trials - successes, trials, confidence).unwrap();
        prop_assert!((interval.low + mirrored.high - 1.0).abs() < 1e-12);
        prop_assert!(interval.contains(successes as f64 / trials as f64));
        let wider = clopper_pearson(successes, trials, f64::midpoint(confidence, 1.0)).unwrap();
        prop_assert!(wider.low <= interval.low && interval.high <= wider.high);
        if successes < trials {
            let next = clopper_pearson(successes + 1, trials, confidence).unwrap();
            prop_assert!(interval.low <= next.low && interval.high <= next.high);
        }
    }

    #[test]
    fn more_right_guesses_refute_more(guesses in 1_u64..200, part in 0.0..1.0, delta in 0.0..1e-4) {
        let right = (part * guesses as f64) as u64;
        let bound = |right, delta, confidence| {
            lower_bound(Guesses { records: 2 * guesses, guesses, right }, delta, confidence).unwrap().epsilon
        };
        let epsilon = bound(right, 0.0, 0.95);
        prop_assert!(bound((right + 1).min(guesses), 0.0, 0.95) >= epsilon);
        prop_assert!(bound(right, 0.0, 0.99) <= epsilon);
        prop_assert!(bound(right, delta, 0.95) <= epsilon + 1e-9);
        prop_assert!(2 * right > guesses || epsilon == 0.0, "no better than chance");
    }

    #[test]
    fn units_of_logits_do_not_change_likelihood_ratios(
        values in proptest::collection::vec((-5.0..5.0, proptest::collection::vec(-5.0..5.0, 3), proptest::collection::vec(-5.0..5.0, 3)), 2..10),
        factor in 0.1..10.0, shift in -5.0..5.0,
    ) {
        let target: Vec<f64> = values.iter().map(|value| value.0).collect();
        let shadows = Shadows {
            inside: values.iter().map(|value| value.1.clone()).collect(),
            outside: values.iter().map(|value| value.2.clone()).collect(),
        };
        let spread = |lists: &[Vec<f64>]| lists.iter().all(|list| list.iter().any(|value| (value - list[0]).abs() > 0.1));
        prop_assume!(spread(&shadows.inside) && spread(&shadows.outside));
        let map = |list: &[f64]| list.iter().map(|value| factor * value + shift).collect::<Vec<f64>>();
        let mapped = Shadows {
            inside: shadows.inside.iter().map(|list| map(list)).collect(),
            outside: shadows.outside.iter().map(|list| map(list)).collect(),
        };
        let prior = 3.0;
        for deviation in [Deviation::PerExample, Deviation::Pooled, Deviation::Shrunk { prior }, Deviation::Predictive { prior }] {
            let (one, other) = (online(&target, &shadows, deviation).unwrap(), online(&map(&target), &mapped, deviation).unwrap());
            for (one, other) in one.iter().zip(&other) {
                prop_assert!((one - other).abs() <= 1e-7 * one.abs().max(1.0), "{one} {other}");
            }
            // Reversed examples give reversed scores.
            let back = |lists: &[Vec<f64>]| lists.iter().rev().cloned().collect::<Vec<_>>();
            let reversed = Shadows { inside: back(&shadows.inside), outside: back(&shadows.outside) };
            let target_reversed: Vec<f64> = target.iter().rev().copied().collect();
            for (one, other) in one.iter().rev().zip(online(&target_reversed, &reversed, deviation).unwrap()) {
                prop_assert!((one - other).abs() <= 1e-7 * one.abs().max(1.0), "{one} {other}");
            }
            // Exchanging inside and outside turns the sign.
            let exchanged = Shadows { inside: shadows.outside.clone(), outside: shadows.inside.clone() };
            for (one, other) in one.iter().zip(online(&target, &exchanged, deviation).unwrap()) {
                prop_assert!((one + other).abs() <= 1e-9 * one.abs().max(1.0));
            }
            let mut ranked = offline(&target, &shadows.outside, deviation).unwrap();
            ranked.sort_by(|one, other| one.deviations.total_cmp(&other.deviations));
            prop_assert!(ranked.windows(2).all(|pair| pair[0].probability <= pair[1].probability));
        }
    }

    #[test]
    fn domination_is_a_share_that_falls_with_gamma_and_rises_with_confidence(
        values in proptest::collection::vec((0.01..1.0, proptest::collection::vec(0.01..1.0, 3)), 2..30),
        population in proptest::collection::vec((0.01..1.0, proptest::collection::vec(0.01..1.0, 3)), 1..30),
        gamma in 1.0..3.0, a in 0.0..1.0,
    ) {
        let confidences = |values: &[(f64, Vec<f64>)]| Confidences {
            target: values.iter().map(|value| value.0).collect(),
            references: values.iter().map(|value| value.1.clone()).collect(),
        };
        let (examples, population) = (confidences(&values), confidences(&population));
        for marginal in [Marginal::Online, Marginal::Offline { a }] {
            let scores = |examples: &Confidences, gamma| rmia::scores(examples, &population, marginal, gamma).unwrap();
            let plain = scores(&examples, gamma);
            prop_assert!(plain.iter().all(|score| (0.0..=1.0).contains(score)));
            let stricter = scores(&examples, gamma + 0.5);
            prop_assert!(stricter.iter().zip(&plain).all(|(stricter, plain)| stricter <= plain));
            let surer = Confidences { target: examples.target.iter().map(|p| f64::midpoint(*p, 1.0)).collect(), ..examples.clone() };
            prop_assert!(scores(&surer, gamma).iter().zip(&plain).all(|(surer, plain)| surer >= plain));
        }
        // Halving all probabilities of the examples cancels where the marginal is a mean.
        let halved = Confidences {
            target: examples.target.iter().map(|p| p / 2.0).collect(),
            references: examples.references.iter().map(|list| list.iter().map(|p| p / 2.0).collect()).collect(),
        };
        let online = |examples: &Confidences| rmia::scores(examples, &population, Marginal::Online, gamma).unwrap();
        prop_assert_eq!(online(&halved), online(&examples));
    }

    #[test]
    fn logits_count_up_to_a_constant(logits in proptest::collection::vec(-30.0..30.0, 2..12), shift in -50.0..50.0) {
        let moved: Vec<f64> = logits.iter().map(|logit| logit + shift).collect();
        let (one, other) = (scaled_logit(&logits, 0).unwrap(), scaled_logit(&moved, 0).unwrap());
        prop_assert!((one - other).abs() < 1e-9);
        if logits.len() == 2 {
            prop_assert!((one - (logits[0] - logits[1])).abs() < 1e-12);
        }
    }

    #[test]
    fn subjects_are_ranked_by_their_strongest_record(values in proptest::collection::vec((-9.0..9.0, 0_u8..5), 1..40).prop_shuffle()) {
        let split = |values: &[(f64, u8)]| by_subject(
            &values.iter().map(|value| value.0).collect::<Vec<_>>(),
            &values.iter().map(|value| value.1.to_string()).collect::<Vec<_>>(),
        ).unwrap();
        let subjects = split(&values);
        prop_assert_eq!(subjects.iter().map(|subject| subject.records).sum::<u64>(), values.len() as u64);
        prop_assert!(subjects.windows(2).all(|pair| pair[0].largest >= pair[1].largest));
        prop_assert!(subjects.iter().all(|subject| subject.mean <= subject.largest + 1e-12));
        let mut sorted = values.clone();
        sorted.sort_by(|one, other| one.partial_cmp(other).unwrap());
        prop_assert_eq!(split(&sorted), subjects);
    }

    #[test]
    fn priv_leak_is_zero_for_equal_areas_and_falls_with_what_is_left(area in 0.0..0.99_f64, more in 0.0..0.5_f64) {
        prop_assert_eq!(priv_leak(area, area).unwrap(), 0.0);
        prop_assert!(priv_leak((area + more).min(1.0), area).unwrap() <= 0.0);
    }
}
