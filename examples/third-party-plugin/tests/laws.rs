//! Plugins from outside inherit the laws and work from a pipeline file.

use std::path::{Path, PathBuf};
use std::process::Command;

use s3t_example_third_party_plugin as _;
use serde_json::json;

#[test]
fn the_method_obeys_the_laws() {
    s3t_testkit::check_peft_method(&json!({"type": "scale"}));
    s3t_testkit::check_peft_method(&json!({"type": "scale", "feed_forward": false}));
}

#[test]
fn the_strategy_obeys_the_laws() {
    // It makes one sequence for every L, and two from L = 2 on, for each of five priors.
    assert_eq!(s3t_testkit::check_sequence_strategy(&json!({"type": "there-and-back"}), false, false), 5 * (6 + 5));
}

/// The golden files of the family, which `xtask/golden/make.py` of the project makes.
fn electra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/electra-classifier")
}

#[test]
fn the_family_agrees_with_python_and_obeys_the_laws() {
    s3t_testkit::check_golden_model(&electra());
    s3t_testkit::check_model_family(&electra());
}

#[test]
fn a_linked_strategy_inherits_the_laws_and_is_tried_without_any_list() {
    assert!(s3t_testkit::check_linked_plugins().contains(&"there-and-back"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        let ran =
            Command::new(env!("CARGO_BIN_EXE_s3t-example-third-party-plugin")).args(arguments).arg("--json").output();
        serde_json::from_slice(&ran.unwrap().stdout).unwrap()
    };
    let advice = json(&["advise", "--slices", "2", "--prior", "0.6,0.4"]);
    assert!(advice["strategies"].as_array().unwrap().contains(&json!("there-and-back")), "{advice}");
    let compared = json(&["compare-sequences", "--shards", "3", "--slices", "4", "--budget", "2"]);
    let names: Vec<_> = compared["strategies"].as_array().unwrap().iter().map(|one| &one["strategy"]).collect();
    assert!(names.contains(&&json!("there-and-back")), "{names:?}");
}

#[test]
fn both_plugins_work_from_a_pipeline_file() {
    let folder = tempfile::tempdir().unwrap();
    s3t_testkit::write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let mut lines = String::new();
    for record in s3t_testkit::toy_records(40, 20, 1) {
        let s3t_peft::s3t_core::Payload::Features(x) = &record.payload else {
            unreachable!("toy records are features")
        };
        lines += &json!({"subject": record.subject, "label": record.target.class(), "x": x}).to_string();
        lines += "\n";
    }
    std::fs::write(folder.path().join("data.jsonl"), lines).unwrap();
    let pipeline = r#"
        model = { path = "model" }
        store = { path = "store" }
        partition = { type = "keyed-hash", shards = 1, slices = 2 }
        sequences = { type = "there-and-back", budget = 2 }
        peft = { type = "scale" }
        training = { epochs = 2, learning_rate = 0.01 }
        run = { delete_subjects = ["subject-1"] }
        [data]
        labels = ["a", "b", "c"]
        train = { type = "jsonl", file = "data.jsonl", subject = "subject", features = "x" }
        test = { type = "jsonl", file = "data.jsonl", features = "x" }
    "#;
    std::fs::write(folder.path().join("pipeline.toml"), pipeline).unwrap();
    let s3t = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3t-example-third-party-plugin"));
        command.current_dir(folder.path());
        command
    };
    let run = s3t().args(["run", "pipeline.toml", "--json"]).output().unwrap();
    let story: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(story["verification"]["passed"], true, "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(story["plan"]["cost"]["shared"]["stages"], 4);
    let plugins = String::from_utf8(s3t().arg("plugins").output().unwrap().stdout).unwrap();
    assert!(["scale", "there-and-back", "electra"].iter().all(|name| plugins.contains(name)), "{plugins}");
}
