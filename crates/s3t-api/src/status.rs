//! `status`: the system as it is.

use std::path::PathBuf;

use s3t_engine::System;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::to_read;
use crate::parts::{RemainingExport, Serving, all, path_text};
use crate::reply::plain_answers;

/// The request for the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusAnswer {
    /// The system.
    pub status: Status,
    /// Each shard, as in the status.
    pub shards: Vec<ShardStatus>,
}

plain_answers!(StatusAnswer);

/// The system as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The folder of the store.
    pub store: String,
    /// Records that are there.
    pub records: u64,
    /// Subjects that are there.
    pub subjects: u64,
    /// Deletion requests that the store has accepted.
    pub epoch: u64,
    /// Stages of the plan.
    pub planned_stages: usize,
    /// Stages of the plan that are on disk.
    pub built_stages: usize,
    /// Each shard.
    pub shards: Vec<ShardStatus>,
    /// `true` if stages can be trained and compared here: the arithmetic is the store's.
    pub same_environment: bool,
    /// Deletions that are in effect and not erased yet.
    pub pending: Vec<PendingDeletion>,
    /// The process that has the store's files in hand, if any does.
    pub holder: Option<String>,
    /// Exported adapters of dead stages that are still there, or may be.
    pub remaining_exports: Vec<RemainingExport>,
}

/// The state of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardStatus {
    /// The shard, from 0.
    pub shard: u32,
    /// Records of the shard.
    pub records: usize,
    /// The deepest live sequence, with its depth; `null` if no sequence is left.
    pub serving: Option<Serving>,
    /// The sequences and depths that answer for the shard, by `serving.members`; empty if no sequence is left.
    #[serde(default)]
    pub members: Vec<Serving>,
    /// The usable depth of each sequence.
    pub depths: Vec<usize>,
    /// The number of requests with which somebody who picks slices could kill the shard.
    pub adversarial_budget: usize,
}

/// A deletion that is accepted and in effect, and not erased yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingDeletion {
    /// The deletion.
    pub epoch: u64,
    /// Records that the deletion takes.
    pub records: u64,
    /// The moment of acceptance, in milliseconds since the start of 1970, UTC.
    pub accepted: u64,
}

impl From<s3t_engine::ShardStatus> for ShardStatus {
    fn from(status: s3t_engine::ShardStatus) -> Self {
        let s3t_engine::ShardStatus { shard, records, serving, members, depths, adversarial_budget } = status;
        let (serving, members) = (serving.map(Serving::from), all(members));
        Self { shard: shard.0, records, serving, members, depths, adversarial_budget }
    }
}

impl From<s3t_store::PendingDeletion> for PendingDeletion {
    fn from(pending: s3t_store::PendingDeletion) -> Self {
        Self { epoch: pending.epoch.0, records: pending.records, accepted: pending.accepted.0 }
    }
}

impl From<s3t_engine::Status> for Status {
    fn from(status: s3t_engine::Status) -> Self {
        Self {
            store: path_text(&status.store),
            records: status.records,
            subjects: status.subjects,
            epoch: status.epoch.0,
            planned_stages: status.planned_stages,
            built_stages: status.built_stages,
            shards: all(status.shards),
            same_environment: status.same_environment,
            pending: all(status.pending),
            holder: status.holder,
            remaining_exports: all(status.remaining_exports),
        }
    }
}

/// Tells what a system serves with now. Changes nothing, and needs no lock.
///
/// # Errors
///
/// [`ErrorKind::Store`](crate::ErrorKind::Store) if there is no store, or it cannot be read.
pub fn status(request: &StatusRequest) -> Result<StatusAnswer, ApiError> {
    status_in(&to_read(&request.pipeline)?)
}

/// Tells what an open system serves with now.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
/// # s3t_testkit::write_tiny_model(&model, 4)?;
/// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
/// # let system = s3t_engine::System::create(pipeline, &records, None)?;
/// # system.train(&s3t_engine::Quiet)?;
/// let answer = s3t_api::status_in(&system)?;
/// let json = serde_json::to_value(&answer)?;
/// assert_eq!(json["status"]["records"], 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`System::status`].
pub fn status_in(system: &System) -> Result<StatusAnswer, ApiError> {
    let status = Status::from(system.status()?);
    Ok(StatusAnswer { shards: status.shards.clone(), status })
}
