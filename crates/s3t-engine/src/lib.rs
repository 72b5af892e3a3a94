//! The unlearning system.
//!
//! A [`Pipeline`] says everything: data, base model, partition, sequences, PEFT method, training, device. A [`System`] is a
//! pipeline with its store: it trains every missing stage, answers from live prefixes of each shard, deletes,
//! repairs and verifies. Each of these is a comparison of the plan with what is on disk.

mod answering;
mod audit;
mod base_model;
mod checked;
mod ensemble;
mod error;
mod executing;
mod forms;
mod fresh;
mod fulfilment;
mod generator;
mod jobs;
mod joined;
mod language;
mod likelihood;
mod lines;
mod opening;
mod outlook;
mod pipeline;
mod pipeline_file;
mod preview;
mod receipt_file;
mod record_checks;
mod repair;
mod replica;
mod replica_stage;
mod replica_state;
mod run_request;
mod section;
mod serving;
mod settings;
mod side_by_side;
mod status;
mod store_settings;
mod system;
mod training;
mod verify;
mod watch;

pub use audit::{AuditCheck, AuditReport, AuditRequest, GUARANTEE, LIMITS};
pub use checked::CheckedPipeline;
pub use ensemble::{Answer, Member, Places, Prediction};
pub use error::EngineError;
pub use forms::{check_precision, check_weights};
pub use fulfilment::{CutMembers, Deletion, PendingErasure, SpellingsLeft};
pub use generator::{FinishReason, Finished, Generator, GeneratorFigures, Listener, ServedModels, ServesModels};
pub use jobs::{Observer, Quiet, StageLabel};
pub use joined::JoinedSystem;
pub use language::{Completion, MemberResponse, Response, right_tokens};
pub use likelihood::{Cutting, Likelihood, ScoredToken};
pub use pipeline::Pipeline;
pub use preview::Preview;
pub use receipt_file::Delivered;
pub use repair::{RepairPolicy, RepairReport};
pub use replica::{Replica, ReplicaStatus};
pub use replica_state::{ReplicaModel, ReplicaShard, ReplicaState, StageContent};
pub use run_request::RunRequest;
pub use serving::serving_chains;
pub use settings::{
    DeadShard, GenerationSettings, OnDeletion, OverSeeds, PriorSource, Resources, RunSettings, SecretSource,
    ServingSettings, Spread, VerifyScope,
};
pub use side_by_side::{in_batches, parallel};
pub use status::{ShardStatus, Status};
pub use system::System;
pub use training::BuildReport;
pub use verify::{VerifiedStage, VerifyReport};
pub use watch::RepairObserver;
