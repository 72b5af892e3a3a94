//! The locations of a store and its keys.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::StoreError;
use crate::catalogue::CatalogueFile;
use crate::disk::{Disk, SystemDisk, open_folder, parent};
use crate::folder::Folder;
use crate::names::{CATALOGUE, SECRET, TEMPORARY, keys_beside};

/// The location of a store, and the way to open it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The store's folder.
    pub path: PathBuf,
    /// The folder of its keys; `None` for `PATH.keys` beside it.
    pub keys: Option<PathBuf>,
    /// The disk through which its files are written.
    pub disk: Arc<dyn Disk>,
    /// The time to wait for another process that has the store in hand.
    pub patience: Duration,
}

impl Place {
    /// The patience of [`new`](Self::new): 2 seconds.
    pub const PATIENCE: Duration = Duration::from_secs(2);

    /// A store with its keys beside it, on the real disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keys: None, disk: Arc::new(SystemDisk), patience: Self::PATIENCE }
    }

    /// The folder of a store or of its keys that a file would be in, if it is in one: nothing else may be written there.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// assert_eq!(s3t_store::Place::around(&folder.path().join("s3t.log")), None);
    /// std::fs::write(folder.path().join("store.secret"), "")?;
    /// assert!(s3t_store::Place::around(&folder.path().join("s3t.log")).is_some());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn around(file: &Path) -> Option<PathBuf> {
        // A link leads to the file itself.
        let file =
            file.canonicalize().or_else(|_| Ok::<_, std::io::Error>(parent(file).canonicalize()?.join("_"))).ok()?;
        let is_own = |folder: &&Path| [CATALOGUE, SECRET].iter().any(|name| folder.join(name).is_file());
        // Files of a store are at most four folders deep: `ledger/tile/0/x000`.
        file.ancestors().skip(1).take(5).find(is_own).map(Path::to_path_buf)
    }

    /// The folder of the keys.
    pub fn keys_folder(&self) -> PathBuf {
        self.keys.clone().unwrap_or_else(|| keys_beside(&self.path))
    }

    /// `true` if there is a store.
    pub fn is_store(&self) -> bool {
        self.path.join(CATALOGUE).is_file()
    }

    /// The folders that the store and its keys are in. Paths are resolved here, once: from then on no link is followed.
    pub(crate) fn resolve(&self) -> Result<Resolved, StoreError> {
        Ok(Resolved { store: Location::of(&self.path)?, keys: Location::of(&self.keys_folder())? })
    }
}

/// A place with its links resolved.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) store: Location,
    pub(crate) keys: Location,
}

/// A name in an open folder.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) parent: Folder,
    pub(crate) name: OsString,
    /// The path as it was given, for messages.
    shown: PathBuf,
    /// The path without links.
    real: PathBuf,
    /// The link that led here, and its target.
    pub(crate) link: Option<(PathBuf, PathBuf)>,
}

impl Location {
    /// Resolves a path, whose last component need not be there.
    fn of(path: &Path) -> Result<Self, StoreError> {
        let target = path.read_link().ok();
        let resolved = match path.canonicalize() {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(target) = target {
                    return Err(StoreError::Link { path: path.into(), target });
                }
                let folder = parent(path).canonicalize().map_err(StoreError::io("find the folder", parent(path)))?;
                folder.join(path.file_name().unwrap_or_default())
            }
            Err(error) => return Err(StoreError::io("find", path)(error)),
        };
        let name = resolved.file_name().ok_or_else(|| StoreError::NotAStore(path.into()))?.to_owned();
        let link = target.map(|target| (path.to_path_buf(), target));
        let around = parent(&resolved);
        // As the person wrote it, so that messages say `store` and not `./store`.
        let shown = if link.is_some() { around } else { path.parent().unwrap_or(Path::new("")) };
        Ok(Self { parent: open_folder(around, shown)?, name, shown: path.into(), real: resolved.clone(), link })
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.shown.clone()
    }

    /// The path without links.
    pub(crate) fn real(&self) -> PathBuf {
        self.real.clone()
    }

    /// Opens the folder that is there.
    pub(crate) fn open(&self) -> Result<Folder, StoreError> {
        open_folder(&self.real, &self.shown)
    }

    /// A catalogue in the folder.
    pub(crate) fn file(&self, name: &str) -> CatalogueFile {
        CatalogueFile { path: self.real.join(name), shown: self.shown.join(name) }
    }

    /// `true` if anything has the name.
    pub(crate) fn exists(&self) -> Result<bool, StoreError> {
        self.has(&self.name)
    }

    pub(crate) fn has(&self, name: &OsStr) -> Result<bool, StoreError> {
        let found = self.parent.entry(name).map_err(StoreError::io("look at", self.parent.path_of(name)))?;
        Ok(found.is_some())
    }

    /// The name while the thing is being made.
    pub(crate) fn unfinished(&self) -> OsString {
        with(TEMPORARY, &self.name, "")
    }

    /// The name of the lock that is held while the thing is being made.
    pub(crate) fn making_lock(&self) -> OsString {
        with(".making-", &self.name, ".lock")
    }

    /// Refuses a place that a link leads to.
    pub(crate) fn refuse_link(&self) -> Result<(), StoreError> {
        match &self.link {
            Some((path, target)) => Err(StoreError::Link { path: path.clone(), target: target.clone() }),
            None => Ok(()),
        }
    }
}

fn with(before: &str, name: &OsStr, after: &str) -> OsString {
    let mut whole = OsString::from(before);
    whole.push(name);
    whole.push(after);
    whole
}
