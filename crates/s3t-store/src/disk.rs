//! Every step that changes the disk, so that a test can stop at each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// How unfinished files begin. They are removed when the store is opened.
pub(crate) const TEMPORARY: &str = ".unfinished-";

/// What the store does to the disk. [`SystemDisk`] is the real one; a test may put one in its place that fails or stops at any
/// step, as a crash would.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Writes a file that is not there yet, and syncs it.
    ///
    /// # Errors
    ///
    /// The system's; the file may then be there in part.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in the place of what had it.
    ///
    /// # Errors
    ///
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Writes over the bytes of a file in place, and syncs it: before a key is removed.
    ///
    /// # Errors
    ///
    /// The system's.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes renames and removals in a folder durable.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

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
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Only Unix lets a folder be opened and synced; elsewhere renames are durable by themselves.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }
}

/// Writes a file so that after any crash its name holds the old bytes or the new ones: a temporary file, synced, renamed,
/// and the folder synced.
pub(crate) fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_new_name(disk, path, bytes)?;
    sync_folder(disk, parent(path))
}

/// The same, where the caller syncs the folder once for many files.
pub(crate) fn write_new_name(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{TEMPORARY}{name}"));
    remove(disk, &temporary)?;
    disk.write_new(&temporary, bytes).map_err(StoreError::io("write", path))?;
    disk.rename(&temporary, path).map_err(StoreError::io("write", path))
}

/// Removes a file for good; a file that is not there is fine. The caller syncs the folder.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => match disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
            _ => Ok(()),
        },
    }
}

pub(crate) fn sync_folder(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    disk.sync_folder(path).map_err(StoreError::io("sync", path))
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder that only its owner can enter, where the system knows such a thing.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(StoreError::io("make", path))
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// All files under a folder, sorted.
pub(crate) fn files_under(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(name);
        // What a link leads to is not in the folder.
        if path.is_dir() && !path.is_symlink() { files.extend(files_under(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
