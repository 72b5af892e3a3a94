//! Opening the system that a request names.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use s3t_engine::{CheckedPipeline, Pipeline, System};

use crate::ApiError;

/// The start of a training: from the store as it is, or from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Goes on with the store as it is, and makes one if there is none.
    #[default]
    Continue,
    /// Deletes the store first; refused if the store has accepted a deletion, because deleted records that are still in the source
    /// would come back.
    Fresh,
    /// Deletes the store first, although it may have accepted deletions.
    FreshDespiteDeletions,
}

impl Start {
    /// Opens the system of a pipeline: with the number of deletions that a store which was deleted for it had accepted, if it had
    /// accepted any.
    pub(crate) fn open(self, pipeline: CheckedPipeline) -> Result<(System, Option<u64>), ApiError> {
        let consent = match self {
            Self::Continue => return Ok((System::open(pipeline)?, None)),
            Self::Fresh => false,
            Self::FreshDespiteDeletions => true,
        };
        let (system, deletions) = System::open_afresh(pipeline, consent)?;
        Ok((system, (deletions > 0).then_some(deletions)))
    }
}

/// The pipeline of a file, whose store was made.
pub(crate) fn with_store(pipeline: &Path) -> Result<CheckedPipeline, ApiError> {
    Ok(Pipeline::read(pipeline)?.with_store()?)
}

/// The pipeline's store, to change it.
pub(crate) fn to_change(pipeline: &Path) -> Result<System, ApiError> {
    Ok(System::open(with_store(pipeline)?)?)
}

/// The pipeline's store, to read it only: others may change it in the meantime.
pub(crate) fn to_read(pipeline: &Path) -> Result<System, ApiError> {
    Ok(System::open_read_only(with_store(pipeline)?)?)
}
