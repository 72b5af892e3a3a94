//! Inputs that are too large, and paths that lead out of a folder.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::workspace::Workspace;
use super::{Case, csv, idx, planned};

/// A pipeline with one limit of its own.
fn limit(w: &Workspace, line: &str) {
    w.edit("pipeline.toml", "[run]", &format!("[limits]\n{line}\n\n[run]"));
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn packed_idx(w: &Workspace) {
    idx(w, b"", b"");
    w.edit("pipeline.toml", "images.idx", "images.idx.gz");
    // 64 images of 256 x 256 black pixels: four megabytes in four kilobytes.
    let header = [0, 0, 8, 3, 0, 0, 0, 64, 0, 0, 1, 0, 0, 0, 1, 0];
    w.write("images.idx.gz", packed(&[&header[..], &vec![0; 4 << 20]].concat()));
    w.write("labels.idx", [&[0, 0, 8, 1, 0, 0, 0, 64][..], &[0; 64]].concat());
}

fn question(w: &Workspace, image: &str) {
    w.write("questions.jsonl", format!("\n{{\"image\": \"{image}\"}}\n"));
}

const ASK: &[&str] = &["predict", "--model", "model", "--input", "questions.jsonl"];

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    const PART: &str = "Limits";
    let refused = |situation, args, message| Case { part: PART, situation, spoil: |_| {}, args, code: 2, message };
    vec![
        planned(PART, "unknown limit", |w| limit(w, "file_gb = 1"), "pipeline.toml line 45: `limits.file_gb`: unknown field `file_gb`"),
        planned(PART, "a packed file that unpacks to very much", packed_idx, "bytes unpack to more than 1048576, but at most 100 times as many are read; if that is right, raise `limits.unpacked_ratio` in the pipeline"),
        planned(PART, "a data file with too many bytes", |w| limit(w, "file_mb = 0"), "it has more bytes than that, but at most 0 MB are read; if that is right, raise `limits.file_mb` in the pipeline"),
        planned(PART, "too many records in JSONL", |w| limit(w, "records = 50"), "`train.jsonl` line 51: it has more records than that, but at most 50 are read; if that is right, raise `limits.records` in the pipeline"),
        planned(PART, "too many records in CSV", |w| { csv(w); limit(w, "records = 1"); }, "`train.csv` line 3: it has more records than that, but at most 1 are read"),
        planned(PART, "too many records in an IDX file", |w| { packed_idx(w); limit(w, "records = 5"); }, "it has more records than that, but at most 5 are read"),
        planned(PART, "a line that is too long", |w| { let x = "1,".repeat(700_000); w.write("train.jsonl", format!("{{\"x\": [{x}1]}}")); limit(w, "line_mb = 1"); },
            "`train.jsonl` line 1: it is longer than that, but at most 1 MB are read; if that is right, raise `limits.line_mb` in the pipeline"),
        planned(PART, "too many numbers in a record", |w| limit(w, "columns = 15"), "`train.jsonl` line 1: it has 16 columns, but at most 15 are read; if that is right, raise `limits.columns` in the pipeline"),
        planned(PART, "too many columns in a table", |w| { csv(w); limit(w, "columns = 3"); }, "`train.csv` line 1: it has 4 columns, but at most 3 are read"),
        planned(PART, "JSON that would take much memory", |w| { w.write("train.jsonl", format!("{{\"x\": [{}{{}}]}}", "{\"a\":1},".repeat(5000))); limit(w, "json_mb = 1"); },
            "`train.jsonl` line 1: the JSON would take about 3 MB of memory, but at most 1 MB are read; if that is right, raise `limits.json_mb` in the pipeline"),
        planned(PART, "a text that is too long", |w| { w.edit("pipeline.toml", "features = \"x\"", "text = \"t\""); w.write("train.jsonl", format!("{{\"id\": \"a\", \"subject\": null, \"label\": \"class-0\", \"t\": \"{}\"}}", "ab ".repeat(400))); limit(w, "text_kb = 1"); },
            "`train.jsonl` line 1: a text has 1200 bytes, but at most 1 KB are read; if that is right, raise `limits.text_kb` in the pipeline"),
        planned(PART, "a template that makes a text too long", |w| { w.edit("pipeline.toml", "features = \"x\"", "template = \"{id}{id}{id}{id}{id}{id}\""); w.write("train.jsonl", format!("{{\"id\": \"{}\", \"subject\": null, \"label\": \"class-0\"}}", "a".repeat(200))); limit(w, "text_kb = 1"); },
            "`train.jsonl` line 1: a text has 1200 bytes, but at most 1 KB are read"),
        planned(PART, "too many class names", |w| limit(w, "labels = 2"), "pipeline.toml line 8: `data.labels` has 3 names, but at most 2 are read; if that is right, raise `limits.labels` in the pipeline"),
        planned(PART, "a safetensors file with a long header", |w| limit(w, "header_mb = 0"), "but at most 0 MB are read; if that is right, raise `limits.header_mb` in the pipeline; fetch it again"),
        planned(PART, "a length of the header beyond the file", |w| w.write("model/model.safetensors", [0xff; 64]), "its header has 18446744073709551615 bytes, but the file has 64; fetch it again"),
        planned(PART, "a stage for each of too many sequences", |w| w.edit("pipeline.toml", "shards = 2", "shards = 1000000"), "pipeline.toml line 25: `partition.shards` x slices x budget is 4000000 stages; a plan has at most 1000000"),
        Case { part: PART, situation: "a receipt that is too large", spoil: |w| w.write("receipt.json", " ".repeat(17 << 20)), args: &["receipt", "show", "receipt.json"], code: 2,
            message: "cannot read `receipt.json`: it has more than the 16777216 bytes that are read" },
        Case { part: PART, situation: "a question's image by an absolute path", spoil: |w| question(w, "/etc/hostname"), args: ASK, code: 2,
            message: "`questions.jsonl` line 2: `image` is `/etc/hostname`, which is an absolute path; give a file below the folder of this file" },
        Case { part: PART, situation: "a question's image above its folder", spoil: |w| question(w, "model/../../other.png"), args: ASK, code: 2,
            message: "`questions.jsonl` line 2: `image` is `model/../../other.png`, which leads out of it; give a file below the folder of this file" },
        #[cfg(unix)]
        Case { part: PART, situation: "a question's image behind a link", spoil: |w| { std::os::unix::fs::symlink("/etc", w.path("etc")).unwrap(); question(w, "etc/passwd"); }, args: ASK, code: 2,
            message: "`questions.jsonl` line 2: `image` is `etc/passwd`, which leads out of it through a link; give a file below the folder of this file" },
        refused("sequences that take too long to match", &["compare-sequences", "--shards", "2", "--slices", "4096", "--budget", "64", "--strategies", "bms"],
            "strategy `bms` cannot make 64 distinct sequences of 4096 slices: it would take about 1e12 steps, and 2e9 are made; use fewer slices or a lower budget, or `cyclic`"),
        refused("sequences of all shards that do not fit into memory", &["plan", "--shards", "100000", "--slices", "20", "--budget", "8", "--strategy", "random", "--records", "10000000"],
            "strategy `random` cannot make 8 distinct sequences of 20 slices: budget x slices x shards is 16000000, and 4000000 are held in memory; use fewer shards, slices or a lower budget"),
        refused("a plan that takes too long", &["plan", "--shards", "9000", "--slices", "20", "--budget", "2", "--strategy", "random", "--records", "10000000"],
            "more than --max-work 1e9; give fewer --shards, --slices, --budget or --requests, or raise --max-work"),
        refused("a search over too many shapes", &["advise", "--blocks", "100000", "--records", "100000000", "--max-shards", "100000"],
            "--blocks, --max-shards and --max-budget give more shapes than are searched; lower them, or give --shards, --slices or --budget"),
        refused("a model of impossible size", &["plan", "--shards", "2", "--slices", "2", "--hidden", "18446744073709551615"], "--hidden is 18446744073709551615; it takes up to 1048576"),
        refused("trials that would take long", &["simulate", "--shards", "2", "--slices", "2", "--prior", "0.999999,0.000001", "--budget", "2", "--trials", "10000000"],
            "10000000 trials of about 3,000,000 requests are more than --max-work 1e9; give fewer --trials or --max-requests, or raise --max-work"),
    ]
}
