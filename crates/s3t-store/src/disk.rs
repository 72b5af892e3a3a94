//! Every step that changes the disk, so that a test can stop at each.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::StoreError;
use crate::folder::Folder;
use crate::names::TEMPORARY;

/// The store's changes to the disk. [`SystemDisk`] is the real one; a test may put one in its place that fails or stops at any
/// step, as a crash would. Every step names a file in an open folder, so that no link is followed and a path that changes under
/// way leads nowhere else.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Writes a file that is not there yet, and syncs it.
    ///
    /// # Errors
    ///
    /// The system's; the file may then be there in part.
    fn write_new(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in the place of what had it.
    ///
    /// # Errors
    ///
    /// The system's.
    fn rename(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()>;

    /// Writes over the bytes of a file in place, and syncs it: before a key is removed.
    ///
    /// # Errors
    ///
    /// The system's.
    fn overwrite(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file or a link.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&self, folder: &Folder, name: &OsStr) -> io::Result<()>;

    /// Makes renames and removals in a folder durable.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_folder(&self, folder: &Folder) -> io::Result<()>;

    /// Called before a transaction of the catalogue is committed.
    ///
    /// # Errors
    ///
    /// Then it is not committed.
    fn before_commit(&self) -> io::Result<()> {
        Ok(())
    }

    /// Called after a transaction of the catalogue was committed.
    ///
    /// # Errors
    ///
    /// As if the process had stopped there.
    fn after_commit(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk as the operating system has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write_new(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        folder.write_new(name, bytes)
    }

    fn rename(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()> {
        from.rename(name, to, new)
    }

    fn overwrite(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        folder.overwrite(name, bytes)
    }

    fn remove(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        folder.remove(name)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        folder.sync()
    }
}

/// Writes a file so that after any crash its name holds the old bytes or the new ones: a temporary file, synced, renamed,
/// and the folder synced.
pub(crate) fn write_atomically(disk: &dyn Disk, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    write_new_name(disk, folder, name, bytes)?;
    sync_folder(disk, folder)
}

/// The same, where the caller syncs the folder once for many files.
pub(crate) fn write_new_name(disk: &dyn Disk, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = format!("{TEMPORARY}{name}");
    remove(disk, folder, &temporary)?;
    let failed = |error| StoreError::io("write", folder.path_of(name))(error);
    disk.write_new(folder, temporary.as_ref(), bytes).map_err(failed)?;
    disk.rename(folder, temporary.as_ref(), folder, name.as_ref()).map_err(failed)
}

/// Removes a file or a link for good; a file that is not there is fine. The caller syncs the folder.
pub(crate) fn remove(disk: &dyn Disk, folder: &Folder, name: impl AsRef<OsStr>) -> Result<(), StoreError> {
    let name = name.as_ref();
    match folder.entry(name) {
        Ok(None) => Ok(()),
        _ => match disk.remove(folder, name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", folder.path_of(name))(error))
            }
            _ => Ok(()),
        },
    }
}

pub(crate) fn sync_folder(disk: &dyn Disk, folder: &Folder) -> Result<(), StoreError> {
    disk.sync_folder(folder).map_err(StoreError::io("sync", folder.path()))
}

/// Opens a folder by its path; messages show another.
pub(crate) fn open_folder(path: &Path, shown: &Path) -> Result<Folder, StoreError> {
    Folder::open_as(path, shown).map_err(StoreError::not_opened("open the folder", path, shown))
}

/// Opens a folder in another.
pub(crate) fn enter(folder: &Folder, name: impl AsRef<OsStr>) -> Result<Folder, StoreError> {
    let name = name.as_ref();
    let path = folder.path_of(name);
    folder.enter(name).map_err(StoreError::not_opened("open the folder", &path, &path))
}

/// Makes a folder in another that only its owner can enter.
pub(crate) fn make(folder: &Folder, name: impl AsRef<OsStr>) -> Result<Folder, StoreError> {
    let name = name.as_ref();
    folder.make(name).map_err(StoreError::io("make", folder.path_of(name)))
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The names in a folder, sorted. Names that are not UTF-8 are nobody's of the store: they come with the characters replaced.
pub(crate) fn names(folder: &Folder) -> Result<Vec<String>, StoreError> {
    let names = folder.names().map_err(StoreError::io("list", folder.path()))?;
    Ok(names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
}
