//! Readers of bytes from outside as fuzz targets: any input gives an answer or an error, never a panic.
//!
//! `fuzz/` runs them with libFuzzer; [`mutate`] makes inputs for a run of fixed length on a stable compiler.

use std::path::Path;

use s3t_core::{Limits, RecordId, Task};
use s3t_data::{CsvSource, IdxSource, JsonlSource, Labels, Source, Targets};
use s3t_engine::Pipeline;
use s3t_ledger::{Entry, Named, Receipt, SigningKey, read_entries};
use s3t_models::{Device, LoadOptions, read_safetensors};

use crate::write_tiny_model;

/// A target: its name, what it does with an input, and inputs to start from.
pub struct Target {
    /// Its name, as `cargo fuzz run` has it.
    pub name: &'static str,
    /// Reads an input.
    pub run: fn(&[u8]),
    /// Sound inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 6] = [
    Target { name: "pipeline", run: pipeline, seeds: pipelines },
    Target { name: "ledger", run: ledger, seeds: ledgers },
    Target { name: "receipt", run: receipt, seeds: receipts },
    Target { name: "safetensors", run: safetensors, seeds: tensor_files },
    Target { name: "dataset", run: dataset, seeds: datasets },
    Target { name: "model", run: model, seeds: models },
];

fn pipeline(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Pipeline::parse(text, "fuzz.toml", Path::new(""));
    }
}

fn pipelines() -> Vec<Vec<u8>> {
    let text = r#"
seed = 3
[model]
path = "model"
[store]
path = "store"
secret = "from-seed"
[data]
task = "classification"
labels = ["a", "b"]
[data.train]
type = "csv"
file = "train.csv"
features = ["x"]
[partition]
type = "keyed-hash"
shards = 2
slices = 3
[sequences]
type = "bms"
budget = 3
prior = [0.2, 0.3, 0.5]
[peft]
type = "lora"
rank = 2
targets = ["query", "value"]
[training]
epochs = 2
learning_rate = 1e-2
[serving]
aggregator = { type = "majority-vote" }
"#;
    vec![text.as_bytes().to_vec()]
}

fn key() -> SigningKey {
    SigningKey::new("s3t/fuzz", &[5; 32]).expect("a sound origin")
}

fn ledger(data: &[u8]) {
    let _ = Entry::from_bytes(0, data);
    let _ = read_entries(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = key().verifying_key().check(text);
        let _ = text.parse::<s3t_ledger::VerifyingKey>();
    }
}

fn ledgers() -> Vec<Vec<u8>> {
    let entry = br#"{"at":5,"event":"erased","epoch":1}"#.to_vec();
    let bundle = [&(entry.len() as u16).to_be_bytes()[..], &entry].concat();
    let checkpoint = key().sign(1, &s3t_ledger::leaf_hash(&entry)).expect("it is signed");
    vec![entry, bundle, checkpoint.into_bytes(), key().verifying_key().to_string().into_bytes()]
}

fn receipt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(receipt) = Receipt::parse(text) {
        let _ = receipt.verify(&key().verifying_key());
        if let Ok(record) = RecordId::new("record-1") {
            let _ = receipt.names(Named::Record(&record));
        }
    }
}

fn receipts() -> Vec<Vec<u8>> {
    let digest = "ab".repeat(32);
    let proven = serde_json::json!({ "index": 1, "entry": "{}", "path": [digest, digest] });
    let receipt = serde_json::json!({
        "format": 1, "request": "r", "opening": digest, "named": [digest], "accepted": proven, "effective": null, "erased": proven,
        "effect": { "epoch": 1, "records": 1, "slices": [{ "shard": 0, "slice": 1 }], "cut": [digest],
                    "serves": [{ "shard": 0, "stage": null, "depth": 0 }] },
        "checkpoint": key().sign(2, &s3t_ledger::leaf_hash(b"")).expect("it is signed"),
    });
    vec![receipt.to_string().into_bytes()]
}

/// Runs `read` on a file with these bytes.
fn with_file(data: &[u8], read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("input");
    std::fs::write(&path, data).expect("the input is written");
    read(&path);
}

fn safetensors(data: &[u8]) {
    with_file(data, |path| drop(read_safetensors(path)));
}

fn tensor_files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_model(folder.path(), 1).expect("the model is written");
    vec![std::fs::read(folder.path().join("model.safetensors")).expect("it is there")]
}

fn dataset(data: &[u8]) {
    let labels = Labels::new(vec!["a".into(), "b".into()]).expect("two names");
    let tasks =
        [Task::Classification { classes: 2 }, Task::MultiLabel { classes: 2 }, Task::Regression, Task::CausalLm];
    with_file(data, |path| {
        let folder = path.parent().unwrap_or(path);
        for task in tasks {
            let targets = Targets { task, labels: &labels, limits: Limits::default() };
            for source in sources() {
                drop(source.read(folder, &targets));
            }
        }
    });
}

fn sources() -> Vec<Source> {
    let csv: CsvSource =
        serde_json::from_value(serde_json::json!({ "file": "input", "features": ["x"], "subject": "s" }))
            .expect("a sound source");
    let jsonl: JsonlSource =
        serde_json::from_value(serde_json::json!({ "file": "input", "template": "{x}", "id": "id" }))
            .expect("a sound source");
    let idx: IdxSource =
        serde_json::from_value(serde_json::json!({ "images": "input", "labels": "input" })).expect("a sound source");
    vec![Source::Csv(csv), Source::Jsonl(jsonl), Source::Idx(idx)]
}

fn datasets() -> Vec<Vec<u8>> {
    vec![
        b"x,s,label\n1.5,p,a\n2,\"q,r\",b\n".to_vec(),
        b"{\"id\": \"1\", \"x\": \"t\", \"label\": \"a\"}\n{\"id\": \"2\", \"x\": \"u\", \"label\": [\"b\"]}\n"
            .to_vec(),
        [0_u32.to_be_bytes(), [0, 0, 8, 3], [0, 0, 0, 1], [0, 0, 0, 2]].concat(),
        [&[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2][..], &[7, 9]].concat(),
    ]
}

fn model(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_model(folder.path(), 1).expect("the model is written");
    std::fs::write(folder.path().join("config.json"), data).expect("the input is written");
    drop(s3t_models::load(folder.path(), LoadOptions::default(), &Device::flex()));
}

fn models() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_model(folder.path(), 1).expect("the model is written");
    vec![std::fs::read(folder.path().join("config.json")).expect("it is there")]
}

/// Inputs like a seed, the same in every run.
pub fn mutate(seed: &[u8], number: u64) -> Vec<u8> {
    const WORDS: [&[u8]; 10] =
        [b"-1", b"1e999", b"18446744073709551616", b"\"\"", b"[]", b"{}", b"null", b"\xff\xfe", b"\n", b"[a]\n"];
    let mut state = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most.max(1)
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=below(4) {
        let (at, other) = (below(bytes.len() + 1), below(bytes.len() + 1));
        match below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, WORDS[below(WORDS.len())].iter().copied())),
            3 => drop(bytes.drain(at.min(other)..at.max(other).min(at.min(other) + 16))),
            4 => {
                let copied = bytes[at.min(other)..at.max(other)].to_vec();
                bytes.splice(at..at, copied.into_iter().take(64));
            }
            _ if at < bytes.len() => bytes[at] = below(256) as u8,
            _ => {}
        }
    }
    bytes
}
