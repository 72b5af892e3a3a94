//! The laws of `s3t-laws`, which know nothing of S3T, on the program `s3t` from outside: every step is a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use s3t_laws::{
    Answers, Capability, Content, Description, Forgotten, Guarantee, Home, Launcher, Law, LawsError, Record, Settings,
    UnlearningSystem, Verdict, check,
};
use s3t_testkit::write_tiny_model;
use serde_json::{Value, json};
use tempfile::TempDir;

const UNKNOWN: i32 = 3;
const NO_SHARD: i32 = 7;

/// Systems that share one tiny model. Pipeline files and records lie outside of the folders that are searched.
struct Program(TempDir);

/// A pipeline with its store in the folder of a world.
struct Pipeline {
    description: Description,
    outside: PathBuf,
}

impl Launcher for Program {
    fn launch(&self, home: &Home) -> Result<Box<dyn UnlearningSystem>, LawsError> {
        let outside = self.0.path().join(home.folder.file_name().expect("a world has a folder of its own"));
        fs::create_dir_all(&outside).unwrap();
        let (store, seed) = (home.folder.join("store"), home.seed);
        let store = store.display();
        fs::write(
            outside.join("pipeline.toml"),
            format!(
                r#"
seed = {seed}
model.path = "../model"
store = {{ path = "{store}", secret = "from-seed" }}
peft = {{ type = "lora", rank = 2 }}
training = {{ epochs = 2, batch_size = 8, learning_rate = 0.01 }}
partition = {{ type = "keyed-hash", shards = 2, slices = 2 }}
sequences = {{ type = "cyclic", budget = 2 }}

[data]
labels = ["class-0", "class-1", "class-2"]
train = {{ type = "jsonl", file = "train.jsonl", id = "id", subject = "subject", features = "x" }}
test = {{ type = "jsonl", file = "test.jsonl", id = "id", features = "x" }}
"#
            ),
        )
        .unwrap();
        let description = Description::new("s3t", Guarantee::Bits).with(Capability::Settle).with(Capability::Restart);
        let pipeline = Pipeline { description, outside };
        let zeros: Vec<f64> = vec![0.0; 8];
        pipeline.ask(&[Content::from_iter([("features".into(), zeros.into())])]);
        Ok(Box::new(pipeline))
    }
}

impl Pipeline {
    /// The exit code and the JSON of a command.
    fn run(&self, arguments: &[&str]) -> Result<(i32, Value), LawsError> {
        let output = Command::new(env!("CARGO_BIN_EXE_s3t"))
            .current_dir(&self.outside)
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        let code = output.status.code().unwrap_or(-1);
        if ![0, UNKNOWN, NO_SHARD].contains(&code) {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(LawsError::Refused { op: arguments.join(" "), message });
        }
        Ok((code, serde_json::from_slice(&output.stdout).unwrap_or_default()))
    }

    /// Writes questions where the pipeline has its test data.
    fn ask(&self, questions: &[Content]) {
        let line = |(row, question): (usize, &Content)| json!({"id": format!("question-{row}"), "label": "class-0", "x": features(question)});
        self.write("test.jsonl", questions.iter().enumerate().map(line));
    }

    fn write(&self, name: &str, lines: impl Iterator<Item = Value>) {
        let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
        fs::write(self.outside.join(name), lines.join("\n")).unwrap();
    }
}

/// The tiny model's sixteen features from eight.
fn features(content: &Content) -> Vec<Value> {
    let eight = content["features"].as_array().unwrap();
    eight.iter().chain(eight).cloned().collect()
}

impl UnlearningSystem for Pipeline {
    fn description(&self) -> &Description {
        &self.description
    }

    fn train(&mut self, records: &[Record]) -> Result<(), LawsError> {
        let line = |record: &Record| {
            let label = format!("class-{}", record.content["label"]);
            json!({"id": record.id, "subject": record.subject, "label": label, "x": features(&record.content)})
        };
        self.write("train.jsonl", records.iter().map(line));
        self.run(&["train", "pipeline.toml"])?;
        // The store has its own copy; the source is the operator's to delete.
        fs::remove_file(self.outside.join("train.jsonl")).unwrap();
        Ok(())
    }

    fn forget(&mut self, ids: &[String]) -> Result<Forgotten, LawsError> {
        let named = ids.iter().flat_map(|id| ["--record", id]);
        let arguments: Vec<&str> = ["delete", "pipeline.toml"].into_iter().chain(named).collect();
        let (code, _) = self.run(&arguments)?;
        Ok(if code == UNKNOWN { Forgotten::Unknown } else { Forgotten::Done })
    }

    fn settle(&mut self) -> Result<(), LawsError> {
        self.run(&["repair", "pipeline.toml"]).map(|_| ())
    }

    fn answer(&mut self, questions: &[Content]) -> Result<Answers, LawsError> {
        self.ask(questions);
        let (code, answer) = self.run(&["predict", "pipeline.toml"])?;
        if code == NO_SHARD {
            return Ok(Answers::Unavailable);
        }
        let predictions = answer["predictions"].as_array().unwrap();
        let scores = |prediction: &Value| {
            let scores = prediction["scores"].as_array().unwrap();
            scores.iter().map(|score| score.as_f64().unwrap()).collect()
        };
        Ok(Answers::Given(predictions.iter().map(scores).collect()))
    }
}

#[test]
fn the_program_keeps_the_laws_of_any_unlearning_system() {
    let program = Program(tempfile::tempdir().unwrap());
    write_tiny_model(&program.0.path().join("model"), 4).unwrap();
    let report = check(&program, &Settings { rounds: 1, records: 24, ..Settings::default() }).unwrap();
    assert!(report.passed(), "{report}");
    // Stores are sealed under keys of their own, so that equal runs write different files.
    let untested: Vec<Law> =
        report.laws.iter().filter(|law| matches!(law.verdict, Verdict::NotTested { .. })).map(|law| law.law).collect();
    assert_eq!(untested, [Law::DiskState], "{report}");
}
