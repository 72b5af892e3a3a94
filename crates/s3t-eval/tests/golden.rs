//! Measures of texts beside what `rouge_score` and lm-evaluation-harness give. The file of `golden/` is made by xtask/golden/eval.py.

use std::path::Path;

use s3t_eval::text::{Choice, Ignored, Lengths, Scale, bytes, chosen, exact_match, ratio, rouge_l, words};
use serde_json::Value;

fn cases(part: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden[part].as_array().unwrap().clone();
    assert!(cases.len() >= 4, "{part} has few cases");
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[track_caller]
fn close(ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-12 * theirs.abs().max(1.0), "{ours:?} is not {theirs:?}");
}

#[test]
fn rouge_is_that_of_rouge_score() {
    for case in cases("rouge") {
        let rouge = rouge_l(text(&case["target"]), text(&case["answer"]));
        for (ours, theirs) in [rouge.precision, rouge.recall, rouge.f_measure].into_iter().zip(0..) {
            close(ours, &case["rougeL"][theirs]);
        }
    }
}

#[test]
fn exact_match_is_that_of_the_harness() {
    let cases = cases("exact");
    assert!(cases.iter().any(|case| case["same"] == true) && cases.iter().any(|case| case["same"] == false));
    for case in cases {
        let flag = |at: usize| case["ignored"][at].as_bool().unwrap();
        let ignored = Ignored { case: flag(0), punctuation: flag(1), digits: flag(2) };
        let ours = exact_match(text(&case["target"]), text(&case["answer"]), ignored);
        assert_eq!(ours, case["same"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn words_and_bytes_are_those_of_the_harness() {
    for case in cases("units") {
        let text = text(&case["text"]);
        let ours = (words(text) as u64, bytes(text) as u64);
        assert_eq!(ours, (case["words"].as_u64().unwrap(), case["bytes"].as_u64().unwrap()), "{text:?}");
    }
}

#[test]
fn choices_are_those_of_the_harness_with_ties() {
    let cases = cases("choices");
    let differs = |case: &&Value| case["acc"] != case["acc_norm"] || case["acc_norm"] != case["acc_bytes"];
    assert!(cases.iter().filter(differs).count() > 5, "the cases tell the measures apart");
    for case in cases {
        let texts = case["choices"].as_array().unwrap();
        let pairs = texts.iter().zip(case["log_probabilities"].as_array().unwrap());
        let choices: Vec<Choice<'_>> = pairs
            .map(|(text, value)| Choice { text: text.as_str().unwrap(), log_probability: value.as_f64().unwrap() })
            .collect();
        let gold = case["gold"].as_u64().unwrap() as usize;
        for (name, lengths) in
            [("acc", Lengths::Whole), ("acc_norm", Lengths::Characters), ("acc_bytes", Lengths::Bytes)]
        {
            let ours = f64::from(u8::from(chosen(&choices, lengths) == Some(gold)));
            assert_eq!(Some(ours), case[name].as_f64(), "{name}: {case}");
        }
    }
    assert_eq!(chosen(&[], Lengths::Whole), None);
}

#[test]
fn means_and_perplexities_are_those_of_the_harness() {
    for case in cases("ratios") {
        let pair = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
        let pairs: Vec<(f64, f64)> = case["pairs"].as_array().unwrap().iter().map(pair).collect();
        let alone: Vec<(f64, f64)> = pairs.iter().map(|(value, _)| (*value, 1.0)).collect();
        let mean = ratio(&alone, Scale::Mean).unwrap();
        close(mean.value, &case["mean"]);
        let perplexity = ratio(&pairs, Scale::Perplexity).unwrap();
        close(perplexity.value, &case["weighted_perplexity"]);
        close(ratio(&pairs, Scale::Bits).unwrap().value, &case["bits_per_byte"]);
        assert_eq!(mean.standard_error.is_some(), pairs.len() > 1);
        if let (Some(of_mean), Some(of_perplexity)) = (mean.standard_error, perplexity.standard_error) {
            close(of_mean, &case["mean_error"]);
            close(of_perplexity, &case["perplexity_error"]);
        }
    }
    assert_eq!(ratio(&[], Scale::Mean), None);
}
