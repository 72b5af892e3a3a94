//! The executor of the calling process.

use std::num::NonZero;
use std::sync::Arc;

use s3t_core::{Digest, NumericEnvironment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Executor, ExecutorError, Session, Site, StageJob, StageProgress, TrainedStage, Trainer};

/// Trains in the calling process, `resources.jobs` stages side by side.
///
/// # Proof note
///
/// *Before*: the site's trainer gives tensors that are a function of the job. *After*: so does this executor. *Why*: every call is
/// passed on unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {}

#[typetag::serde(name = "local")]
impl Executor for Local {
    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        Ok(Box::new(InProcess { trainer: site.trainer, capacity: site.threads }))
    }
}

s3t_core::plugin!(Executor, "local", Local);

struct InProcess {
    trainer: Arc<dyn Trainer>,
    capacity: NonZero<usize>,
}

impl Trainer for InProcess {
    fn environment(&self) -> NumericEnvironment {
        self.trainer.environment()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        self.trainer.train(job, progress)
    }

    fn forget(&self, records: &[Digest]) {
        self.trainer.forget(records);
    }

    fn forget_all(&self) {
        self.trainer.forget_all();
    }
}

impl Session for InProcess {
    fn capacity(&self) -> NonZero<usize> {
        self.capacity
    }
}
