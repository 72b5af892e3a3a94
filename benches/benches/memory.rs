//! Peak memory of training with one and with two jobs side by side, on a model whose weights count.
//!
//! Run alone: `cargo bench --bench memory`. It starts itself once for each number of jobs, because a process has one peak.
//! Without `--bench` (as tests run benches) the model is tiny.
#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints a table")]

use std::path::Path;
use std::process::Command;

use s3t::plugins::vit::{VitConfig, random_vit_tensors, write_vit};
use s3t::prelude::*;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder, jobs] = &arguments[..]
        && word == "train"
    {
        train(Path::new(folder), jobs.parse().expect("a number of jobs"));
        return;
    }
    let full = arguments.iter().any(|argument| argument == "--bench");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weights = write_model(&folder.path().join("model"), if full { 384 } else { 16 });
    println!("base weights {weights:.0} MB");
    for jobs in ["1", "2"] {
        let program = std::env::current_exe().expect("this program has a path");
        let arguments = ["train", &folder.path().display().to_string(), jobs].map(str::to_owned);
        let status = Command::new(program).args(arguments).status().expect("this program starts again");
        assert!(status.success(), "training with {jobs} jobs failed");
    }
}

/// A ViT of 6 blocks of this width with arbitrary weights; its size in megabytes.
fn write_model(folder: &Path, width: usize) -> f64 {
    let config = VitConfig {
        model_type: "vit".into(),
        hidden_size: width,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        intermediate_size: 4 * width,
        hidden_act: "gelu".into(),
        layer_norm_eps: 1e-6,
        image_size: 32,
        patch_size: 8,
        num_channels: 1,
        qkv_bias: true,
    };
    let mut state = 1_u32;
    let mut value = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0.04 * (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32
    };
    let tensors = random_vit_tensors(&config, &mut value);
    let preprocessing = s3t::models::pictures::Preprocessing {
        image_mean: vec![0.5],
        image_std: vec![0.5],
        ..s3t::models::pictures::Preprocessing::default()
    };
    write_vit(folder, &config, &preprocessing, &tensors).expect("the model is written");
    tensors.values().map(|tensor| tensor.values.len() * 4).sum::<usize>() as f64 / 1e6
}

fn train(folder: &Path, jobs: usize) {
    let labels = Labels::new(vec!["dark".into(), "light".into()]).expect("well-formed labels");
    let store = folder.join(format!("store-{jobs}"));
    let mut pipeline = Pipeline::new(folder.join("model"), store, labels, Lora::default());
    pipeline.shape = PartitionShape { shards: 2, slices: 3 };
    pipeline.budget = 1;
    pipeline.training = TrainingConfig { epochs: 1, ..TrainingConfig::default() };
    pipeline.resources.jobs = jobs;
    // Nothing remembered: what is measured is the model and the work.
    pipeline.resources.activation_memory_mb = 0;
    let record = |row: u32| Record {
        id: RecordId::new(format!("row-{row}")).expect("a well-formed id"),
        subject: None,
        target: Target::Class(row % 2),
        ordinal: u64::from(row),
        payload: Payload::Image { width: 32, height: 32, channels: 1, pixels: vec![(row * 37 % 256) as u8; 1024] },
    };
    let records: Vec<Record> = (0..384).map(record).collect();
    let system = System::create(pipeline, &records, None).expect("the system is made");
    system.train(&Quiet).expect("the stages train");
    match peak() {
        Some(peak) => println!("{jobs} jobs: peak {peak:.0} MB"),
        None => println!("{jobs} jobs: this system does not tell a process its peak"),
    }
}

/// The most memory that this process has held, in megabytes, where the system tells (Linux).
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1e3)
}
