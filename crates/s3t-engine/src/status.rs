//! The system as it is, for people and monitors.

use std::path::PathBuf;

use s3t_core::members::members_of_shard;
use s3t_core::{Serving, ShardId, ShardPlan};
use s3t_store::{PendingDeletion, RemainingExport};

use crate::error::EngineError;
use crate::system::System;

/// The state of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// Records of the shard.
    pub records: usize,
    /// The deepest live sequence, with its depth.
    pub serving: Option<Serving>,
    /// The sequences and depths that answer for the shard, by `serving.members`.
    pub members: Vec<Serving>,
    /// The usable depth of each sequence.
    pub depths: Vec<usize>,
    /// The number of requests with which somebody who picks slices could kill it.
    pub adversarial_budget: usize,
}

/// The system as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The folder of the store.
    pub store: PathBuf,
    /// Records that are there.
    pub records: u64,
    /// Subjects that are there.
    pub subjects: u64,
    /// Deletion requests that the store has accepted.
    pub epoch: s3t_ledger::Epoch,
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

impl System {
    /// The system as it is.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// let status = system.status()?;
    /// assert_eq!((status.records, status.built_stages), (24, status.planned_stages));
    /// assert!(status.shards.iter().all(|shard| shard.serving.is_some()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if the catalogue cannot be read.
    pub fn status(&self) -> Result<Status, EngineError> {
        let snapshot = self.store.snapshot()?;
        let availability = snapshot.availability();
        let shard = |(plan, sizes): (&ShardPlan, &Vec<u64>)| {
            let shard = plan.shard;
            ShardStatus {
                members: members_of_shard(&*self.pipeline.serving.members, plan, &availability),
                shard,
                records: sizes.iter().sum::<u64>() as usize,
                serving: availability.serving(shard),
                depths: availability.depths(shard).to_vec(),
                adversarial_budget: availability.adversarial_budget(shard),
            }
        };
        Ok(Status {
            store: self.store.path().into(),
            records: snapshot.records(),
            subjects: self.store.subjects()?,
            epoch: snapshot.epoch(),
            planned_stages: snapshot.plan().stages().len(),
            built_stages: snapshot.stages().len(),
            shards: snapshot.plan().shards().iter().zip(snapshot.sizes()).map(shard).collect(),
            same_environment: self.executing.environment() == self.store.settings().recipe.environment,
            pending: self.store.pending()?,
            holder: self.store.holder().map(|holder| holder.to_string()),
            remaining_exports: self.store.remaining_exports()?,
        })
    }
}
