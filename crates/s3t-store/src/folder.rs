//! Folders that are held open.
//!
//! # Proof note
//!
//! *Before*: a folder was opened. *After* somebody renames it, or puts a link in its place: every step still works on the folder
//! that was opened, and on no other. *Why*: each step names a file relative to the open folder (`openat` and its siblings), as one
//! component, and opens it with `O_NOFOLLOW`. A link is an entry like any other: it can be removed, and is never followed.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as system;

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
use other as system;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The kind of a folder's entry, itself and not the target of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    /// A pipe, socket or device.
    Other,
}

/// The metadata of a folder's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Bytes.
    pub(crate) length: u64,
    /// The number of names that the file has. 1 where the system does not tell.
    pub(crate) names: u64,
    /// The permission bits. 0 where the system has none.
    pub(crate) mode: u32,
    /// Tells files of one system apart.
    pub(crate) identity: (u64, u64),
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: system::Handle,
}

impl Folder {
    /// Opens a folder. Its path is taken as given up to the last component, which may not be a link.
    ///
    /// # Errors
    ///
    /// The system's; `NotADirectory` or `ELOOP` for a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_as(path, path)
    }

    /// The same, with another path for messages: the one that a person gave.
    pub(crate) fn open_as(path: &Path, shown: &Path) -> io::Result<Self> {
        Ok(Self { path: shown.into(), handle: system::open_folder(path)? })
    }

    /// Opens a folder by its absolute path, of which no component may be a link.
    pub(crate) fn open_without_links(path: &Path) -> io::Result<Self> {
        let mut folder: Option<Self> = None;
        let mut root = PathBuf::new();
        for component in path.components() {
            folder = match (component, folder) {
                (std::path::Component::Normal(name), Some(folder)) => Some(folder.enter(name)?),
                (std::path::Component::Normal(_), None) => return Err(io::ErrorKind::InvalidInput.into()),
                (other, _) => {
                    root.push(other);
                    Some(Self::open(&root)?)
                }
            };
        }
        folder.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Opens a folder in this one.
    pub(crate) fn enter(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        Ok(Self { path: self.path.join(name), handle: system::enter(&self.handle, component(name)?)? })
    }

    /// Makes a folder that only its owner can enter; there must be nothing of this name.
    pub(crate) fn make(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        system::make(&self.handle, component(name)?)?;
        self.enter(name)
    }

    /// Opens a folder in this one, made if it is not there.
    pub(crate) fn enter_or_make(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        match self.enter(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(name),
            entered => entered,
        }
    }

    /// The path of the folder, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub(crate) fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// The names of all entries, sorted.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = system::names(&self.handle)?;
        names.sort();
        Ok(names)
    }

    /// The metadata of an entry; `None` if there is no such entry.
    pub(crate) fn entry(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Entry>> {
        match system::entry(&self.handle, component(name.as_ref())?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// The metadata of the folder itself.
    pub(crate) fn itself(&self) -> io::Result<Entry> {
        system::itself(&self.handle)
    }

    /// Opens an ordinary file to read it.
    ///
    /// # Errors
    ///
    /// The system's; `InvalidInput` for anything that is not an ordinary file.
    pub(crate) fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let file = system::open_file(&self.handle, component(name.as_ref())?)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
    }

    /// The bytes of an ordinary file.
    pub(crate) fn read(&self, name: impl AsRef<OsStr>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(name)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The text of an ordinary file.
    pub(crate) fn read_text(&self, name: impl AsRef<OsStr>) -> io::Result<String> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        String::from_utf8(self.read(name)?).map_err(invalid)
    }

    /// Opens the file of a lock, made if it is not there; to read only where it cannot be written.
    pub(crate) fn open_lock(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let file = system::open_lock(&self.handle, component(name.as_ref())?)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
    }

    pub(crate) fn write_new(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let mut file = system::create_file(&self.handle, component(name)?)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    pub(crate) fn overwrite(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let mut file = system::open_to_write(&self.handle, component(name)?)?;
        if !file.metadata()?.is_file() {
            return Err(not_a_file());
        }
        file.write_all(bytes)?;
        file.sync_all()
    }

    pub(crate) fn rename(&self, from: &OsStr, folder: &Self, to: &OsStr) -> io::Result<()> {
        system::rename(&self.handle, component(from)?, &folder.handle, component(to)?)
    }

    /// Gives a file or folder a name that nothing has.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        system::rename_new(&self.handle, component(from)?, component(to)?)
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        system::remove(&self.handle, component(name)?)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        system::remove_folder(&self.handle, component(name.as_ref())?)
    }

    /// Lets only the owner enter the folder.
    pub(crate) fn restrict(&self) -> io::Result<()> {
        system::restrict(&self.handle)
    }

    /// Lets only the owner use an ordinary file.
    pub(crate) fn restrict_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        system::restrict_file(&self.open_file(name)?)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        system::sync(&self.handle)
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not an ordinary file")
}

/// A name that is one component of a path.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file in a folder")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_entries_and_are_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(&victim, inside.path().join("link")).unwrap();
        symlink(outside.path(), inside.path().join("folder")).unwrap();
        let folder = Folder::open(inside.path()).unwrap();
        assert!(folder.read("link").is_err() && folder.enter("folder").is_err() && folder.open_lock("link").is_err());
        assert!(folder.write_new("link".as_ref(), b"x").is_err() && folder.overwrite("link".as_ref(), b"x").is_err());
        assert!(Folder::open(&inside.path().join("folder")).is_err());
        assert_eq!(folder.entry("link").unwrap().unwrap().kind, Kind::Link);
        folder.remove("link".as_ref()).unwrap();
        folder.remove("folder".as_ref()).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(folder.names().unwrap().is_empty());
    }

    #[test]
    fn a_folder_stays_the_one_that_was_opened() {
        let place = tempfile::tempdir().unwrap();
        let (first, moved) = (place.path().join("a"), place.path().join("b"));
        std::fs::create_dir(&first).unwrap();
        let folder = Folder::open(&first).unwrap();
        std::fs::rename(&first, &moved).unwrap();
        std::fs::create_dir(&first).unwrap();
        std::fs::write(first.join("file"), "another's").unwrap();
        folder.write_new("file".as_ref(), b"ours").unwrap();
        assert_eq!(std::fs::read_to_string(moved.join("file")).unwrap(), "ours");
        folder.remove("file".as_ref()).unwrap();
        assert_eq!(std::fs::read_to_string(first.join("file")).unwrap(), "another's");
    }

    #[test]
    fn names_are_one_component_and_pipes_do_not_hold_a_reader() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in ["..", ".", "", "a/b", "/etc", "a/"] {
            assert!(folder.read(name).is_err() && folder.write_new(name.as_ref(), b"").is_err(), "{name:?}");
        }
        let made = std::process::Command::new("mkfifo").arg(place.path().join("pipe")).status().unwrap();
        assert!(made.success());
        assert_eq!(folder.entry("pipe").unwrap().unwrap().kind, Kind::Other);
        assert!(folder.read("pipe").is_err() && folder.open_lock("pipe").is_err());
    }
}
