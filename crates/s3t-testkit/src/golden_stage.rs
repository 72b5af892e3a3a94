//! The stage of the bundled model whose bits a golden file keeps: every machine, and every number of threads and workers, trains the same.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use s3t_backends::DeviceSpec;
use s3t_core::digest::DigestBuilder;
use s3t_core::tensors::{BlockTensors, StageTensors};
use s3t_core::{BlockRange, Digest, Lineage, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task, lineage};
use s3t_executor::{StageJob, StageRecord};
use s3t_lora::Lora;
use s3t_models::Backbone;
use s3t_peft::PeftMethod;
use s3t_train::TrainingConfig;

/// The golden digests: `form digest` a line, by the form of frozen weights.
pub const GOLDEN_STAGES: &str = include_str!("../golden/training-digest.txt");

/// The records of a golden stage: a step in each of two epochs, because an emulator takes a thousand times as long as its machine.
pub const GOLDEN_RECORDS: u32 = 3;

/// Writes the golden digests anew.
///
/// # Panics
///
/// If the file cannot be written.
pub fn write_golden_stages(digests: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/training-digest.txt");
    fs::write(path, digests).expect("the golden file is written");
}

/// A stage of LoRA on `data/vit-mnist` from a block to the last, for two epochs of so many made-up images in batches of 16, with the
/// precision of the model.
///
/// # Panics
///
/// Never: settings are JSON.
pub fn golden_stage(backbone: &Backbone, device: &DeviceSpec, start: usize, records: u32) -> StageJob {
    golden_stage_of(Box::new(Lora::default()), backbone, device, start, records)
}

/// The same stage of another method.
///
/// # Panics
///
/// Never: settings are JSON.
#[allow(clippy::needless_pass_by_value, reason = "a method is written as what it is in a pipeline, a box")]
pub fn golden_stage_of(
    method: Box<dyn PeftMethod>,
    backbone: &Backbone,
    device: &DeviceSpec,
    start: usize,
    records: u32,
) -> StageJob {
    let precision = backbone.precision();
    let training = TrainingConfig { epochs: 2, batch_size: 16, precision, ..TrainingConfig::default() };
    let json = "settings are written as JSON";
    let recipe = Recipe {
        format: lineage::FORMAT,
        base: backbone.digest(),
        peft: serde_json::to_value(&method).expect(json),
        training: serde_json::to_value(&training).expect(json),
        task: Task::Classification { classes: 10 },
        environment: device.environment(),
    };
    let lineage = Lineage {
        recipe,
        groups: vec![BlockRange { start, end: backbone.blocks() }],
        slices: vec![DigestBuilder::new("slice").finish()],
    };
    StageJob { lineage, records: (0..records).map(image).collect(), ancestors: BlockTensors::new() }
}

fn image(row: u32) -> StageRecord {
    let pixels = (0..28 * 28).map(|pixel: u32| (pixel.wrapping_mul(row + 7) % 251) as u8).collect();
    let payload = Payload::Image { width: 28, height: 28, channels: 1, pixels };
    let id = RecordId::new(format!("row-{row}")).expect("a well-formed id");
    let record = Record { id, subject: None, target: Target::Class(row % 10), ordinal: row.into(), payload };
    StageRecord { digest: record.digest(&StoreSecret::from_bytes([0; 32])), record: Arc::new(record) }
}

/// The digest over the bits of stages, each by the names and in the order of its file.
pub fn digest_of_stages<'a>(stages: impl IntoIterator<Item = &'a StageTensors>) -> Digest {
    let mut of_all = DigestBuilder::new("both");
    for tensors in stages {
        let mut digest = DigestBuilder::new("training");
        for (name, tensor) in tensors.named() {
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            digest.bytes(name.as_bytes()).bytes(&bytes);
        }
        of_all.bytes(digest.finish().as_bytes());
    }
    of_all.finish()
}
