//! A folder as a user has it: a base model, data and a pipeline file.

use std::path::Path;
use std::{fs, io};

use s3t_core::{Payload, Record};

use crate::{toy_records, write_tiny_model};

/// The pipeline file of [`write_workspace`].
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

/// Toy records as JSON lines, with the fields `id`, `subject`, `label` and `x`.
///
/// # Panics
///
/// If a record is not one of [`toy_records`].
pub fn jsonl(records: &[Record]) -> String {
    let line = |record: &Record| {
        let Payload::Features(values) = &record.payload else { unreachable!("toy records are features") };
        let label = format!("class-{}", record.target.class().expect("toy records have a class"));
        let fields = serde_json::json!({ "id": record.id, "subject": record.subject, "label": label, "x": values });
        format!("{fields}\n")
    };
    records.iter().map(line).collect()
}

/// Writes the tiny model to `model`, 60 records of 20 subjects to `train.jsonl`, 30 to `test.jsonl`, and [`PIPELINE`] to
/// `pipeline.toml`.
///
/// # Errors
///
/// [`io::Error`] if a file cannot be written.
pub fn write_workspace(folder: &Path) -> io::Result<()> {
    write_tiny_model(&folder.join("model"), 4).map_err(io::Error::other)?;
    fs::write(folder.join("pipeline.toml"), PIPELINE)?;
    fs::write(folder.join("train.jsonl"), jsonl(&toy_records(60, 20, 7)))?;
    fs::write(folder.join("test.jsonl"), jsonl(&toy_records(30, 0, 7)))
}

/// Copies a folder with everything in it, into one that may be there already.
///
/// # Errors
///
/// [`io::Error`] if a file or folder cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
