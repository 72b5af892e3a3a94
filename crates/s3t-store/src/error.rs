use std::path::PathBuf;

use s3t_core::{CoreError, RecordId, SliceAddress, StageKey, SubjectId};

/// Everything that can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder that cannot be used.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A folder that is not a store.
    #[error("`{0}` is not a store: it has no manifest.json; `s3t train` makes one")]
    NotAStore(PathBuf),
    /// A new store where something is already.
    #[error("`{0}` exists already; give another store path, or delete it if it is not needed")]
    Exists(PathBuf),
    /// A store that another process has open.
    #[error("the store `{0}` is in use by another process; wait for it to finish")]
    Locked(PathBuf),
    /// A store of another version of this program.
    #[error(
        "the store `{path}` has format {found}, but this program reads format {known}; use the version that made it, or \
         --fresh to delete the store and start again"
    )]
    OtherFormat {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that is read.
        known: u32,
    },
    /// A file whose bytes are not what was written.
    #[error(
        "`{path}` is damaged: {problem}; restore it from a copy, or delete it if it is a stage and run `s3t repair`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A slice whose records are not those that the manifest names.
    #[error("the records of {address} are not those the manifest names; the file was changed from outside, restore it")]
    SliceMismatch {
        /// The slice.
        address: SliceAddress,
    },
    /// A stage that is not there.
    #[error("stage {0} is not in the store; run `s3t train` or `s3t repair`")]
    MissingStage(StageKey),
    /// A record that is not there and never was.
    #[error("unknown record `{0}`; nothing was deleted")]
    UnknownRecord(RecordId),
    /// A subject that is not there and never was.
    #[error("unknown subject `{0}`; nothing was deleted")]
    UnknownSubject(SubjectId),
    /// A record that was deleted before.
    #[error("record `{0}` was deleted already; nothing else was deleted")]
    RecordAlreadyDeleted(RecordId),
    /// A subject that was deleted before.
    #[error("subject `{0}` was deleted already; nothing else was deleted")]
    SubjectAlreadyDeleted(SubjectId),
    /// Records or sequences that make no sense.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
