use std::path::{Path, PathBuf};

use crate::OtherSpellings;
use s3t_core::spelling::{DIFFERENCES, Visible, beside};
use s3t_core::{CoreError, RecordId, SliceAddress, StageKey, SubjectId};
use s3t_ledger::LedgerError;

use crate::lock::{CatalogueLock, Holder};

/// Everything that can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder that cannot be used.
    #[error("cannot {action} `{path}`: {cause}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A folder that is not a store.
    #[error("`{0}` is not a store: it has no catalogue.db; `s3t train` makes one")]
    NotAStore(PathBuf),
    /// A new store where something is already.
    #[error("`{0}` exists already; give another store path, or delete it if it is not needed")]
    Exists(PathBuf),
    /// Keys where a new store's should be.
    #[error(
        "`{keys}` holds the keys of a store, but there is none at `{store}`; if it was moved, move it back or say where it is, \
         if it is gone for good, delete the keys"
    )]
    KeysWithoutStore {
        /// The folder of keys.
        keys: PathBuf,
        /// The place at which there is no store.
        store: PathBuf,
    },
    /// A store in which another process builds stages.
    #[error("another process is building stages in the store `{store}`: {holder}; wait for it to finish")]
    Building {
        /// The store.
        store: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A store that another process is making.
    #[error("the store `{store}` is being made by {holder}; wait for it to finish, then run the command again")]
    Making {
        /// The store.
        store: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A store whose files another process is changing.
    #[error("the files of the store `{store}` are being changed by {holder}; try again when it is done")]
    Erasing {
        /// The store.
        store: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A store in which another process is adding a stage.
    #[error("a stage is being added to the store `{store}` by {holder}; try again when it is done")]
    Adding {
        /// The store.
        store: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A catalogue that another process keeps locked.
    #[error("the catalogue `{path}` is locked by {holder}; nothing was done, try again")]
    Busy {
        /// The catalogue.
        path: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// A catalogue whose past another process still reads, so that it cannot be cut off.
    #[error(
        "{holder} reads the catalogue of the store `{store}` as it was before the erasure (a backup, perhaps), so that its log \
         cannot be truncated yet; any later command finishes the erasure"
    )]
    Reading {
        /// The store.
        store: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// Records of a deletion that other machines may still remember.
    #[error(
        "the records of a deletion are erased from the store `{store}`, but workers on other machines may remember them for {:.0} s, \
         longer while object storage does not remove its sealed copies, of which the training tells; any later command calls the deletion erased, when they have forgotten",
        left.as_secs_f64().ceil()
    )]
    Elsewhere {
        /// The store.
        store: PathBuf,
        /// The time after which they have ended at the latest.
        left: std::time::Duration,
    },
    /// A store that changed again and again while it was looked at.
    #[error("the store `{0}` kept changing while it was looked at, so that nothing can be said about it; try again")]
    Changed(PathBuf),
    /// A store that another process has deleted, or was deleting when it stopped.
    #[error(
        "the store `{0}` is being deleted, or its deletion was interrupted; run the command again, with `--fresh` if that was asked for"
    )]
    Removed(PathBuf),
    /// A link in the place of something of the store.
    #[error("`{path}` is a link to `{target}`; the store follows no links: put the file or folder itself there")]
    Link {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// Something in the store's folders that is not the store's.
    #[error(
        "`{0}` is in a folder of the store, but not the store's; move it away, then run the command again. Nothing was deleted"
    )]
    Foreign(PathBuf),
    /// An export in a folder that is the store's own.
    #[error(
        "the export `{export}` would be inside `{folder}`, where nothing but the store's own files may be; put it beside that folder"
    )]
    ExportInside {
        /// The export.
        export: PathBuf,
        /// The folder of the store, or of its keys.
        folder: PathBuf,
    },
    /// An export that is to be forgotten, but is there.
    #[error(
        "the export `{0}` is still there, and a deletion that takes its stages will remove it; only an export whose files are gone is taken off the \
         list. Remove it first, or leave it on the list"
    )]
    ExportThere(PathBuf),
    /// A store on a disk that cannot be written, in a state that cannot be read there.
    #[error(
        "`{path}` cannot be read where nothing can be written: SQLite has to finish its log `{log}` first; run any command on \
         the store where it can be written, for example `s3t status` before the disk is mounted read-only"
    )]
    ReadOnlyLog {
        /// The catalogue.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
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
        "`{path}` is damaged: {problem}; restore the store and its keys from one copy, or, if it is a stage, run \
         `s3t store check --repair` and `s3t repair`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A key that cannot be read.
    #[error("cannot read the key `{path}`: {cause}; `store.keys` in the pipeline says where a store's keys are")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Keys of another store.
    #[error("`{keys}` holds the keys of another store than `{store}`")]
    OtherKeys {
        /// The folder of keys.
        keys: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// A store from before something that its keys know of.
    #[error(
        "the store `{path}` is older than its keys: its ledger has {found} entries, but {known} were signed; it was rolled back, \
         so that deletions since then are undone in it: bring back the newer store"
    )]
    RolledBack {
        /// The store.
        path: PathBuf,
        /// The entries of its ledger.
        found: u64,
        /// The entries that were signed.
        known: u64,
    },
    /// A slice whose records are not those that the catalogue names.
    #[error(
        "the records of {address} are not those the catalogue names; the file was changed from outside, restore it"
    )]
    SliceMismatch {
        /// The slice.
        address: SliceAddress,
    },
    /// A slice from which records are being erased.
    #[error("records of {0} are being erased; try again")]
    BeingErased(SliceAddress),
    /// A stage that is not there.
    #[error("stage {0} is not in the store; run `s3t train` or `s3t repair`")]
    MissingStage(StageKey),
    /// A record that is not there.
    #[error("unknown record `{}`; nothing was deleted. What was deleted before leaves no trace to tell it by", Visible(.0.as_str()))]
    UnknownRecord(RecordId),
    /// A subject that is not there.
    #[error("unknown subject `{}`; nothing was deleted. What was deleted before leaves no trace to tell it by", Visible(.0.as_str()))]
    UnknownSubject(SubjectId),
    /// A record or subject that is not there in this spelling, and may be in another.
    #[error("{}", other_spelling(kind, id, spellings))]
    OtherSpelling {
        /// `record` or `subject`.
        kind: &'static str,
        /// The id that was asked for.
        id: String,
        /// The other spellings that are there.
        spellings: OtherSpellings,
    },
    /// A request without a name in it.
    #[error("the request names no record and no subject; nothing was deleted")]
    NothingNamed,
    /// A request id that was used for something else.
    #[error("the request id `{0}` was used for another request; a new request needs a new id")]
    OtherRequest(String),
    /// A request id that cannot be used.
    #[error("invalid request id {0:?}: use 1 to 256 bytes without control characters, and nothing that names a person")]
    RequestId(String),
    /// A request that the store does not know.
    #[error("unknown request `{0}`")]
    UnknownRequest(String),
    /// A content that does not fit the file format.
    #[error("`{0}` is too large to be sealed in one file (256 GB)")]
    TooLarge(String),
    /// The catalogue's database.
    #[error("the catalogue `{path}`: {cause}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        cause: rusqlite::Error,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Records or sequences that make no sense.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { action, path, cause }
    }

    /// The error of a file or folder that could not be opened without following links: a link at `at` is named as one.
    pub(crate) fn not_opened(action: &'static str, at: &Path, shown: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| match at.read_link() {
            Ok(target) => Self::Link { path: shown.into(), target },
            Err(_) => Self::io(action, shown)(error),
        }
    }

    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), problem: problem.into() }
    }

    /// The error for a failure of the database.
    /// `path` is shown, `file` is the same without links.
    pub(crate) fn database(path: &Path, file: &Path, cause: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match cause.sqlite_error_code() {
            // The last: a process that was stopped in the middle of its look at the catalogue's index keeps others from it.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                Self::Busy { path: path.into(), holder: Holder::of_catalogue_at(file, CatalogueLock::Write) }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::damaged(path, cause.to_string()),
            // What a database keeps in memory that files are mapped into is not written but mapped.
            Some(code) if code == ErrorCode::DiskFull || (code == ErrorCode::SystemIoFailure && is_full(file)) => {
                Self::Io {
                    action: "write",
                    path: path.into(),
                    cause: std::io::Error::new(
                        std::io::ErrorKind::StorageFull,
                        "the disk is full; nothing was changed",
                    ),
                }
            }
            Some(ErrorCode::CannotOpen) if file.is_symlink() => {
                Self::Link { path: path.into(), target: file.read_link().unwrap_or_default() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::Io {
                action: "use the catalogue",
                path: path.into(),
                cause: std::io::Error::new(std::io::ErrorKind::PermissionDenied, cause.to_string()),
            },
            _ => Self::Database { path: path.into(), cause },
        }
    }
}

/// `true` if the disk of a file has no room for a page of it.
fn is_full(file: &Path) -> bool {
    rustix::fs::statvfs(file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < 32 << 10)
}

/// An id that is not there in the spelling that was asked for.
fn other_spelling(kind: &str, id: &str, spellings: &OtherSpellings) -> String {
    let OtherSpellings { found, looked_through, slices } = spellings;
    let (id, others) = beside(id, found);
    let there = match &found[..] {
        [] => "No other spelling of it was found".to_owned(),
        [_] => format!("There is {others}, which differs from it only in {DIFFERENCES}: name it so if it is meant"),
        _ => format!("There are {others}, which differ from it only in {DIFFERENCES}: name each that is meant"),
    };
    let part = if looked_through < slices {
        format!(
            " ({looked_through} of {slices} slices were looked through; `s3t audit --absent-{kind}` looks through all)"
        )
    } else {
        String::new()
    };
    format!("unknown {kind} `{id}`; nothing was deleted. {there}{part}")
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// A message contains its cause, so the cause is not given as a source too: whoever prints a chain would print it twice.
    #[test]
    fn no_cause_is_printed_twice() {
        let io = || std::io::Error::other("the cause");
        let path = PathBuf::from("place");
        let key = StageKey(s3t_core::Digest::from_bytes([1; 32]));
        let sqlite = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some("the cause".into()));
        for error in [
            StoreError::io("read", &path)(io()),
            StoreError::not_opened("open", &path, &path)(io()),
            StoreError::Key { path: path.clone(), cause: io() },
            StoreError::Database { path: path.clone(), cause: sqlite(rusqlite::ffi::SQLITE_ERROR) },
            StoreError::database(&path, &path, sqlite(rusqlite::ffi::SQLITE_CORRUPT)),
            StoreError::database(&path, &path, sqlite(rusqlite::ffi::SQLITE_CANTOPEN)),
            StoreError::Ledger(LedgerError::Proof("the cause".into())),
        ] {
            assert!(error.to_string().contains("the cause"), "{error}");
            assert!(error.source().is_none(), "{error}");
        }
        for error in [
            StoreError::database(&path, &path, sqlite(rusqlite::ffi::SQLITE_FULL)),
            StoreError::damaged(&path, "a problem"),
            StoreError::MissingStage(key),
            StoreError::Core(CoreError::TensorName { name: "x".into() }),
            StoreError::OtherFormat { path: path.clone(), found: 1, known: 2 },
            StoreError::Busy { path, holder: Holder::default() },
        ] {
            assert!(error.source().is_none(), "{error}");
        }
    }
}
