//! Every reader of files from outside: sound files, what reads them in the library, and the commands that read them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use s3t::core::{Limits, Payload, PerShard, PictureInput, Record, RecordId, SubjectId, Target, Task};
use s3t::data::{read_image_question, read_probabilities, read_questions};
use s3t::engine::{Pipeline, Preview};
use s3t::ledger::{Entry, Named, Receipt, VerifyingKey, read_entries};
use s3t::models::{Device, LoadOptions};
use s3t::simulation::{Simulation, Stream, Trace};

use super::workspace::{Workspace, repository};

/// A folder of sound files, of which one is changed.
pub struct Case {
    /// The folder below the template.
    pub folder: &'static str,
    /// The files that may be changed.
    pub files: &'static [&'static str],
    /// Reads the folder with the library.
    pub read: fn(&Path),
    /// Commands that read it, each to be run in the folder.
    pub commands: &'static [&'static [&'static str]],
}

const PLAN: &[&[&str]] = &[&["plan", "pipeline.toml"], &["advise", "pipeline.toml", "--json"]];
const ASK: &[&[&str]] = &[&["predict", "--model", "model", "--input", "questions.jsonl", "--limit", "2"]];
const ADAPTED: &[&[&str]] =
    &[&["predict", "--model", "model", "--adapter", "adapter", "--input", "questions.jsonl", "--limit", "2"]];
const PICTURE: &[&[&str]] = &[&["predict", "--model", "model", "--image", "images/a.png", "--image", "images/b.jpg"]];

pub const CASES: &[Case] = &[
    Case { folder: "features", files: &["pipeline.toml"], read: plan, commands: PLAN },
    Case { folder: "csv", files: &["pipeline.toml", "train.csv", "prior.csv"], read: plan, commands: PLAN },
    Case { folder: "features", files: &["train.jsonl", "test.jsonl"], read: plan, commands: PLAN },
    Case { folder: "csv-gz", files: &["train.csv.gz"], read: plan, commands: PLAN },
    Case { folder: "idx", files: &["images.idx", "labels.idx", "subjects.csv"], read: plan, commands: PLAN },
    Case { folder: "idx-gz", files: &["images.idx.gz", "labels.idx.gz"], read: plan, commands: PLAN },
    Case { folder: "pictures", files: &["images/a.png", "images/b.jpg"], read: pictures, commands: PICTURE },
    Case { folder: "pictures", files: &["list.csv", "images/a.png", "images/b.jpg"], read: plan, commands: PLAN },
    Case { folder: "pictures-jsonl", files: &["list.jsonl", "pipeline.toml"], read: plan, commands: PLAN },
    Case {
        folder: "texts",
        files: &["train.jsonl", "pipeline.toml", "model/tokenizer.json"],
        read: plan,
        commands: PLAN,
    },
    Case { folder: "instructions", files: &["train.csv", "model/config.json"], read: plan, commands: PLAN },
    Case { folder: "vit-classifier", files: MODEL, read: model, commands: ASK },
    Case { folder: "vit-classifier", files: &["model/preprocessor_config.json"], read: model, commands: ASK },
    Case { folder: "bert-classifier", files: MODEL, read: model, commands: ASK },
    Case { folder: "roberta-classifier", files: MODEL, read: model, commands: ASK },
    Case { folder: "llama-causal", files: MODEL, read: model, commands: ASK },
    Case { folder: "llama-classifier", files: MODEL, read: model, commands: ASK },
    Case { folder: "bert-sharded-bf16", files: SHARDED, read: model, commands: ASK },
    Case { folder: "bert-classifier", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "roberta-classifier", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "llama-causal", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "llama-classifier", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "unigram", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "wordlevel", files: TOKENIZER, read: model, commands: ASK },
    Case { folder: "bert-classifier", files: &["questions.jsonl"], read: questions, commands: ASK },
    Case { folder: "vit-classifier", files: &["questions.jsonl"], read: questions, commands: ASK },
    Case { folder: "bert-classifier-lora", files: ADAPTER, read: adapter, commands: ADAPTED },
    Case { folder: "bert-classifier-prefix", files: ADAPTER, read: adapter, commands: ADAPTED },
    Case { folder: "llama-causal-dora", files: ADAPTER, read: adapter, commands: ADAPTED },
    Case { folder: "vit-classifier-ia3", files: ADAPTER, read: adapter, commands: ADAPTED },
    Case {
        folder: "store",
        files: &["receipt.json"],
        read: receipt,
        commands: &[
            &["receipt", "verify", "receipt.json", "--key", "key.pub", "--subject", "subject-1"],
            &["receipt", "show", "receipt.json"],
            &["audit", "pipeline.toml", "--receipt", "receipt.json", "--scope", "lineages"],
        ],
    },
    Case {
        folder: "store",
        files: &["checkpoint", "key.pub", "entry", "entries"],
        read: ledger,
        commands: &[
            &["receipt", "verify", "receipt.json", "--key", "key.pub"],
            &["audit", "pipeline.toml", "--checkpoint", "checkpoint", "--scope", "lineages"],
        ],
    },
    Case {
        folder: "traces",
        files: &["subjects.csv", "slices.csv"],
        read: traces,
        commands: &[
            &[
                "simulate",
                "--shards",
                "2",
                "--slices",
                "3",
                "--stream",
                "trace",
                "--trace",
                "subjects.csv",
                "--trials",
                "50",
            ],
            &["simulate", "--shards", "2", "--slices", "3", "--stream", "trace", "--trace", "slices.csv"],
        ],
    },
];

const MODEL: &[&str] = &["model/config.json", "model/model.safetensors"];
const SHARDED: &[&str] = &["model/model.safetensors.index.json", "model/model-00002-of-00004.safetensors"];
const TOKENIZER: &[&str] = &["model/tokenizer.json"];
const ADAPTER: &[&str] = &["adapter/adapter_config.json", "adapter/adapter_model.safetensors"];

fn plan(folder: &Path) {
    if let Ok(pipeline) = Pipeline::read(&folder.join("pipeline.toml")) {
        drop(Preview::new(&pipeline));
    }
    drop(read_probabilities(&folder.join("prior.csv"), &Limits::default()));
}

fn pictures(folder: &Path) {
    for file in ["images/a.png", "images/b.jpg"] {
        for input in [None, Some(PictureInput::resized(1, 4, 4)), Some(PictureInput::resized(3, 9, 9))] {
            drop(read_image_question(&folder.join(file), input.as_ref()));
        }
    }
}

fn texts() -> Vec<Record> {
    let long = "a good film ".repeat(300);
    let texts =
        ["", " ", "a good film", "the end \u{1f469}\u{200d}\u{1f469} é\u{301}\u{0}\t", "[PAD][CLS]<s></s>", &long];
    let of = |(row, text): (usize, &&str)| Record {
        id: RecordId::new(format!("r{row}")).expect("a sound id"),
        subject: None,
        target: if row % 2 == 0 { Target::None } else { Target::Text((*text).to_owned()) },
        ordinal: row as u64,
        payload: Payload::Text((*text).to_owned()),
    };
    texts.iter().enumerate().map(of).collect()
}

fn model(folder: &Path) {
    if let Ok(model) = s3t::models::load(&folder.join("model"), LoadOptions::default(), &Device::flex()) {
        for record in texts() {
            if let Ok(input) = model.prepare(&record) {
                drop(model.decode(&input.ids));
            }
        }
        drop(model.decode(&[0, 1, 2, u32::MAX]));
    }
}

fn questions(folder: &Path) {
    for input in [None, Some(PictureInput::resized(1, 4, 4))] {
        drop(read_questions(&folder.join("questions.jsonl"), input.as_ref(), &Limits::default()));
    }
}

fn adapter(folder: &Path) {
    let model = s3t::models::load(&folder.join("model"), LoadOptions::default(), &Device::flex());
    let model = model.expect("the model is sound");
    if let Ok(adapter) = s3t::interchange::read_adapter(&folder.join("adapter"), &model, &[]) {
        drop(adapter.model(&model, &Device::flex(), Task::Classification { classes: adapter.outputs().max(1) }));
    }
}

fn key(folder: &Path) -> Option<VerifyingKey> {
    fs::read_to_string(folder.join("key.pub")).ok()?.parse().ok()
}

fn receipt(folder: &Path) {
    let Ok(text) = fs::read_to_string(folder.join("receipt.json")) else { return };
    let Ok(receipt) = Receipt::parse(&text) else { return };
    if let Some(key) = key(folder) {
        drop(receipt.verify(&key));
    }
    let (record, subject) = (RecordId::new("record-1"), SubjectId::new("subject-1"));
    drop(receipt.names(Named::Record(&record.expect("a sound id"))));
    drop(receipt.names(Named::Subject(&subject.expect("a sound id"))));
}

fn ledger(folder: &Path) {
    if let (Some(key), Ok(text)) = (key(folder), fs::read_to_string(folder.join("checkpoint"))) {
        drop(key.check(&text));
    }
    drop(Entry::from_bytes(0, &fs::read(folder.join("entry")).expect("it is there")));
    drop(read_entries(&fs::read(folder.join("entries")).expect("it is there")));
}

fn traces(folder: &Path) {
    for file in ["subjects.csv", "slices.csv"] {
        let Ok(trace) = Trace::read(&folder.join(file), |_, _, _| Ok(())) else { continue };
        let simulation = Simulation {
            shape: s3t::core::PartitionShape { shards: 2, slices: 3 },
            sequences: PerShard::alike(vec![
                s3t::core::Sequence::new((0..3).map(s3t::core::SliceId).collect(), 3).expect("a permutation"),
            ]),
            stream: Stream::Trace(trace),
            records: None,
            trials: 3,
            seed: 0,
            max_requests: 1000,
        };
        drop(simulation.lifetimes());
        drop(simulation.curve(&[0, 1, 5]));
    }
}

/// Writes all folders below `root`.
#[allow(clippy::too_many_lines, reason = "one folder after the other")]
pub fn write_template(root: &Path) {
    let workspace = Workspace::new();
    let make = |name: &str| {
        let folder = root.join(name);
        fs::create_dir_all(&folder).expect("a new folder");
        folder
    };
    let shorten = |file: &str| {
        let text = fs::read_to_string(workspace.path(file)).expect("it is there");
        text.lines().take(15).fold(String::new(), |all, line| all + line + "\n")
    };
    let pipeline = s3t_testkit::PIPELINE;
    let source = "type = \"jsonl\"\nfile = \"train.jsonl\"\nid = \"id\"\nsubject = \"subject\"\nfeatures = \"x\"";
    let test = "[data.test]\ntype = \"jsonl\"\nfile = \"test.jsonl\"\nid = \"id\"\nfeatures = \"x\"\n";
    let with = |folder: &Path, source_of: &str| {
        copy(&workspace.path("model"), &folder.join("model"));
        write(folder, "pipeline.toml", pipeline.replace(source, source_of).replace(test, ""));
    };

    let folder = make("features");
    copy(&workspace.path("model"), &folder.join("model"));
    write(&folder, "pipeline.toml", pipeline);
    write(&folder, "train.jsonl", shorten("train.jsonl"));
    write(&folder, "test.jsonl", shorten("test.jsonl"));

    let columns: Vec<String> = (0..16).map(|column| format!("x{column}")).collect();
    let mut table = format!("name,who,label,{}\n", columns.join(","));
    for row in 0..12 {
        let values: Vec<String> = (0..16).map(|column| format!("{}.{column}", row % 3)).collect();
        table.push_str(&format!("r{row},\"p, {}\",class-{},{}\n", row / 3, row % 3, values.join(",")));
    }
    let names = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
    for (name, file) in [("csv", "train.csv"), ("csv-gz", "train.csv.gz")] {
        let folder = make(name);
        with(
            &folder,
            &format!("type = \"csv\"\nfile = \"{file}\"\nid = \"name\"\nsubject = \"who\"\nfeatures = [{names}]"),
        );
        write(&folder, file, if name == "csv" { table.clone().into_bytes() } else { packed(table.as_bytes()) });
        write(&folder, "prior.csv", "subject,probability\n\"p, 0\",0.5\n\"p, 1\",0.25\n");
        if name == "csv" {
            let text = fs::read_to_string(folder.join("pipeline.toml")).expect("it is there");
            let text = text.replace("budget = 2", "budget = 2\nprior = \"prior.csv\"");
            write(
                &folder,
                "pipeline.toml",
                format!("{text}\n[limits]\nfile_mb = 100\n[data.duplicates]\nexact = true\n"),
            );
        }
    }

    let mut images = [&[0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0, 4][..], &[7; 192]].concat();
    images[40] = 255;
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 12][..], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]].concat();
    for (name, ending) in [("idx", ""), ("idx-gz", ".gz")] {
        let folder = make(name);
        let bytes = |plain: &[u8]| if ending.is_empty() { plain.to_vec() } else { packed(plain) };
        with(
            &folder,
            &format!(
                "type = \"idx\"\nimages = \"images.idx{ending}\"\nlabels = \"labels.idx{ending}\"\nsubjects = \"subjects.csv\""
            ),
        );
        write(&folder, &format!("images.idx{ending}"), bytes(&images));
        write(&folder, &format!("labels.idx{ending}"), bytes(&labels));
        write(&folder, "subjects.csv", "id,subject\nrow-1,ann\nrow-2,ann\nrow-5,bob\n");
    }

    for (name, list) in [("pictures", "list.csv"), ("pictures-jsonl", "list.jsonl")] {
        let folder = make(name);
        with(
            &folder,
            &format!(
                "type = \"image-folder\"\nroot = \"images\"\nmanifest = \"{list}\"\nchannels = 1\nresize = [4, 4]"
            ),
        );
        fs::create_dir(folder.join("images")).expect("a new folder");
        write(&folder, "images/a.png", s3t_testkit::grey_png(6, 5, &[9; 30]));
        write(&folder, "images/b.jpg", jpeg());
        let rows = [("a.png", "class-0", "ann"), ("b.jpg", "class-1", "bob"), ("./a.png", "class-2", "")];
        let text = if list == "list.csv" {
            let lines = rows.map(|(file, label, subject)| format!("{file},{label},{subject}\n"));
            format!("file,label,subject\n{}", lines.concat())
        } else {
            rows.map(|(file, label, subject)| {
                format!("{}\n", serde_json::json!({ "file": file, "label": label, "subject": subject }))
            })
            .concat()
        };
        write(&folder, list, text);
    }

    for (name, model) in [("texts", "bert-classifier"), ("instructions", "llama-causal")] {
        let folder = make(name);
        let source_of = if name == "texts" {
            "type = \"jsonl\"\nfile = \"train.jsonl\"\ntext = \"text\""
        } else {
            "type = \"csv\"\nfile = \"train.csv\"\ntemplate = \"{a}: {b} =\"\nlabel = \"answer\""
        };
        let text = pipeline.replace(source, source_of).replace(test, "");
        let text = if name == "texts" {
            text
        } else {
            text.replace("labels = [\"class-0\", \"class-1\", \"class-2\"]", "task = \"causal-lm\"")
        };
        write(&folder, "pipeline.toml", text);
        copy_model(model, &folder.join("model"));
        let line = |row: usize| format!("{{\"text\": \"a good film {row}\", \"label\": \"class-{}\"}}\n", row % 3);
        write(&folder, "train.jsonl", (0..9).map(line).collect::<String>());
        let line = |row: usize| format!("the,\"end, {row}\",again {row}\n");
        write(&folder, "train.csv", format!("a,b,answer\n{}", (0..9).map(line).collect::<String>()));
    }

    for name in [
        "vit-classifier",
        "bert-classifier",
        "roberta-classifier",
        "llama-causal",
        "llama-classifier",
        "bert-sharded-bf16",
    ] {
        with_questions(name, &make(name));
    }
    for (name, tokenizer) in [("unigram", unigram()), ("wordlevel", wordlevel())] {
        let folder = make(name);
        with_questions("bert-classifier", &folder);
        write(&folder, "model/tokenizer.json", tokenizer.to_string());
    }
    for (model, method) in [
        ("bert-classifier", "lora"),
        ("bert-classifier", "prefix"),
        ("llama-causal", "dora"),
        ("vit-classifier", "ia3"),
    ] {
        let folder = make(&format!("{model}-{method}"));
        with_questions(model, &folder);
        copy(&golden(model).join("adapters").join(method), &folder.join("adapter"));
    }
    write_store(&workspace, &make("store"));
    let folder = make("traces");
    write(&folder, "subjects.csv", "when,subject\n1,ann\n2,bob\n3,ann\n4,\"c, d\"\n");
    write(&folder, "slices.csv", "shard,slice\n0,1\n1,2\n0,0\n1,0\n");
}

/// A store with a deletion, its receipt, key, checkpoint and entries.
fn write_store(workspace: &Workspace, folder: &Path) {
    let run = |args: &[&str]| {
        let ran = workspace.run(args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    run(&["train", "pipeline.toml", "--quiet"]);
    run(&["delete", "pipeline.toml", "--subject", "subject-1", "--request-id", "t1", "--receipt", "receipt.json"]);
    copy(&workspace.path("."), folder);
    copy(&workspace.path("store/ledger/key.pub"), &folder.join("key.pub"));
    copy(&workspace.path("store/ledger/checkpoint"), &folder.join("checkpoint"));
    let entry = br#"{"at":5,"event":"accepted","epoch":1,"request":"00","named":"11","records":3,"effect":"22"}"#;
    write(folder, "entry", entry);
    write(folder, "entries", [&(entry.len() as u16).to_be_bytes()[..], &entry[..]].concat().repeat(3));
}

fn with_questions(model: &str, folder: &Path) {
    copy_model(model, &folder.join("model"));
    if model.starts_with("vit") {
        let config = fs::read_to_string(folder.join("model/config.json")).expect("it is there");
        let config: serde_json::Value = serde_json::from_str(&config).expect("it is JSON");
        let side = config["image_size"].as_u64().expect("a size") as u32;
        let channels = config["num_channels"].as_u64().expect("a number") as u32;
        write(folder, "a.png", s3t_testkit::grey_png(side, side, &vec![9; (side * side) as usize]));
        let values = vec![0.25; (side * side * channels) as usize];
        let lines = [
            serde_json::json!({ "id": "one", "image": "a.png" }).to_string(),
            serde_json::json!({ "features": values }).to_string(),
        ];
        write(folder, "questions.jsonl", lines.join("\n"));
    } else {
        write(folder, "questions.jsonl", "{\"text\": \"a good film\"}\n{\"id\": 7, \"text\": \"the end\"}\n");
    }
}

fn golden(name: &str) -> PathBuf {
    repository().join("crates/s3t/tests/golden").join(name)
}

fn copy_model(name: &str, to: &Path) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(golden(name)).expect("a golden model") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            copy(&path, &to.join(path.file_name().expect("a name")));
        }
    }
}

/// Copies a file, or a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a new folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("it is copied");
    }
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).expect("it is written");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes all bytes");
    encoder.finish().expect("memory takes all bytes")
}

fn jpeg() -> Vec<u8> {
    include_bytes!("../../../s3t-data/tests/golden-pictures/17x13-1-q35.jpg").to_vec()
}

/// The kinds of tokenizers that no golden model has.
fn unigram() -> serde_json::Value {
    let pieces =
        ["<unk>", "a", "\u{2581}a", "\u{2581}good", "\u{2581}film", "\u{2581}the", "\u{2581}end", "d", "<0x41>"];
    let scores: Vec<(&str, f64)> = pieces.iter().enumerate().map(|(id, piece)| (*piece, -(id as f64))).collect();
    serde_json::json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": 4, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>" },
        "added_tokens": [{ "id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFKC" }, { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " },
            { "type": "Strip", "strip_left": true, "strip_right": true }, { "type": "Prepend", "prepend": "\u{2581}" } ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true },
            { "type": "Split", "pattern": { "Regex": "[0-9]+" }, "behavior": "Isolated", "invert": false },
            { "type": "Digits", "individual_digits": true } ] },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<unk>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<unk>": { "id": "<unk>", "ids": [0], "tokens": ["<unk>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "ByteFallback" }, { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            { "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true } ] },
        "model": { "type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": scores },
    })
}

fn wordlevel() -> serde_json::Value {
    let words = ["[UNK]", "a", "good", "film", "the", "end", "[CLS]", "[SEP]"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{ "id": 6, "content": "[CLS]", "single_word": true, "lstrip": true, "rstrip": true, "normalized": true, "special": true }],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Whitespace" }, { "type": "Punctuation", "behavior": "Contiguous" }, { "type": "CharDelimiterSplit", "delimiter": "-" },
            { "type": "UnicodeScripts" }, { "type": "FixedLength", "length": 5 } ] },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 7], "cls": ["[CLS]", 6] },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    })
}
