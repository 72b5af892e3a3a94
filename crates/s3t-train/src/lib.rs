//! Training of one stage.
//!
//! A [`StageJob`](s3t_executor::StageJob) holds a stage's lineage, the records that the lineage names, and the tensors of the stages
//! before it. [`StageTrainer`] turns the job into the stage's tensors. The trainer sees nothing else: no store, no other stage, no
//! clock, no configuration beside the lineage, no random state beside the seed that is derived from the lineage's key.
//!
//! [`work`] trains for another process, with the same trainer.

mod activations;
mod batches;
mod centroid;
mod checkpointing;
mod config;
mod error;
mod loss;
mod model;
mod parameters;
mod remembered;
mod spill;
mod stacked;
mod threads;
mod trainer;
mod worker;

pub use activations::ActivationCache;
pub use batches::by_padded_length;
pub use centroid::embeddings;
pub use config::{Decay, TrainingConfig};
pub use error::TrainError;
pub use model::{StageModel, check_isolation, learnt_tokens, rows};
pub use s3t_models::Precision;
pub use stacked::stacked_outputs;
pub use threads::{on_each_shared_thread, on_threads, start_shared_threads};
pub use trainer::{StageTrainer, initial_values};
pub use worker::{work, work_under_lease};
