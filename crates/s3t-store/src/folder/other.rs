//! Folders of systems without names relative to an open folder: paths, and a look for links before each step.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Entry, Kind};

pub(super) type Handle = PathBuf;

/// The path of an entry that is not a link.
fn no_link(folder: &Handle, name: &OsStr) -> io::Result<PathBuf> {
    let path = folder.join(name);
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link")),
        _ => Ok(path),
    }
}

pub(super) fn open_folder(path: &Path) -> io::Result<Handle> {
    let found = path.symlink_metadata()?;
    if found.is_dir() { Ok(path.into()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

pub(super) fn enter(folder: &Handle, name: &OsStr) -> io::Result<Handle> {
    open_folder(&folder.join(name))
}

pub(super) fn make(folder: &Handle, name: &OsStr) -> io::Result<()> {
    fs::create_dir(folder.join(name))
}

pub(super) fn names(folder: &Handle) -> io::Result<Vec<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

pub(super) fn entry(folder: &Handle, name: &OsStr) -> io::Result<Entry> {
    folder.join(name).symlink_metadata().map(|found| to_entry(&found))
}

pub(super) fn itself(folder: &Handle) -> io::Result<Entry> {
    folder.symlink_metadata().map(|found| to_entry(&found))
}

fn to_entry(found: &fs::Metadata) -> Entry {
    let kind = match found.file_type() {
        kind if kind.is_symlink() => Kind::Link,
        kind if kind.is_dir() => Kind::Folder,
        kind if kind.is_file() => Kind::File,
        _ => Kind::Other,
    };
    Entry { kind, length: found.len(), names: 1, mode: 0, identity: (0, 0) }
}

pub(super) fn open_file(folder: &Handle, name: &OsStr) -> io::Result<File> {
    File::open(no_link(folder, name)?)
}

pub(super) fn open_to_write(folder: &Handle, name: &OsStr) -> io::Result<File> {
    OpenOptions::new().write(true).open(no_link(folder, name)?)
}

pub(super) fn open_lock(folder: &Handle, name: &OsStr) -> io::Result<File> {
    let path = no_link(folder, name)?;
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

pub(super) fn create_file(folder: &Handle, name: &OsStr) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(folder.join(name))
}

pub(super) fn rename(from: &Handle, name: &OsStr, to: &Handle, new: &OsStr) -> io::Result<()> {
    fs::rename(from.join(name), to.join(new))
}

pub(super) fn rename_new(folder: &Handle, from: &OsStr, to: &OsStr) -> io::Result<()> {
    if folder.join(to).symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    rename(folder, from, folder, to)
}

pub(super) fn remove(folder: &Handle, name: &OsStr) -> io::Result<()> {
    fs::remove_file(folder.join(name))
}

pub(super) fn remove_folder(folder: &Handle, name: &OsStr) -> io::Result<()> {
    fs::remove_dir(folder.join(name))
}

pub(super) fn sync(_folder: &Handle) -> io::Result<()> {
    // Renames are durable by themselves.
    Ok(())
}

pub(super) fn restrict(_folder: &Handle) -> io::Result<()> {
    Ok(())
}

pub(super) fn restrict_file(_file: &File) -> io::Result<()> {
    Ok(())
}
