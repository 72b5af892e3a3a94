//! The log: it tells what happens, and nothing personal.

use std::fs;

use crate::workspace::Workspace;
use s3t::core::{Payload, Record};
use s3t_testkit::toy_records;
use serde_json::Value;

/// The records of the workspace, as it writes them.
fn records() -> Vec<Record> {
    toy_records(60, 20, 7)
}

/// Texts of the records that must be in no log: ids, subjects, and every number of their content as it is written.
fn personal() -> Vec<String> {
    let mut texts = Vec::new();
    for record in records() {
        texts.push(record.id.to_string());
        texts.extend(record.subject.map(|subject| subject.to_string()));
        let Payload::Features(values) = record.payload else { unreachable!("toy records are features") };
        // Short numbers may stand for anything.
        texts.extend(values.iter().map(ToString::to_string).filter(|text| text.trim_start_matches('-').len() > 6));
    }
    texts
}

#[test]
fn a_trace_of_everything_holds_nothing_personal() {
    let workspace = Workspace::new();
    let executor =
        "[executor]\ntype = \"processes\"\nworkers = 2\narguments = [\"--log\", \"trace\", \"worker\"]\n\n[run]";
    let all: [(&[&str], i32); 8] = [
        (&["train", "pipeline.toml"], 0),
        (&["delete", "pipeline.toml", "--subject", "subject-4", "--request-id", "ticket-1"], 0),
        (&["delete", "pipeline.toml", "--record", "record-7"], 0),
        // Refused, with a message that names it.
        (&["delete", "pipeline.toml", "--record", "record-7"], 3),
        (&["predict", "pipeline.toml"], 0),
        (&["repair", "pipeline.toml"], 0),
        (&["verify", "pipeline.toml", "--scope", "all"], 0),
        (&["train", "pipeline.toml", "--fresh", "--yes"], 0),
    ];
    let mut said_by_workers = String::new();
    for (index, (arguments, code)) in all.into_iter().enumerate() {
        if index == 5 {
            // From here on stages are trained by workers that log too.
            workspace.edit("pipeline.toml", "[run]", executor);
        }
        let options = ["--log", "trace", "--log-file", "s3t.log"];
        let ran = workspace.run(&[arguments, &options].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        if code == 0 {
            said_by_workers.push_str(&ran.stderr);
        }
    }
    let log = fs::read_to_string(workspace.path("s3t.log")).unwrap() + &said_by_workers;
    for expected in [
        "open",
        "train",
        "job",
        "stage",
        "step",
        "accept",
        "effect",
        "erase",
        "verify",
        "repair",
        "epoch=2",
        "worker 1: ",
    ] {
        assert!(log.contains(expected), "the log has no `{expected}`");
    }
    for text in personal() {
        // `record-1` is no part of `record-10`.
        let free = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
        let found = log
            .match_indices(&text)
            .find(|(at, _)| free(log[..*at].chars().next_back()) && free(log[at + text.len()..].chars().next()));
        if let Some((at, _)) = found {
            let line = log[..at].matches('\n').count();
            panic!("`{text}` is in the log: {}", log.lines().nth(line).unwrap_or_default());
        }
    }
}

#[test]
fn a_log_for_machines_is_an_object_a_line_and_a_filter_leaves_the_rest_out() {
    let workspace = Workspace::new();
    let train =
        ["train", "pipeline.toml", "--log", "s3t_train=debug", "--log-format", "json", "--log-file", "s3t.jsonl"];
    assert_eq!(workspace.run(&train).code, 0);
    // Another run appends; what is no log is left alone.
    assert_eq!(workspace.run(&train).code, 0);
    let log = fs::read_to_string(workspace.path("s3t.jsonl")).unwrap();
    let precious = fs::read(workspace.path("pipeline.toml")).unwrap();
    let ran = workspace.run(&["status", "pipeline.toml", "--log", "info", "--log-file", "pipeline.toml"]);
    assert!(ran.code == 2 && ran.stderr.contains("`pipeline.toml` is there and is no log"), "{}", ran.stderr);
    assert_eq!(fs::read(workspace.path("pipeline.toml")).unwrap(), precious);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The end of the training of each stage.
    assert!(lines.len() >= 8 && lines.iter().all(|line| line["target"] == "s3t_train::trainer"), "{log}");
    assert!(lines.iter().all(|line| line["span"]["stage"].as_str().is_some_and(|key| key.len() == 64)), "{log}");
}

#[test]
fn without_the_option_nothing_is_logged() {
    let workspace = Workspace::new();
    let ran = workspace.run(&["train", "pipeline.toml", "--quiet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
