//! A folder with a tiny model, data and a pipeline file, and the program to run in it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use s3t::core::Payload;
use s3t_testkit::{toy_records, write_tiny_model};
use tempfile::TempDir;

pub const PIPELINE: &str = r#"
seed = 1

[model]
path = "model"

[data]
labels = ["class-0", "class-1", "class-2"]

[data.train]
type = "jsonl"
file = "train.jsonl"
id = "id"
subject = "subject"
features = "x"

[data.test]
type = "jsonl"
file = "test.jsonl"
id = "id"
features = "x"

[partition]
type = "keyed-hash"
shards = 2
slices = 2

[sequences]
type = "cyclic"
budget = 2

[peft]
type = "lora"
rank = 2

[training]
epochs = 2
batch_size = 8
learning_rate = 0.01

[store]
path = "store"

[run]
delete_subjects = ["subject-1"]
"#;

pub struct Workspace(TempDir);

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Workspace {
    pub fn new() -> Self {
        let workspace = Self(tempfile::tempdir().unwrap());
        write_tiny_model(&workspace.path("model"), 4).unwrap();
        workspace.write("pipeline.toml", PIPELINE);
        workspace.write("train.jsonl", jsonl(60, 20));
        workspace.write("test.jsonl", jsonl(30, 0));
        workspace
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Changes the first `old` in a file to `new`.
    pub fn edit(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "{name} has no {old}");
        self.write(name, text.replacen(old, new, 1));
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3t"));
        command.current_dir(self.0.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command().args(args).output().unwrap())
    }

    /// Runs a command that must succeed and gives its JSON object.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn jsonl(count: u64, subjects: u64) -> String {
    let mut text = String::new();
    for record in toy_records(count, subjects, 7) {
        let Payload::Features(values) = &record.payload else { unreachable!("toy records are features") };
        let line = serde_json::json!({
            "id": record.id, "subject": record.subject, "label": format!("class-{}", record.target.class().unwrap()), "x": values,
        });
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
