//! Exact machine unlearning.
//!
//! A company fine-tunes a public model on its users' data; a user asks to be forgotten; the part of the model that ever saw
//! that record is switched off at once and erased, the service keeps answering, and anyone can check, bit for bit, that
//! what still answers is what would have been trained without it.
//!
//! This crate puts the others together and links the plugins that come with the project. Start with the [`prelude`], and
//! with `examples/library` in the repository.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
//! # s3t_testkit::write_tiny_model(&model, 4)?;
//! # let records = s3t_testkit::toy_records(24, 6, 1);
//! use s3t::prelude::*;
//!
//! let labels = Labels::new(vec!["cat".into(), "dog".into(), "bird".into()])?;
//! let mut pipeline = Pipeline::new(&model, &store, labels, Lora { rank: 2, ..Lora::default() });
//! pipeline.shape = PartitionShape { shards: 2, slices: 2 };
//! pipeline.budget = 2;
//!
//! let system = System::create(pipeline, &records, None)?;
//! system.train(&Quiet)?;
//! system.predict(&records[..1])?;
//!
//! let deletion = system.delete(&[], &[SubjectId::new("subject-1")?])?;
//! println!("{} stages are gone", deletion.erased_stages.len());
//! assert!(system.verify(VerifyScope::All, &Quiet)?.passed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use s3t_api as api;
pub use s3t_backends as backends;
pub use s3t_cluster as cluster;
pub use s3t_core as core;
pub use s3t_data as data;
pub use s3t_engine as engine;
pub use s3t_eval as eval;
pub use s3t_executor as executor;
pub use s3t_generate as generate;
pub use s3t_interchange as interchange;
pub use s3t_ledger as ledger;
pub use s3t_models as models;
pub use s3t_peft as peft;
pub use s3t_plot as plot;
pub use s3t_simulation as simulation;
pub use s3t_store as store;
pub use s3t_train as train;

/// The plugins that come with the project. Linking this crate registers them.
pub mod plugins {
    pub use s3t_baseline_sequences as baseline_sequences;
    pub use s3t_bert as bert;
    pub use s3t_bottleneck as bottleneck;
    pub use s3t_distilbert as distilbert;
    pub use s3t_ia3 as ia3;
    pub use s3t_kubernetes as kubernetes;
    pub use s3t_llama as llama;
    pub use s3t_lora as lora;
    pub use s3t_mistral as mistral;
    pub use s3t_network as network;
    pub use s3t_prefix as prefix;
    pub use s3t_prior_sequences as prior_sequences;
    pub use s3t_processes as processes;
    pub use s3t_qwen2 as qwen2;
    pub use s3t_ray as ray;
    pub use s3t_slurm as slurm;
    pub use s3t_ssh as ssh;
    pub use s3t_vit as vit;
}

/// Names that most programs need.
pub mod prelude {
    pub use s3t_core::partition::{Contiguous, KeyedHash};
    pub use s3t_core::sequence::{Cyclic, Single};
    pub use s3t_core::{PartitionShape, Payload, Prior, Record, RecordId, ShardId, SubjectId, Target, Task};
    pub use s3t_data::{CsvSource, IdxSource, ImageFolderSource, JsonlSource, Labels, Source, Targets};
    pub use s3t_engine::{EngineError, JoinedSystem, Observer, Pipeline, Quiet, System, VerifyScope};
    pub use s3t_eval::evaluate;
    pub use s3t_lora::Lora;
    pub use s3t_train::TrainingConfig;
}

/// The README, whose Rust is compiled with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
