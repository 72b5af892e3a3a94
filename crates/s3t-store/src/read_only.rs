//! Reading a catalogue on a disk that cannot be written.
//!
//! SQLite shares its log between processes through a file that it makes beside the catalogue. Where the file system is read-only
//! nobody changes the catalogue, so none is needed (`immutable`), provided that the log is empty: what is in the log would not be
//! seen.

use std::path::{Path, PathBuf};

use crate::StoreError;

/// `true` if the file is on a file system that cannot be written.
#[cfg(unix)]
pub(crate) fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(not(unix))]
pub(crate) fn is_read_only(_path: &Path) -> bool {
    false
}

/// The name under which SQLite opens a catalogue that nobody changes.
///
/// # Errors
///
/// [`StoreError::ReadOnlyLog`] if its log is not empty.
pub(crate) fn immutable_name(path: &Path) -> Result<String, StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    if log.symlink_metadata().is_ok_and(|found| found.len() > 0) {
        return Err(StoreError::ReadOnlyLog { path: path.into(), log });
    }
    Ok(format!("file:{}?immutable=1", escaped(path)))
}

/// A path with the characters escaped that mean something in a URI.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_empty_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a #?% catalogue.db");
        let name = immutable_name(&path).unwrap();
        assert!(name.ends_with("a%20%23%3F%25%20catalogue.db?immutable=1"), "{name}");
        std::fs::write(folder.path().join("a #?% catalogue.db-wal"), "").unwrap();
        assert!(immutable_name(&path).is_ok());
        std::fs::write(folder.path().join("a #?% catalogue.db-wal"), "frames").unwrap();
        assert!(matches!(immutable_name(&path), Err(StoreError::ReadOnlyLog { .. })));
    }
}
