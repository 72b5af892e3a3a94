//! Models and adapters as people have them, asked through the program: it gives the logits of Python `transformers` and `peft`, or
//! refuses and names what it does not take. Made by `xtask/golden/make_cases.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use s3t_testkit::copy_folder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    base: String,
    arguments: Vec<String>,
    adapter: bool,
    logits: Option<Vec<Vec<f64>>>,
    refused: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Answers {
    predictions: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    logits: Vec<f64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The fault of the program's answer to a case; empty if the answer is right.
fn problem(name: &str) -> String {
    let case: Case =
        serde_json::from_str(&std::fs::read_to_string(root().join(name).join("case.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&root().join("bases").join(&case.base), folder.path()).unwrap();
    copy_folder(&root().join(name), folder.path()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3t"));
    command.current_dir(folder.path()).args(["predict", "--model", ".", "--input", "questions.jsonl", "--json"]);
    if case.adapter {
        command.args(["--adapter", "adapter"]);
    }
    let ran = command.args(&case.arguments).output().unwrap();
    let message = String::from_utf8(ran.stderr).unwrap();
    match (case.logits, case.refused) {
        (Some(expected), None) if ran.status.success() => {
            let answers: Answers = serde_json::from_slice(&ran.stdout).unwrap();
            let found: Vec<Vec<f64>> = answers.predictions.into_iter().map(|answer| answer.logits).collect();
            let sizes = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
            if sizes(&found) != sizes(&expected) {
                return format!("{name}: outputs {:?}, not {:?}", sizes(&found), sizes(&expected));
            }
            let apart = found.iter().flatten().zip(expected.iter().flatten()).map(|(one, other)| (one - other).abs());
            let largest = apart.fold(0.0, f64::max);
            if largest < 1e-4 { String::new() } else { format!("{name}: {largest} apart from Python") }
        }
        (Some(_), None) => format!("{name}: refused: {message}"),
        (None, Some(_)) if ran.status.success() => format!("{name}: not refused"),
        (None, Some(parts)) => {
            let code = ran.status.code();
            if code != Some(1) && code != Some(2) {
                return format!("{name}: exit {code:?}: {message}");
            }
            let missing = parts.iter().find(|part| !message.contains(part.as_str()));
            missing.map_or_else(String::new, |part| format!("{name}: `{part}` is not in: {message}"))
        }
        _ => format!("{name}: case.json has to hold `logits` or `refused`"),
    }
}

#[test]
fn the_program_gives_what_python_gives_or_refuses_by_name() {
    let entries = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "bases").collect();
    names.sort();
    assert!(names.len() > 60, "only {} cases", names.len());
    let problems: Vec<String> = names.iter().map(|name| problem(name)).filter(|problem| !problem.is_empty()).collect();
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), names.len(), problems.join("\n"));
}
