//! The unlearning system.
//!
//! A [`Pipeline`] says everything: data, base model, partition, sequences, PEFT method, training, device. A [`System`] is a
//! pipeline with its store: it trains every missing stage, answers from the deepest live prefix of each shard, deletes,
//! repairs and verifies. Each of these is a comparison of the plan with what is on disk.

mod audit;
mod ensemble;
mod error;
mod jobs;
mod joined;
mod language;
mod pipeline;
mod repair;
mod settings;
mod system;
mod verify;

pub use audit::{AuditCheck, AuditReport, AuditRequest, GUARANTEE, LIMITS};
pub use ensemble::{Answer, Member, Prediction};
pub use error::EngineError;
pub use jobs::{Observer, Quiet, StageLabel, in_batches, parallel};
pub use joined::JoinedSystem;
pub use language::{Completion, Response, right_tokens};
pub use pipeline::Pipeline;
pub use repair::{RepairPolicy, RepairReport};
pub use settings::{DeadShard, PriorSource, Resources, RunSettings, SecretSource, ServingSettings, VerifyScope};
pub use system::{
    BuildReport, Deletion, PendingErasure, Preview, ShardStatus, SpellingsLeft, Status, System, serving_chains,
};
pub use verify::{VerifiedStage, VerifyReport};
