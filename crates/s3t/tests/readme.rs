//! The Rust of the README: the function below, on a tiny model and toy records.
#![allow(clippy::print_stdout, reason = "the example of the README prints")]

use s3t::prelude::*;

// README: from here
fn forget(records: &[Record]) -> Result<(), Box<dyn std::error::Error>> {
    // `s3t init` writes a pipeline file. The store is made from its data, if there is none yet.
    let system = System::open(Pipeline::read("pipeline.toml".as_ref())?)?;
    system.train(&Quiet)?;
    let answers = system.predict(records)?;
    let deletion = system.delete(&[], &[SubjectId::new("subject-1")?])?;
    let verified = system.verify(VerifyScope::All, &Quiet)?;
    println!("{} answers, {} shards hit, sound: {}", answers.len(), deletion.cuts.len(), verified.passed());
    Ok(())
}
// README: to here

const PIPELINE: &str = r#"
[model]
path = "model"

[data]
labels = ["a", "b", "c"]
train = { type = "jsonl", file = "train.jsonl", id = "id", subject = "subject", features = "x" }

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
epochs = 1
learning_rate = 0.01

[store]
path = "store"
"#;

#[test]
fn the_readme_shows_this_function() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let here = include_str!("readme.rs");
    let function = here.split("// README: from here\n").nth(1).unwrap().split("// README: to here").next().unwrap();
    let block = readme.split("```rust,no_run\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block, format!("use s3t::prelude::*;\n\n{function}"));
}

#[test]
fn the_function_trains_answers_forgets_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    // The function reads a file of the current folder, as a program does that is started there.
    std::env::set_current_dir(folder.path()).unwrap();
    s3t_testkit::write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let records = s3t_testkit::toy_records(40, 10, 1);
    let mut lines = String::new();
    for record in &records {
        let Payload::Features(x) = &record.payload else { unreachable!("toy records are features") };
        let label = ["a", "b", "c"][record.target.class().unwrap() as usize];
        lines += &serde_json::json!({ "id": record.id, "subject": record.subject, "label": label, "x": x }).to_string();
        lines.push('\n');
    }
    std::fs::write("train.jsonl", lines).unwrap();
    std::fs::write("pipeline.toml", PIPELINE).unwrap();
    forget(&records[..5]).unwrap();
    let pipeline = Pipeline::read("pipeline.toml".as_ref()).unwrap();
    let system = System::open(pipeline).unwrap();
    assert_eq!(system.status().unwrap().epoch.0, 1);
}
