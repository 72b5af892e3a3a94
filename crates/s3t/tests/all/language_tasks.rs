//! Tasks of language models beside lm-evaluation-harness: the same model, texts and measures. `golden-eval/` is made by
//! xtask/golden/eval.py.

use std::path::{Path, PathBuf};

use s3t::core::aggregate::StageRouted;
use s3t::engine::{Cutting, DeadShard};
use s3t::eval::task::{LanguageTask, TaskKind, TaskOptions, TaskReport, run_task};
use s3t::prelude::*;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-eval")
}

fn instructions() -> Source {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/instructions/test.jsonl");
    let template = "{instruction}
{input}
";
    let source =
        serde_json::json!({ "type": "jsonl", "file": file, "label": "output", "id": "id", "template": template });
    serde_json::from_value(source).unwrap()
}

/// A system on the bundled model of which nothing is trained: two members, each the base model.
fn untrained(store: &Path) -> System {
    let pipeline = pipeline(store).check().unwrap();
    let records = pipeline.read_source(&instructions()).unwrap();
    System::create(pipeline, &records[..20], None).unwrap()
}

fn pipeline(store: &Path) -> Pipeline {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny");
    let mut pipeline = Pipeline::new(model, store, Labels::none(), Lora { rank: 2, ..Lora::default() });
    pipeline.task = Task::CausalLm;
    pipeline.shape = PartitionShape { shards: 2, slices: 1 };
    pipeline.budget = 1;
    pipeline.serving.dead_shard = DeadShard::Base;
    pipeline.resources.jobs = 2;
    pipeline
}

#[test]
fn tokens_are_not_routed() {
    let store = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(&store.path().join("store"));
    pipeline.training.centroid = true;
    pipeline.serving.aggregator = Box::new(StageRouted::default());
    let pipeline = pipeline.check().unwrap();
    let records = pipeline.read_source(&instructions()).unwrap();
    let error = System::create(pipeline, &records[..20], None).err().expect("refused").to_string();
    assert!(error.contains("`stage-routed` is for questions that are answered at once"), "{error}");
}

#[track_caller]
fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0), "{what}: {ours} is not {theirs}");
}

fn score(report: &TaskReport, name: &str) -> (f64, Option<f64>) {
    let score = report.scores.iter().find(|score| score.metric.name() == name).unwrap();
    (score.value, score.standard_error)
}

#[test]
fn tasks_are_scored_as_the_harness_scores_them() {
    let store = tempfile::tempdir().unwrap();
    let system = untrained(&store.path().join("store"));
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 6);
    for (name, expected) in expected {
        let task = LanguageTask::read(&folder().join(format!("{name}.toml"))).unwrap();
        let report = run_task(&system, &task, TaskOptions { limit: None, samples: true }).unwrap();
        assert_eq!(report.records, 10);
        let mut compared = 0;
        for (metric, value) in expected.as_object().unwrap() {
            let known = report.scores.iter().any(|score| score.metric.name() == metric);
            if let (true, Some(theirs)) = (known, value.as_f64()) {
                let (ours, error) = score(&report, metric);
                close(ours, theirs, &format!("{name} {metric}"));
                if let Some(theirs) = expected.get(format!("{metric}_error")).and_then(Value::as_f64) {
                    close(error.unwrap(), theirs, &format!("{name} {metric} error"));
                }
                compared += 1;
            }
        }
        assert!(compared >= 1, "{name} has nothing to compare");
        for (at, sample) in report.samples.iter().enumerate() {
            if matches!(task.kind, TaskKind::Generate { .. }) {
                assert_eq!(sample.answer.as_deref(), expected["answers"][at].as_str());
            } else {
                let theirs = expected["log_probabilities"][at].as_array().unwrap();
                assert_eq!(theirs.len(), sample.log_probabilities.len());
                for (ours, theirs) in sample.log_probabilities.iter().zip(theirs) {
                    close(*ours, theirs.as_f64().unwrap(), &format!("{name} row {at}"));
                }
            }
        }
    }
}

#[test]
fn equal_members_have_the_likelihoods_of_the_base_model() {
    let store = tempfile::tempdir().unwrap();
    let system = untrained(&store.path().join("store"));
    let records = system.pipeline().read_source(&instructions()).unwrap();
    for cutting in [Cutting::AsTrained, Cutting::AsOneText] {
        let ours = system.likelihoods(&records[..30], cutting).unwrap();
        assert_eq!(ours, system.base_likelihoods(&records[..30], cutting).unwrap());
        assert!(ours.iter().all(|likelihood| likelihood.log_probability() < 0.0));
    }
    let of_training = system.likelihoods(&records[..30], Cutting::AsTrained).unwrap();
    let evaluation = evaluate(&system, &records[..30]).unwrap();
    let tokens: usize = of_training.iter().map(|likelihood| likelihood.tokens.len()).sum();
    let total: f64 = of_training.iter().map(s3t::engine::Likelihood::log_probability).sum();
    close(evaluation.perplexity.unwrap(), (-total / tokens as f64).exp(), "perplexity");
    assert_eq!(evaluation.members[0].perplexity, evaluation.perplexity);
}
