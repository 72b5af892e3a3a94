use std::path::Path;

use s3t_core::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CsvSource, DataError, IdxSource, ImageFolderSource, JsonlSource, Targets};

/// Where records come from; `type` says which kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Source {
    /// A pair of IDX files.
    Idx(IdxSource),
    /// A folder of images with a manifest.
    ImageFolder(ImageFolderSource),
    /// A CSV file.
    Csv(CsvSource),
    /// A file with one JSON object a line.
    Jsonl(JsonlSource),
}

impl Source {
    /// Reads all records, in the order of the source. Relative paths start from `base_dir`.
    ///
    /// # Errors
    ///
    /// [`DataError`] for the first thing that cannot be used; nothing is returned then.
    pub fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        match self {
            Self::Idx(source) => source.read(base_dir, targets),
            Self::ImageFolder(source) => source.read(base_dir, targets),
            Self::Csv(source) => source.read(base_dir, targets),
            Self::Jsonl(source) => source.read(base_dir, targets),
        }
    }
}
