//! Determinism: a stage of the bundled model has the same bits for any number of threads, with any vector instructions, and on every
//! machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use s3t::backends::{DeviceSpec, Instructions};
use s3t::core::digest::DigestBuilder;
use s3t::core::tensors::{BlockTensors, StageTensors};
use s3t::core::{BlockRange, Digest, Lineage, Payload, Recipe, Record, RecordId, StoreSecret, Target, Task, lineage};
use s3t::executor::{StageJob, StageProgress, StageRecord, Step, Trainer};
use s3t::models::{Backbone, LoadOptions, Precision, WeightFormat};
use s3t::peft::PeftMethod;
use s3t::prelude::*;
use s3t::train::StageTrainer;

/// The digests of training on every machine, by the form of frozen weights.
const GOLDEN: &str = include_str!("golden/training-digest.txt");

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

/// All blocks, and the top two on remembered outputs of the others.
const STARTS: [usize; 2] = [0, 4];

/// The names of the ways to keep and multiply frozen weights, and the first blocks of what is trained: of 4-bit numbers, which are multiplied as
/// bfloat16 is, the top two are enough.
const FORMS: [(&str, Precision, WeightFormat, &[usize]); 4] = [
    ("f32", Precision::F32, WeightFormat::Full, &STARTS),
    ("bf16", Precision::Bf16, WeightFormat::Full, &STARTS),
    ("int8", Precision::F32, WeightFormat::Int8, &STARTS),
    ("nf4", Precision::F32, WeightFormat::Nf4, &[4]),
];

/// The records of a stage of five steps, and of two for an emulator, which takes hundreds of times as long as its machine.
const RECORDS: u32 = 80;
const FEW_RECORDS: u32 = 20;

/// Trains on so many threads from a block on, with the form of this number.
fn train(form: usize, threads: usize, start: usize, records: u32) -> Digest {
    static MODELS: [OnceLock<Arc<Backbone>>; FORMS.len()] = [const { OnceLock::new() }; FORMS.len()];
    let (_, precision, weights, _) = FORMS[form];
    let device: DeviceSpec = "flex".parse().unwrap();
    let load = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
        let options = LoadOptions { precision, weights, ..LoadOptions::default() };
        s3t::models::load(&folder, options, &device.open().unwrap()).unwrap()
    };
    let backbone = MODELS[form].get_or_init(load);
    let method: Box<dyn PeftMethod> = Box::new(Lora::default());
    let training = TrainingConfig { epochs: 1, batch_size: 16, precision, ..TrainingConfig::default() };
    let lineage = Lineage {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: serde_json::to_value(&method).unwrap(),
            training: serde_json::to_value(&training).unwrap(),
            task: Task::Classification { classes: 10 },
            environment: device.environment(),
        },
        groups: vec![BlockRange { start, end: 6 }],
        slices: vec![DigestBuilder::new("slice").finish()],
    };
    let trainer = StageTrainer::new(Arc::clone(backbone), device, 1 << 30).unwrap();
    let job = StageJob { lineage, records: (0..records).map(record).collect(), ancestors: BlockTensors::new() };
    digest(&trainer.train(&job, &Threads(threads)).unwrap().tensors)
}

/// The digest of a form from each of its starts, on two threads.
fn of_starts(form: usize, records: u32) -> Vec<Digest> {
    FORMS[form].3.iter().map(|&start| train(form, 2, start, records)).collect()
}

/// Held by each test: the set of instructions is one of the whole process.
static INSTRUCTIONS: Mutex<()> = Mutex::new(());

/// An emulator of another processor runs this one (`xtask/elsewhere.sh`).
#[test]
fn training_has_the_same_bits_on_every_machine() {
    let _native = INSTRUCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = String::new();
    for (form, (name, ..)) in FORMS.into_iter().enumerate() {
        let mut digest = DigestBuilder::new("both");
        for of_one in &of_starts(form, FEW_RECORDS) {
            digest.bytes(of_one.as_bytes());
        }
        found.push_str(&format!("{name} {}\n", digest.finish()));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/training-digest.txt");
        return std::fs::write(path, found).unwrap();
    }
    assert_eq!(
        found, GOLDEN,
        "the bits of training have changed; if that is meant, raise `s3t_kernels::ARITHMETIC` and write the new ones with \
         UPDATE_GOLDEN=1"
    );
}

#[test]
fn training_has_the_same_bits_with_any_threads_and_instructions() {
    let _chosen = INSTRUCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    for (form, (name, _, _, starts)) in FORMS.into_iter().enumerate() {
        let of_starts = of_starts(form, RECORDS);
        for (&start, of_one) in starts.iter().zip(&of_starts) {
            for threads in [1, 4] {
                assert_eq!(
                    &train(form, threads, start, RECORDS),
                    of_one,
                    "{name}: {threads} threads, from block {start}"
                );
            }
        }
        for set in [Instructions::Avx2, Instructions::Scalar] {
            set.choose();
            assert_eq!(Some(&train(form, 2, 4, RECORDS)), of_starts.last(), "{name}: {set} instructions");
        }
        Instructions::Native.choose();
    }
}
