//! Determinism: a stage of the bundled model has the same bits for any number of threads, and on a processor with the
//! arithmetic of one that was seen before, the bits that were seen there.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use s3t::backends::DeviceSpec;
use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::{BlockTensors, StageTensors};
use s3t::core::{
    BlockRange, Digest, Lineage, NumericEnvironment, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task,
    lineage,
};
use s3t::executor::{StageJob, StageProgress, StageRecord, Step, Trainer};
use s3t::models::LoadOptions;
use s3t::peft::PeftMethod;
use s3t::prelude::*;
use s3t::train::StageTrainer;

/// `probe digest` a line: what training gave on processors of these arithmetics.
const GOLDEN: &str = include_str!("golden/training-digests.txt");

fn record(row: u32) -> StageRecord {
    let pixels = (0..28 * 28).map(|pixel: u32| (pixel.wrapping_mul(row + 7) % 251) as u8).collect();
    let payload = Payload::Image { width: 28, height: 28, channels: 1, pixels };
    let id = RecordId::new(format!("row-{row}")).unwrap();
    let record = Record { id, subject: None, target: Target::Class(row % 10), ordinal: row.into(), payload };
    StageRecord { digest: record.digest(&StoreSecret::from_bytes([0; 32])), record: Arc::new(record) }
}

fn digest(tensors: &StageTensors) -> Digest {
    let mut digest = DigestBuilder::new("training");
    for (name, tensor) in tensors.named() {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        digest.bytes(name.as_bytes()).bytes(&bytes);
    }
    digest.finish()
}

/// Gives a stage so many threads.
struct Threads(usize);

impl StageProgress for Threads {
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn threads(&self) -> usize {
        self.0
    }
}

#[test]
fn training_has_the_same_bits_on_1_2_and_4_threads() {
    let device: DeviceSpec = "flex".parse().unwrap();
    let opened = device.open().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
    let backbone = s3t::models::load(&model, LoadOptions::default(), &opened).unwrap();
    let method: Box<dyn PeftMethod> = Box::new(Lora::default());
    let training = TrainingConfig { epochs: 1, batch_size: 32, ..TrainingConfig::default() };
    let lineage = |start| Lineage {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: serde_json::to_value(&method).unwrap(),
            training: serde_json::to_value(&training).unwrap(),
            task: Task::Classification { classes: 10 },
            // Not this machine's, so that the stage's key and with it its random numbers are the same everywhere.
            environment: NumericEnvironment { probe: String::new(), instructions: Vec::new(), ..device.environment() },
        },
        groups: vec![BlockRange { start, end: 6 }],
        slices: vec![DigestBuilder::new("slice").finish()],
    };
    let train = |threads: usize, start: usize| {
        let trainer = StageTrainer::new(Arc::clone(&backbone), device, 1 << 30).unwrap();
        let records = (0..80).map(record).collect();
        let job = StageJob { lineage: lineage(start), records, ancestors: BlockTensors::new() };
        digest(&trainer.train(&job, &Threads(threads)).unwrap().tensors)
    };
    // All blocks, and the top two on remembered outputs of the others.
    let mut of_both = DigestBuilder::new("both");
    for start in [0, 4] {
        let one = train(1, start);
        assert_eq!(train(2, start), one, "2 threads, from block {start}");
        assert_eq!(train(4, start), one, "4 threads, from block {start}");
        of_both.bytes(one.as_bytes());
    }
    let (probe, found) = (device.environment().probe, of_both.finish().to_string());
    let known = GOLDEN.lines().filter_map(|line| line.split_once(' ')).find(|(of, _)| *of == probe);
    match known {
        Some((_, expected)) => assert_eq!(
            found, expected,
            "the bits of training have changed; if that is meant, raise `s3t_kernels::VERSION` and write the new ones with \
             UPDATE_GOLDEN=1"
        ),
        None if std::env::var_os("UPDATE_GOLDEN").is_some() => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/training-digests.txt");
            std::fs::write(path, format!("{GOLDEN}{probe} {found}\n")).unwrap();
        }
        None => {}
    }
}
