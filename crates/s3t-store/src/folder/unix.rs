//! Folders of Unix: descriptors, and names relative to them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::{Entry, Kind};

pub(super) type Handle = OwnedFd;

const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

fn flags(more: OFlags) -> OFlags {
    OFlags::NOFOLLOW | OFlags::CLOEXEC | more
}

pub(super) fn open_folder(path: &Path) -> io::Result<Handle> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::open(path, flags(OFlags::RDONLY | OFlags::DIRECTORY), Mode::empty())?)
}

pub(super) fn enter(folder: &Handle, name: &OsStr) -> io::Result<Handle> {
    Ok(rustix::fs::openat(folder, name, flags(OFlags::RDONLY | OFlags::DIRECTORY), Mode::empty())?)
}

pub(super) fn make(folder: &Handle, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(folder, name, Mode::RWXU)?)
}

pub(super) fn names(folder: &Handle) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(super) fn entry(folder: &Handle, name: &OsStr) -> io::Result<Entry> {
    Ok(to_entry(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

pub(super) fn itself(folder: &Handle) -> io::Result<Entry> {
    Ok(to_entry(&rustix::fs::fstat(folder)?))
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
fn to_entry(found: &rustix::fs::Stat) -> Entry {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    Entry {
        kind,
        length: found.st_size as u64,
        names: found.st_nlink as u64,
        mode: u32::from(found.st_mode) & 0o7777,
        identity: (found.st_dev as u64, found.st_ino as u64),
    }
}

pub(super) fn open_file(folder: &Handle, name: &OsStr) -> io::Result<File> {
    // Without waiting, so that a pipe in the place of a file is refused and does not hold the process.
    Ok(rustix::fs::openat(folder, name, flags(OFlags::RDONLY | OFlags::NONBLOCK), Mode::empty())?.into())
}

pub(super) fn open_to_write(folder: &Handle, name: &OsStr) -> io::Result<File> {
    Ok(rustix::fs::openat(folder, name, flags(OFlags::WRONLY | OFlags::NONBLOCK), Mode::empty())?.into())
}

pub(super) fn open_lock(folder: &Handle, name: &OsStr) -> io::Result<File> {
    let writing = flags(OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK);
    match rustix::fs::openat(folder, name, writing, OWNER_ONLY) {
        Err(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => open_file(folder, name),
        opened => Ok(opened?.into()),
    }
}

pub(super) fn create_file(folder: &Handle, name: &OsStr) -> io::Result<File> {
    let new = flags(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
    Ok(rustix::fs::openat(folder, name, new, OWNER_ONLY)?.into())
}

pub(super) fn rename(from: &Handle, name: &OsStr, to: &Handle, new: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, name, to, new)?)
}

pub(super) fn rename_new(folder: &Handle, from: &OsStr, to: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(folder, from, folder, to, rustix::fs::RenameFlags::NOREPLACE) {
        // File systems that do not know it.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
        renamed => return Ok(renamed?),
    }
    match entry(folder, to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => rename(folder, from, folder, to),
    }
}

pub(super) fn remove(folder: &Handle, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
}

pub(super) fn remove_folder(folder: &Handle, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

pub(super) fn sync(folder: &Handle) -> io::Result<()> {
    Ok(rustix::fs::fsync(folder)?)
}

pub(super) fn restrict(folder: &Handle) -> io::Result<()> {
    Ok(rustix::fs::fchmod(folder, Mode::RWXU)?)
}

pub(super) fn restrict_file(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, OWNER_ONLY)?)
}
