//! Determinism: a stage of the bundled model has the same bits for any number of threads, with any vector instructions, and on every
//! machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use s3t::backends::{DeviceSpec, Instructions};
use s3t::core::Digest;
use s3t::core::tensors::StageTensors;
use s3t::executor::{StageProgress, Step, Trainer};
use s3t::models::{Backbone, LoadOptions, Precision, WeightFormat};
use s3t::plugins::lora::Dora;
use s3t::train::StageTrainer;
use s3t_testkit::{
    GOLDEN_RECORDS, GOLDEN_STAGES, digest_of_stages, golden_stage, golden_stage_of, write_golden_stages,
};

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

/// The names of the ways to keep and multiply frozen weights, and the first blocks of the golden stages, which an emulator trains too: of
/// what is multiplied as bfloat16 one is enough. The last is of another method, whose steps take more than products and rows.
const FORMS: [(&str, Precision, WeightFormat, &[usize]); 5] = [
    ("f32", Precision::F32, WeightFormat::Full, &STARTS),
    ("bf16", Precision::Bf16, WeightFormat::Full, &[0]),
    ("int8", Precision::F32, WeightFormat::Int8, &STARTS),
    ("nf4", Precision::F32, WeightFormat::Nf4, &[0]),
    (DORA, Precision::F32, WeightFormat::Full, &[4]),
];

const DORA: &str = "dora";

/// The records of a stage of six steps.
const RECORDS: u32 = 40;

/// Trains on so many threads from a block on, with the form of this number.
fn train(form: usize, threads: usize, start: usize, records: u32) -> StageTensors {
    static MODELS: [OnceLock<Arc<Backbone>>; FORMS.len()] = [const { OnceLock::new() }; FORMS.len()];
    let (name, precision, weights, _) = FORMS[form];
    let device: DeviceSpec = "flex".parse().unwrap();
    let load = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
        let options = LoadOptions { precision, weights, ..LoadOptions::default() };
        s3t::models::load(&folder, options, &device.open().unwrap()).unwrap()
    };
    let backbone = MODELS[form].get_or_init(load);
    let job = match name {
        DORA => golden_stage_of(Box::new(Dora::default()), backbone, &device, start, records),
        _ => golden_stage(backbone, &device, start, records),
    };
    let trainer = StageTrainer::new(Arc::clone(backbone), device, 1 << 30).unwrap();
    trainer.train(&job, &Threads(threads)).unwrap().tensors
}

/// The stages of a form from each of these starts, trained on two threads.
fn of_starts(form: usize, starts: &[usize], records: u32) -> Vec<StageTensors> {
    starts.iter().map(|&start| train(form, 2, start, records)).collect()
}

/// Held by each test: the set of instructions is one of the whole process.
static INSTRUCTIONS: Mutex<()> = Mutex::new(());

/// An emulator of another processor runs this one (`xtask/elsewhere.sh`).
#[test]
fn training_has_the_same_bits_on_every_machine() {
    let _native = INSTRUCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = String::new();
    for (form, (name, _, _, starts)) in FORMS.into_iter().enumerate() {
        found.push_str(&format!("{name} {}\n", digest_of_stages(&of_starts(form, starts, GOLDEN_RECORDS))));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return write_golden_stages(&found);
    }
    assert_eq!(
        found, GOLDEN_STAGES,
        "the bits of training have changed; if that is meant, raise `s3t_kernels::ARITHMETIC` and write the new ones with \
         UPDATE_GOLDEN=1"
    );
}

#[test]
fn training_has_the_same_bits_with_any_threads_and_instructions() {
    let _chosen = INSTRUCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    for (form, (name, ..)) in FORMS.into_iter().enumerate() {
        let expected: Vec<Digest> =
            of_starts(form, &STARTS, RECORDS).iter().map(|stage| digest_of_stages([stage])).collect();
        let digest = |threads, start| digest_of_stages([&train(form, threads, start, RECORDS)]);
        for (&start, of_start) in STARTS.iter().zip(&expected) {
            for threads in [1, 4] {
                assert_eq!(&digest(threads, start), of_start, "{name}: {threads} threads, from block {start}");
            }
        }
        for set in [Instructions::Avx2, Instructions::Scalar] {
            set.choose();
            assert_eq!(Some(&digest(2, 4)), expected.last(), "{name}: {set} instructions");
        }
        Instructions::Native.choose();
    }
}
