//! A tiny model and toy records: the same code paths as in production, in milliseconds.

mod aggregator_laws;
mod executor_laws;
mod family;
mod family_laws;
mod file_laws;
pub mod fuzz;
pub mod golden;
mod golden_stage;
mod linked_laws;
mod members_laws;
mod partitioner_laws;
mod peft_laws;
mod planted;
mod sequence_laws;
mod workspace;

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_core::{Payload, Record, RecordId, SubjectId, Target};
use s3t_data::Labels;
use s3t_engine::Pipeline;
use s3t_lora::Lora;
use s3t_models::ModelError;
use s3t_models::pictures::Preprocessing;
use s3t_train::TrainingConfig;
use s3t_vit::{VitConfig, random_vit_tensors, write_vit};

pub use aggregator_laws::check_aggregator;
pub use executor_laws::check_executor;
pub use family::check_model_family;
pub use family_laws::{AsWritten, RunBlocks, check_blocks};
pub use golden::{check_golden_adapters, check_golden_model};
pub use golden_stage::{
    GOLDEN_RECORDS, GOLDEN_STAGES, digest_of_stages, golden_stage, golden_stage_of, write_golden_stages,
};
pub use linked_laws::check_linked_plugins;
pub use members_laws::check_members;
pub use partitioner_laws::check_partitioner;
pub use peft_laws::check_peft_method;
pub use planted::Planted;
pub use sequence_laws::check_sequence_strategy;
pub use workspace::{PIPELINE, copy_folder, jsonl, write_workspace};

/// The number of classes of the toy records.
pub const CLASSES: usize = 3;

/// The number of features of a toy record: a 4 x 4 grey image.
pub const FEATURES: usize = 16;

/// The shape of the tiny model: 5 tokens of width 8.
pub fn tiny_config(blocks: usize) -> VitConfig {
    VitConfig {
        model_type: "vit".into(),
        hidden_size: 8,
        num_hidden_layers: blocks,
        num_attention_heads: 2,
        intermediate_size: 16,
        hidden_act: "gelu".into(),
        layer_norm_eps: 1e-6,
        image_size: 4,
        patch_size: 2,
        num_channels: 1,
        qkv_bias: true,
    }
}

/// Writes a tiny ViT with random weights as a Hugging Face directory.
///
/// # Errors
///
/// [`ModelError::Write`].
pub fn write_tiny_model(directory: &Path, blocks: usize) -> Result<(), ModelError> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let config = tiny_config(blocks);
    let tensors = random_vit_tensors(&config, || 0.2 * rng.sample::<f32, _>(StandardNormal));
    let preprocessing = Preprocessing { image_mean: vec![0.5], image_std: vec![0.5], ..Preprocessing::default() };
    write_vit(directory, &config, &preprocessing, &tensors)
}

/// Toy records of features around one centre a class; every third has no subject, the others share `subjects` of them.
///
/// # Panics
///
/// Never: the ids are well formed.
pub fn toy_records(count: u64, subjects: u64, seed: u64) -> Vec<Record> {
    let record = |row: u64| {
        // Each record from a generator of its own, so that leaving one out changes no other.
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(row));
        let label = (row % CLASSES as u64) as u32;
        let value = |index: usize| {
            let centre = if index % CLASSES == label as usize { 1.0 } else { -0.3 };
            centre + 0.5 * rng.sample::<f32, _>(StandardNormal)
        };
        let owned = subjects > 0 && !row.is_multiple_of(3);
        Record {
            id: RecordId::new(format!("record-{row}")).expect("a well-formed id"),
            subject: owned.then(|| SubjectId::new(format!("subject-{}", row % subjects)).expect("a well-formed id")),
            target: Target::Class(label),
            ordinal: row,
            payload: Payload::Features((0..FEATURES).map(value).collect()),
        }
    };
    (0..count).map(record).collect()
}

/// A pipeline for toy records on a tiny model: LoRA of rank 2, two epochs, a learning rate at which everything moves.
///
/// # Panics
///
/// Never: the labels are well formed.
pub fn tiny_pipeline(model: &Path, store: &Path) -> Pipeline {
    let labels = Labels::new((0..CLASSES).map(|class| format!("class-{class}")).collect()).expect("well-formed labels");
    let peft = Lora { rank: 2, alpha: 4.0, ..Lora::default() };
    let mut pipeline = Pipeline::new(model, store, labels, peft);
    pipeline.training = TrainingConfig { epochs: 2, batch_size: 4, learning_rate: 1e-2, ..TrainingConfig::default() };
    pipeline
}

/// A grey image as a PNG file.
///
/// # Panics
///
/// If there are not `width * height` pixels.
pub fn grey_png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let image = image::GrayImage::from_raw(width, height, pixels.to_vec()).expect("width * height pixels");
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, image::ImageFormat::Png).expect("memory takes all bytes");
    file.into_inner()
}
