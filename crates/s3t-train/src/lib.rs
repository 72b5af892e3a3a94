//! Training of one stage.
//!
//! A [`StageJob`] holds a stage's lineage, the records that the lineage names, and the tensors of the stages before it.
//! [`StageTrainer`] turns it into the stage's tensors. It sees nothing else: no store, no other stage, no clock, no
//! configuration beside the lineage, no random state beside the seed that is derived from the lineage's key.

mod activations;
mod batches;
mod config;
mod error;
mod job;
mod loss;
mod model;
mod remembered;
mod spill;
mod stacked;
mod threads;
mod trainer;

pub use activations::ActivationCache;
pub use config::{Decay, Precision, TrainingConfig};
pub use error::TrainError;
pub use job::{Silent, StageBuilder, StageJob, StageProgress, StageRecord, Step};
pub use model::{StageModel, check_isolation, learnt_tokens, rows};
pub use stacked::stacked_outputs;
pub use threads::{on_threads, start_shared_threads};
pub use trainer::StageTrainer;
