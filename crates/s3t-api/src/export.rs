//! `export`: writes the stages that serve as Hugging Face PEFT adapters.

use std::fmt;
use std::path::PathBuf;

use s3t_engine::System;
use s3t_interchange::superseded_beside;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::with_store;
use crate::parts::{Serving, path_text, texts};
use crate::reply::Reply;
use crate::{ApiError, ErrorKind};

/// The request to export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The new folder.
    pub to: PathBuf,
    /// The name of the base model in the adapters, such as its repository's; otherwise the pipeline's name of it, or its folder's.
    #[serde(default)]
    pub base_model: Option<String>,
}

/// The answer to `export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportAnswer {
    /// The export.
    pub export: Export,
    /// Older exports beside the new one that hold erased stages.
    pub superseded: Superseded,
    /// The failure of looking at older exports; the new one was written.
    #[serde(skip)]
    pub unfinished: Option<ApiError>,
}

impl Reply for ExportAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        self.unfinished.as_ref().map(ApiError::kind)
    }
}

/// The content of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// The public name of the store.
    pub store: String,
    /// Deletions that the store had accepted.
    pub epoch: u64,
    /// The digest of the base model.
    pub base: String,
    /// The class names.
    pub labels: Vec<String>,
    /// An adapter for each member of each shard that serves.
    pub shards: Vec<ExportedShard>,
}

/// The exported adapter of a member of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportedShard {
    /// The shard.
    pub shard: u32,
    /// The folder of the adapter, inside the export's.
    pub folder: String,
    /// The sequence and depth of the member.
    pub serving: Serving,
    /// The keys of the stages, in the order of training.
    pub stages: Vec<String>,
    /// The blocks that have an adapter.
    pub blocks: BlockRange,
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockRange {
    /// The first block.
    pub start: usize,
    /// The block after the last.
    pub end: usize,
}

impl From<s3t_core::BlockRange> for BlockRange {
    fn from(range: s3t_core::BlockRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        s3t_core::BlockRange { start: self.start, end: self.end }.fmt(f)
    }
}

/// Older exports that deletions have superseded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Superseded {
    /// Exports that hold stages which the store no longer has, each with the number of these. Their copies must be withdrawn.
    pub exports: Vec<(String, usize)>,
    /// Descriptions that cannot be read: their exports may hold dead stages.
    pub unreadable: Vec<String>,
}

impl From<s3t_interchange::Export> for Export {
    fn from(export: s3t_interchange::Export) -> Self {
        let shard = |shard: s3t_interchange::ExportedShard| ExportedShard {
            shard: shard.shard.0,
            folder: shard.folder,
            serving: shard.serving.into(),
            stages: texts(shard.stages),
            blocks: shard.blocks.into(),
        };
        Self {
            store: export.store.to_string(),
            epoch: export.epoch.0,
            base: export.base,
            labels: export.labels,
            shards: export.shards.into_iter().map(shard).collect(),
        }
    }
}

impl From<s3t_interchange::Superseded> for Superseded {
    fn from(found: s3t_interchange::Superseded) -> Self {
        let export = |export: &s3t_interchange::SupersededExport| (path_text(&export.folder), export.gone);
        Self {
            exports: found.exports.iter().map(export).collect(),
            unreadable: found.unreadable.iter().map(|path| path_text(path)).collect(),
        }
    }
}

/// Writes the stages that serve as adapters, one a member, and looks for older exports beside them that deletions have superseded.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a folder that exists and for a method without a form in PEFT; [`ErrorKind::NothingServes`] if no shard
/// serves. Nothing is left behind then.
pub fn export(request: &ExportRequest) -> Result<ExportAnswer, ApiError> {
    let mut pipeline = with_store(&request.pipeline)?;
    if let Some(name) = request.base_model.clone() {
        pipeline = pipeline.change(|pipeline| pipeline.model_name = Some(name))?;
    }
    let system = System::open(pipeline)?;
    let export = s3t_interchange::export(&system, &request.to)?.into();
    let (superseded, unfinished) = match superseded_beside(&system, &request.to) {
        Ok(superseded) => (superseded.into(), None),
        Err(error) => (Superseded::default(), Some(error.into())),
    };
    Ok(ExportAnswer { export, superseded, unfinished })
}
