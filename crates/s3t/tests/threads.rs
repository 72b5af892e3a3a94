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
use s3t::peft::PeftMethod;
use s3t::plugins::bottleneck::Bottleneck;
use s3t::plugins::ia3::Ia3;
use s3t::plugins::lora::{Dora, Lora};
use s3t::plugins::prefix::Prefix;
use s3t::train::StageTrainer;
use s3t_testkit::{GOLDEN_RECORDS, GOLDEN_STAGES, digest_of_stages, golden_stage_of, write_golden_stages};

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

/// A way to keep and multiply frozen weights, and a method, with the first blocks of the golden stages, which an emulator trains too.
type Form = (&'static str, Precision, WeightFormat, &'static [usize], fn() -> Box<dyn PeftMethod>);

/// Of what is multiplied as bfloat16 one golden stage is enough. The last are of other methods, whose steps take more than products and rows.
const FORMS: [Form; 8] = [
    ("f32", Precision::F32, WeightFormat::Full, &STARTS, || Box::new(Lora::default())),
    ("bf16", Precision::Bf16, WeightFormat::Full, &[0], || Box::new(Lora::default())),
    ("int8", Precision::F32, WeightFormat::Int8, &STARTS, || Box::new(Lora::default())),
    ("nf4", Precision::F32, WeightFormat::Nf4, &[0], || Box::new(Lora::default())),
    ("dora", Precision::F32, WeightFormat::Full, &[4], || Box::new(Dora::default())),
    ("ia3", Precision::F32, WeightFormat::Full, &[4], || Box::new(Ia3::default())),
    ("bottleneck", Precision::F32, WeightFormat::Full, &[4], || Box::new(Bottleneck::default())),
    ("prefix", Precision::F32, WeightFormat::Full, &[4], || Box::new(Prefix::default())),
];

/// The records of a stage of six steps.
const RECORDS: u32 = 40;

/// Trains on so many threads from a block on, with the form of this number.
fn train(form: usize, threads: usize, start: usize, records: u32) -> StageTensors {
    static MODELS: [OnceLock<Arc<Backbone>>; FORMS.len()] = [const { OnceLock::new() }; FORMS.len()];
    let (_, precision, weights, _, method) = FORMS[form];
    let device: DeviceSpec = "flex".parse().unwrap();
    let load = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
        let options = LoadOptions { precision, weights, ..LoadOptions::default() };
        s3t::models::load(&folder, options, &device.open().unwrap()).unwrap()
    };
    let backbone = MODELS[form].get_or_init(load);
    let job = golden_stage_of(method(), backbone, &device, start, records);
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
    for (form, (name, _, _, starts, _)) in FORMS.into_iter().enumerate() {
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
    for (form, (name, _, _, golden, _)) in FORMS.into_iter().enumerate() {
        // The top two blocks of every form, and all blocks of LoRA in every form of the weights.
        let starts = if golden == [4] { golden } else { &STARTS };
        let expected: Vec<Digest> =
            of_starts(form, starts, RECORDS).iter().map(|stage| digest_of_stages([stage])).collect();
        let digest = |threads, start| digest_of_stages([&train(form, threads, start, RECORDS)]);
        for (&start, of_start) in starts.iter().zip(&expected) {
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
