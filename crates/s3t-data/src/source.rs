use std::path::{Path, PathBuf};

use s3t_core::{PictureInput, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CsvSource, DataError, IdxSource, ImageFolderSource, JsonlSource, Targets};

/// The source of records; `type` names its kind.
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
    /// ```
    /// use s3t_data::{JsonlSource, Labels, Source, Targets};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let lines = "{\"id\": \"r1\", \"label\": \"cat\", \"x\": [0.5, 1.0]}\n{\"id\": \"r2\", \"label\": \"dog\", \"x\": [0.0, 2.0]}\n";
    /// std::fs::write(folder.path().join("train.jsonl"), lines)?;
    /// let source: Source = serde_json::from_str(r#"{"type": "jsonl", "file": "train.jsonl", "id": "id", "features": "x"}"#)?;
    /// let labels = Labels::new(vec!["cat".into(), "dog".into()])?;
    /// let records = source.read(folder.path(), &Targets::classes(&labels))?;
    /// assert_eq!((records.len(), records[1].id.as_str()), (2, "r2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DataError`] for the first thing that cannot be used; nothing is returned then.
    pub fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        self.read_for(base_dir, targets, None)
    }

    /// Reads all records as [`read`](Self::read) does, and picture files as a model takes them: by the steps of its own
    /// processor.
    ///
    /// # Errors
    ///
    /// [`DataError`] for the first thing that cannot be used; nothing is returned then.
    pub fn read_for(
        &self,
        base_dir: &Path,
        targets: &Targets<'_>,
        model: Option<&PictureInput>,
    ) -> Result<Vec<Record>, DataError> {
        for file in self.files() {
            let path = base_dir.join(file);
            // What cannot be looked at is refused where it is read.
            let kind = std::fs::metadata(&path).map(|found| found.file_type());
            if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
                return Err(DataError::file(&path, "is a pipe or a device, which cannot be read again; give a file"));
            }
        }
        match self {
            Self::Idx(source) => source.read(base_dir, targets),
            Self::ImageFolder(source) => source.read(base_dir, targets, model),
            Self::Csv(source) => source.read(base_dir, targets),
            Self::Jsonl(source) => source.read(base_dir, targets),
        }
    }

    fn files(&self) -> Vec<&Path> {
        match self {
            Self::Idx(IdxSource { images, labels, subjects, .. }) => {
                [images, labels].into_iter().chain(subjects).map(PathBuf::as_path).collect()
            }
            Self::ImageFolder(ImageFolderSource { manifest, .. }) => vec![manifest],
            Self::Csv(CsvSource { file, .. }) | Self::Jsonl(JsonlSource { file, .. }) => vec![file],
        }
    }

    /// `true` if records are chats, whose texts the model's chat template makes.
    pub fn has_chats(&self) -> bool {
        matches!(self, Self::Jsonl(JsonlSource { messages: Some(_), .. }))
    }

    /// `true` if records are picture files, so that reading them takes the model's processor.
    pub fn has_pictures(&self) -> bool {
        matches!(self, Self::ImageFolder(_))
    }
}
