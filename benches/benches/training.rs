//! One training step of the bundled model: 32 records through all six blocks, and through the top two.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::BlockTensors;
use s3t::core::{BlockRange, Lineage, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task, lineage};
use s3t::executor::{Silent, StageJob, StageRecord, Trainer};
use s3t::models::LoadOptions;
use s3t::prelude::*;
use s3t::train::StageTrainer;

fn record(row: u32) -> StageRecord {
    let pixels = (0..28 * 28).map(|pixel: u32| (pixel.wrapping_mul(row + 7) % 251) as u8).collect();
    let record = Record {
        id: RecordId::new(format!("row-{row}")).expect("a well-formed id"),
        subject: None,
        target: Target::Class(row % 10),
        ordinal: u64::from(row),
        payload: Payload::Image { width: 28, height: 28, channels: 1, pixels },
    };
    StageRecord { digest: record.digest(&StoreSecret::from_bytes([0; 32])), record: Arc::new(record) }
}

fn training(criterion: &mut Criterion) {
    let device: s3t::backends::DeviceSpec = "flex".parse().expect("a known device");
    let opened = device.open().expect("the device is compiled in");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/vit-mnist");
    let backbone = s3t::models::load(&model, LoadOptions::default(), &opened).expect("the bundled model");
    let method: Box<dyn s3t::peft::PeftMethod> = Box::new(Lora::default());
    // One epoch of one batch: a job is one step, with starting and checking its parameters.
    let training = TrainingConfig { epochs: 1, batch_size: 32, ..TrainingConfig::default() };
    let recipe = Recipe {
        format: lineage::FORMAT,
        base: backbone.digest(),
        peft: serde_json(&method),
        training: serde_json(&training),
        task: Task::Classification { classes: 10 },
        environment: device.environment(),
    };
    let trainer = StageTrainer::new(backbone, device, 1 << 30).expect("the device is compiled in");
    for (name, start) in [("all six blocks", 0), ("the top two blocks", 4)] {
        let lineage = Lineage {
            recipe: recipe.clone(),
            groups: vec![BlockRange { start, end: 6 }],
            slices: vec![DigestBuilder::new("slice").finish()],
        };
        let job = StageJob { lineage, records: (0..32).map(record).collect(), ancestors: BlockTensors::new() };
        criterion.bench_function(&format!("one step of 32 records, LoRA in {name}"), |bencher| {
            bencher.iter(|| trainer.train(&job, &Silent).expect("the step succeeds"));
        });
    }
}

fn serde_json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    ::serde_json::to_value(value).expect("settings serialise")
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = training
}
criterion_main!(benches);
