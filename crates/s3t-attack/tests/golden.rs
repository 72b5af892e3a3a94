//! Every figure beside what numpy and scipy give. The files of `golden/` are made by xtask/golden/attack.py.

use std::path::Path;

use s3t_attack::area::auc;
use s3t_attack::benchmarks::forget_quality;
use s3t_attack::epsilon::{Guesses, lower_bound, p_value};
use s3t_attack::interval::clopper_pearson;
use s3t_attack::language::{Shift, ZoneToken, error_zone, loss_difference, loss_ratio, min_k, min_k_plus_plus};
use s3t_attack::lira::{Deviation, Shadows, offline, online};
use s3t_attack::memorisation::{exposure, extrapolated_exposure};
use s3t_attack::rmia::{Confidences, Marginal, choose_a, scores};
use s3t_attack::roc::{Roc, Scores};
use s3t_attack::signal::{confidence, log_probability, loss, scaled_logit};
use s3t_attack::skew_normal::SkewNormal;
use s3t_attack::{AttackError, baseline};
use serde_json::Value;

/// The largest difference, relative to numbers above 1.
const TOLERANCE: f64 = 1e-9;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases(name: &str) -> Vec<Value> {
    let cases = golden(name).as_array().unwrap().clone();
    assert!(cases.len() >= 4, "{name} has few cases");
    cases
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn flags(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|flag| flag.as_bool().unwrap()).collect()
}

#[track_caller]
fn close(ours: f64, theirs: &Value) {
    let theirs = number(theirs);
    assert!((ours - theirs).abs() <= TOLERANCE * theirs.abs().max(1.0), "{ours:?} is not {theirs:?}");
}

#[track_caller]
fn all_close(ours: &[f64], theirs: &Value) {
    let theirs = theirs.as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).for_each(|(ours, theirs)| close(*ours, theirs));
}

#[test]
fn signals() -> Result<(), AttackError> {
    for case in cases("signal") {
        let (logits, label) = (numbers(&case["logits"]), case["label"].as_u64().unwrap() as usize);
        close(log_probability(&logits, label)?, &case["log_probability"]);
        close(-loss(&logits, label)?, &case["log_probability"]);
        close(confidence(&logits, label)?.ln(), &case["log_probability"]);
        close(scaled_logit(&logits, label)?, &case["scaled_logit"]);
    }
    Ok(())
}

#[test]
fn likelihood_ratios() -> Result<(), AttackError> {
    let case = golden("lira");
    let target = numbers(&case["target"]);
    let shadows = Shadows { inside: rows(&case["inside"]), outside: rows(&case["outside"]) };
    let prior = number(&case["prior"]);
    let kinds = [
        ("per-example", Deviation::PerExample),
        ("pooled", Deviation::Pooled),
        ("shrunk", Deviation::Shrunk { prior }),
        ("predictive", Deviation::Predictive { prior }),
    ];
    for (name, deviation) in kinds {
        all_close(&online(&target, &shadows, deviation)?, &case[name]["online"]);
        let offline = offline(&target, &shadows.outside, deviation)?;
        all_close(&offline.iter().map(|score| score.probability).collect::<Vec<_>>(), &case[name]["probability"]);
        all_close(&offline.iter().map(|score| score.deviations).collect::<Vec<_>>(), &case[name]["deviations"]);
    }
    Ok(())
}

#[test]
fn robust_attack() -> Result<(), AttackError> {
    let case = golden("rmia");
    let examples = Confidences { target: numbers(&case["target"]), references: rows(&case["references"]) };
    let population =
        Confidences { target: numbers(&case["population"]), references: rows(&case["population_references"]) };
    for given in case["scores"].as_array().unwrap() {
        let marginal = match given["marginal"].as_str().unwrap() {
            "online" => Marginal::Online,
            _ => Marginal::Offline { a: number(&given["a"]) },
        };
        all_close(&scores(&examples, &population, marginal, number(&given["gamma"]))?, &given["scores"]);
    }
    let best = choose_a(&examples, &flags(&case["is_member"]), &population, 1.0, &numbers(&case["grid"]))?;
    assert_eq!(best, number(&case["best_a"]));
    Ok(())
}

/// A signal of a model about a record, from its logits and its label.
type Signal = fn(&[f64], usize) -> Result<f64, AttackError>;

/// From the logits of models to scores, as an audit takes them.
#[test]
fn scores_from_logits() -> Result<(), AttackError> {
    let case = golden("logits");
    let examples = case["examples"].as_u64().unwrap() as usize;
    let labels: Vec<usize> = numbers(&case["labels"]).into_iter().map(|label| label as usize).collect();
    let target = rows(&case["target"]);
    let references: Vec<Vec<Vec<f64>>> = case["references"].as_array().unwrap().iter().map(rows).collect();
    let inside: Vec<Vec<bool>> = case["inside"].as_array().unwrap().iter().map(flags).collect();
    let of_models = |signal: Signal, is_inside: bool, at: usize| -> Result<Vec<f64>, AttackError> {
        let models = references.iter().zip(&inside).filter(|(_, inside)| inside[at] == is_inside);
        models.map(|(logits, _)| signal(&logits[at], labels[at])).collect()
    };
    let of_target = |signal: Signal, records: std::ops::Range<usize>| -> Result<Vec<f64>, AttackError> {
        records.map(|at| signal(&target[at], labels[at])).collect()
    };
    let lists = |signal: Signal, is_inside: bool, records: std::ops::Range<usize>| {
        records.map(|at| of_models(signal, is_inside, at)).collect::<Result<Vec<_>, _>>()
    };
    let phi = of_target(scaled_logit, 0..examples)?;
    let shadows =
        Shadows { inside: lists(scaled_logit, true, 0..examples)?, outside: lists(scaled_logit, false, 0..examples)? };
    all_close(&online(&phi, &shadows, Deviation::Pooled)?, &case["lira_online"]);
    let offline = offline(&phi, &shadows.outside, Deviation::Pooled)?;
    all_close(&offline.iter().map(|score| score.probability).collect::<Vec<_>>(), &case["lira_offline"]);
    let of = |records: std::ops::Range<usize>| -> Result<Confidences, AttackError> {
        Ok(Confidences {
            target: of_target(confidence, records.clone())?,
            references: lists(confidence, false, records)?,
        })
    };
    let marginal = Marginal::Offline { a: number(&case["a"]) };
    let scores = scores(&of(0..examples)?, &of(examples..labels.len())?, marginal, number(&case["gamma"]))?;
    all_close(&scores, &case["rmia"]);
    Ok(())
}

#[test]
fn texts() -> Result<(), AttackError> {
    for case in cases("language") {
        let (target, base) = (numbers(&case["target"]), numbers(&case["base"]));
        close(loss_ratio(&target, &base)?, &case["loss_ratio"]);
        close(loss_difference(&target, &base)?, &case["loss_difference"]);
        close(min_k(&target, 0.2)?, &case["min_k"]);
        let (means, deviations) = (numbers(&case["means"]), numbers(&case["deviations"]));
        close(min_k_plus_plus(&target, &means, &deviations, 0.2)?, &case["min_k_plus_plus"]);
        let tokens = target.iter().zip(&base).zip(flags(&case["errors"]));
        let tokens: Vec<ZoneToken> =
            tokens.map(|((&target, &base), is_error)| ZoneToken { target, base, is_error }).collect();
        close(error_zone(&tokens, Shift::Probability)?, &case["zone_probability"]);
        close(error_zone(&tokens, Shift::LogProbability)?, &case["zone_log_probability"]);
    }
    Ok(())
}

#[test]
fn areas_and_rates() -> Result<(), AttackError> {
    for case in cases("roc") {
        let scores = Scores { members: numbers(&case["members"]), non_members: numbers(&case["others"]) };
        let confidence = number(&case["confidence"]);
        let area = auc(&scores, confidence)?;
        close(area.value, &case["auc"]);
        close(area.interval.low, &case["low"]);
        close(area.interval.high, &case["high"]);
        let roc = Roc::new(&scores.members, &scores.non_members)?;
        for rate in case["rates"].as_array().unwrap() {
            let ours = roc.tpr_at_fpr(number(&rate["fpr"]), confidence)?;
            close(ours.tpr, &rate["tpr"]);
            close(ours.interval.low, &rate["low"]);
            close(ours.interval.high, &rate["high"]);
            close(ours.fpr_interval.low, &rate["fpr_low"]);
            close(ours.fpr_interval.high, &rate["fpr_high"]);
        }
    }
    Ok(())
}

#[test]
fn binomial_intervals() -> Result<(), AttackError> {
    for case in cases("clopper_pearson") {
        let counts = [0, 1].map(|place| case[place].as_u64().unwrap());
        let ours = clopper_pearson(counts[0], counts[1], number(&case[2]))?;
        close(ours.low, &case[3]);
        close(ours.high, &case[4]);
    }
    Ok(())
}

#[test]
fn kolmogorov_smirnov_tests() -> Result<(), AttackError> {
    for case in cases("kolmogorov_smirnov") {
        let ours = forget_quality(&numbers(&case["first"]), &numbers(&case["second"]))?;
        close(ours.statistic, &case["statistic"]);
        close(ours.p_value, &case["p_value"]);
    }
    Ok(())
}

#[test]
fn bounds_on_epsilon() -> Result<(), AttackError> {
    for case in cases("epsilon") {
        let count = |name: &str| case[name].as_u64().unwrap();
        let guesses = Guesses { records: count("records"), guesses: count("guesses"), right: count("right") };
        let delta = number(&case["delta"]);
        close(p_value(guesses, number(&case["epsilon"]), delta)?, &case["p_value"]);
        close(lower_bound(guesses, delta, number(&case["confidence"]))?.epsilon, &case["bound"]);
    }
    Ok(())
}

#[test]
fn a_baseline_without_a_model() -> Result<(), AttackError> {
    let case = golden("blind");
    let scores = baseline::blind(&rows(&case["members"]), &rows(&case["others"]))?;
    all_close(&scores.members, &case["member_scores"]);
    all_close(&scores.non_members, &case["other_scores"]);
    Ok(())
}

#[test]
fn exposure_is_that_of_its_definition() {
    for case in golden("memorisation")["ranked"].as_array().unwrap() {
        let ours = exposure(number(&case["secret"]), &numbers(&case["others"])).unwrap();
        assert_eq!(ours.rank, case["rank"].as_u64());
        close(ours.bits, &case["bits"]);
    }
    assert!(exposure(f64::NAN, &[1.0]).is_err() && exposure(1.0, &[]).is_err());
}

#[test]
fn extrapolated_exposure_is_that_of_the_likeliest_skew_normal_distribution() {
    for case in golden("memorisation")["fitted"].as_array().unwrap() {
        let sample = numbers(&case["sample"]);
        let theirs = numbers(&case["fit"]);
        let given = SkewNormal { location: theirs[0], scale: theirs[1], shape: theirs[2] };
        let fitted = SkewNormal::fit(&sample).unwrap();
        let likelihood = |of: SkewNormal| sample.iter().map(|value| of.log_density(*value)).sum::<f64>();
        assert!(likelihood(fitted) >= likelihood(given) - 1e-6, "{fitted:?} is not as likely as {given:?}");
        for secret in case["secrets"].as_array().unwrap() {
            let x = number(&secret["secret"]);
            close(given.log_below(x), &secret["log_below"]);
            let ours = extrapolated_exposure(x, &sample).unwrap().bits;
            let theirs = number(&secret["bits"]);
            assert!((ours - theirs).abs() <= 1e-4 * theirs.max(1.0), "{ours} bits are not {theirs}");
        }
    }
    assert!(SkewNormal::fit(&[1.0; 50]).is_err() && SkewNormal::fit(&[1.0, 2.0]).is_err());
}
