//! The model behind the answers: that of a store, or that of a leader.

use std::sync::Arc;

use s3t_core::{PictureInput, Record, ShardId, Task};
use s3t_engine::{Answer, CheckedPipeline, ServedModels, ServesModels, System};
use s3t_ledger::Epoch;
use s3t_models::Backbone;

use crate::follow::Follower;
use crate::queue::Answering;
use crate::refusal::{Kind, Refusal};

/// The source of the stages that answer.
pub(crate) enum Model {
    /// The store of this machine.
    Store(Arc<System>),
    /// A leader.
    Leader(Arc<Follower>),
}

impl Answering for Model {
    /// Answers for records, from one moment after the call.
    fn answer(&self, records: &[Record]) -> Result<Answer, Refusal> {
        match self {
            Self::Store(system) => Ok(system.answer(records)?),
            Self::Leader(follower) => follower.answer(records),
        }
    }
}

impl Model {
    fn pipeline(&self) -> &CheckedPipeline {
        match self {
            Self::Store(system) => system.pipeline(),
            Self::Leader(follower) => follower.replica().pipeline(),
        }
    }

    /// The source of the models that continue texts.
    pub(crate) fn source(&self) -> Arc<dyn ServesModels> {
        match self {
            Self::Store(system) => Arc::clone(system) as Arc<dyn ServesModels>,
            Self::Leader(follower) => Arc::clone(follower) as Arc<dyn ServesModels>,
        }
    }

    /// The models that answer now.
    pub(crate) fn serving(&self) -> Result<ServedModels, Refusal> {
        match self {
            Self::Store(system) => Ok(system.serving()?),
            Self::Leader(follower) => follower.serving_models(),
        }
    }

    pub(crate) fn backbone(&self) -> &Arc<Backbone> {
        match self {
            Self::Store(system) => system.backbone(),
            Self::Leader(follower) => follower.replica().backbone(),
        }
    }

    /// Refuses records that the model cannot take.
    pub(crate) fn check(&self, records: &[Record]) -> Result<(), Refusal> {
        match self {
            Self::Store(system) => Ok(system.check_questions(records)?),
            Self::Leader(follower) => Ok(follower.replica().check_questions(records)?),
        }
    }

    /// The texts among records that would be cut.
    pub(crate) fn cut(&self, records: &[Record]) -> Result<usize, Refusal> {
        match self {
            Self::Store(system) => Ok(system.cut(records)?),
            Self::Leader(follower) => Ok(follower.replica().cut(records)?),
        }
    }

    /// The number of deletions that every answer from now on knows of.
    pub(crate) fn epoch(&self) -> Result<Epoch, Refusal> {
        match self {
            Self::Store(system) => Ok(system.snapshot()?.epoch()),
            Self::Leader(follower) => Ok(follower.replica().epoch()),
        }
    }

    /// Refuses while no shard can answer.
    pub(crate) fn readiness(&self) -> Result<(), Refusal> {
        let system = match self {
            Self::Store(system) => system,
            Self::Leader(follower) => return follower.readiness(),
        };
        let snapshot = system.snapshot()?;
        let availability = snapshot.availability();
        let shards = 0..availability.shards() as u32;
        if shards.map(ShardId).all(|shard| availability.serving(shard).is_none()) {
            return Err(Refusal::new(Kind::Unavailable, "no shard can answer; run `s3t repair`"));
        }
        Ok(())
    }

    pub(crate) fn task(&self) -> Task {
        self.pipeline().task
    }

    pub(crate) fn labels(&self) -> &[String] {
        self.pipeline().labels.names()
    }

    /// `true` if scores are logits, and not shares already.
    pub(crate) fn gives_logits(&self) -> bool {
        self.pipeline().serving.aggregator.keeps_scale()
    }

    /// The pictures that the model takes, if it takes any.
    pub(crate) fn pictures(&self) -> Option<&PictureInput> {
        self.backbone().image_input()
    }

    /// The name by which clients call the model.
    pub(crate) fn name(&self) -> String {
        let pipeline = self.pipeline();
        let of_folder = || pipeline.model.file_name().map(|name| name.to_string_lossy().into_owned());
        pipeline.model_name.clone().or_else(of_folder).unwrap_or_else(|| "s3t".to_owned())
    }
}
