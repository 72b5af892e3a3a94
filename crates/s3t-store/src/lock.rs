//! Locks between processes, and who holds them.
//!
//! A lock is an empty file that a process holds open and locked; the system lets go of it when the process ends, however it
//! ends. The holder writes its number and the moment into the file, for messages only: the lock of the system decides.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::StoreError;
use crate::folder::Folder;

/// The sleep between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The process that keeps others waiting, as far as it can be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process's number; `None` where the system does not tell.
    pub process: Option<u32>,
    /// The name of its program.
    pub program: Option<String>,
    /// `true` if it is stopped (`SIGSTOP`), so that it will not go on by itself.
    pub stopped: bool,
    /// For how long it has held the lock.
    pub held: Option<Duration>,
}

impl Holder {
    /// A process with this number.
    fn of_process(process: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        // The state comes after the program's name in brackets, which may hold brackets itself.
        let state = read("stat").and_then(|text| text.rsplit_once(") ").map(|(_, rest)| rest.chars().next()));
        Self {
            process: Some(process),
            program: read("comm").map(|name| name.trim_end().to_owned()),
            stopped: matches!(state.flatten(), Some('T' | 't')),
            held: None,
        }
    }

    /// Whoever holds the lock of this file.
    fn of_lock(file: &File) -> Self {
        let (written, since) = read_note(file).unzip();
        let process = locks::holder_of_file(file).or(written);
        let mut holder = process.map(Self::of_process).unwrap_or_default();
        if process.is_some() && process == written {
            holder.held = since.and_then(|since| SystemTime::now().duration_since(since).ok());
        }
        holder
    }

    /// Whoever keeps the catalogue with this path locked for writing, or reads an old state of it.
    pub(crate) fn of_catalogue_at(path: &Path, kind: CatalogueLock) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Not opened: whoever closes a file gives up all locks of it that the process has, SQLite's among them.
        let shared = Folder::open(crate::disk::parent(path)).and_then(|folder| folder.entry(format!("{name}-shm")));
        let process = shared.ok().flatten().and_then(|entry| locks::holder_of_range(&entry, kind.range()));
        process.map(Self::of_process).unwrap_or_default()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(process) = self.process else { return f.write_str("another process") };
        write!(f, "process {process}")?;
        let program = self.program.as_ref().map(|name| format!("`{name}`"));
        let stopped = self.stopped.then(|| "stopped: continue or end it".to_owned());
        let about: Vec<String> = program.into_iter().chain(stopped).collect();
        if !about.is_empty() {
            write!(f, " ({})", about.join(", "))?;
        }
        match self.held {
            Some(held) => write!(f, ", for {:.1} s", held.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// A lock of SQLite's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CatalogueLock {
    /// Held while a transaction writes.
    Write,
    /// Held while a transaction reads.
    Read,
}

impl CatalogueLock {
    /// The bytes of the shared-memory file that stand for it: 120 is the writer's, 123 to 127 are the readers' (SQLite, "WAL-mode
    /// File Format", section 2.3.2).
    fn range(self) -> (u64, u64) {
        match self {
            Self::Write => (120, 120),
            Self::Read => (123, 127),
        }
    }
}

/// A lock that this process holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Takes a lock, waiting for so long at most.
///
/// # Errors
///
/// The outer result: the lock's file cannot be used. The inner one: somebody else holds the lock.
pub(crate) fn take(
    folder: &Folder,
    name: impl AsRef<OsStr>,
    patience: Duration,
) -> Result<Result<Lock, Holder>, StoreError> {
    let name = name.as_ref();
    let path = folder.path_of(name);
    let failed = |error| StoreError::not_opened("lock", &path, &path)(error);
    let until = Instant::now() + patience;
    loop {
        let file = folder.open_lock(name).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // Whoever had it before may have removed the file: then the lock is of a file that nobody else will look at.
                let there = folder.entry(name).map_err(failed)?;
                if there.is_some_and(|there| locks::is(&file, &there)) {
                    let mut lock = Lock { file };
                    lock.write_note();
                    return Ok(Ok(lock));
                }
            }
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(Err(Holder::of_lock(&file))),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Whoever holds a lock now; `None` if nobody does.
pub(crate) fn holder(folder: &Folder, name: &str) -> Option<Holder> {
    let file = folder.open_file(name).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(Holder::of_lock(&file)),
        _ => None,
    }
}

impl Lock {
    /// Says who holds the lock, where the file is the lock's alone. A lock that says nothing is as good.
    fn write_note(&mut self) {
        if !locks::has_one_name(&self.file) {
            return;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let note = format!("{} {since}\n", std::process::id());
        let written = self.file.set_len(0).and_then(|()| self.file.rewind());
        drop(written.and_then(|()| self.file.write_all(note.as_bytes())));
    }
}

/// The process and the moment that a lock's file names.
fn read_note(mut file: &File) -> Option<(u32, SystemTime)> {
    let mut bytes = [0; 64];
    file.rewind().ok()?;
    let length = file.read(&mut bytes).ok()?;
    let (process, since) = std::str::from_utf8(&bytes[..length]).ok()?.trim_end().split_once(' ')?;
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since.parse().ok()?))?;
    Some((process.parse().ok()?, since))
}

#[cfg(unix)]
mod locks {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use crate::folder::Entry;

    /// `true` if an open file is this entry.
    pub(super) fn is(file: &File, entry: &Entry) -> bool {
        file.metadata().is_ok_and(|found| (found.dev(), found.ino()) == entry.identity)
    }

    pub(super) fn has_one_name(file: &File) -> bool {
        file.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1)
    }

    /// The process that holds the lock of a whole file.
    pub(super) fn holder_of_file(file: &File) -> Option<u32> {
        find(file.metadata().ok()?.ino(), |kind, _| kind == "FLOCK")
    }

    /// The process that holds a lock of some of these bytes.
    pub(super) fn holder_of_range(entry: &Entry, (first, last): (u64, u64)) -> Option<u32> {
        find(entry.identity.1, |kind, range| kind == "POSIX" && range.0 <= last && range.1 >= first)
    }

    /// Looks into Linux's list of locks: `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`.
    fn find(inode: u64, wanted: impl Fn(&str, (u64, u64)) -> bool) -> Option<u32> {
        let inode = inode.to_string();
        let own = std::process::id();
        let list = std::fs::read_to_string("/proc/locks").ok()?;
        list.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
            let [_, kind, _, _, process, place, first, last] = words[..] else { return None };
            let last = last.parse().unwrap_or(u64::MAX);
            let process = process.parse().ok().filter(|process| *process != own && *process != 0)?;
            let here = place.rsplit_once(':').is_some_and(|(_, of)| of == inode);
            (here && wanted(kind, (first.parse().ok()?, last))).then_some(process)
        })
    }
}

#[cfg(not(unix))]
mod locks {
    use std::fs::File;

    use crate::folder::Entry;

    pub(super) fn is(_file: &File, _entry: &Entry) -> bool {
        true
    }

    pub(super) fn has_one_name(_file: &File) -> bool {
        true
    }

    pub(super) fn holder_of_file(_file: &File) -> Option<u32> {
        None
    }

    pub(super) fn holder_of_range(_entry: &Entry, _range: (u64, u64)) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_process_at_a_time_and_names_its_holder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let held = take(&folder, "a.lock", Duration::ZERO).unwrap().unwrap();
        let started = Instant::now();
        let holder_seen = take(&folder, "a.lock", Duration::from_millis(50)).unwrap().unwrap_err();
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert_eq!(holder_seen.process, Some(std::process::id()));
        assert!(holder_seen.held.is_some() && !holder_seen.stopped);
        assert!(holder_seen.to_string().starts_with(&format!("process {}", std::process::id())));
        assert!(holder(&folder, "a.lock").is_some());
        drop(held);
        assert!(holder(&folder, "a.lock").is_none());
        take(&folder, "a.lock", Duration::ZERO).unwrap().unwrap();
    }

    #[test]
    fn a_lock_of_a_file_that_was_removed_is_taken_anew() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let held = take(&folder, "a.lock", Duration::ZERO).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| take(&folder, "a.lock", Duration::from_secs(20)).unwrap().map(drop));
            std::thread::sleep(Duration::from_millis(20));
            folder.remove("a.lock".as_ref()).unwrap();
            drop(held);
            waits.join().unwrap().unwrap();
        });
        assert!(folder.entry("a.lock").unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn the_note_is_not_written_into_a_file_with_another_name() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("victim"), "precious").unwrap();
        std::fs::hard_link(place.path().join("victim"), place.path().join("a.lock")).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let _held = take(&folder, "a.lock", Duration::ZERO).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join("victim")).unwrap(), "precious");
    }
}
