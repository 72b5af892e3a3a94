//! Remembered activations on disk, where memory is full.
//!
//! # Proof note
//!
//! *Before*: an entry was written. *After* its [`Spilled`] is dropped: nothing on disk tells anything of its record. *Why*: each
//! entry is sealed under a key of its own, drawn for it and kept in memory alone; the key is overwritten when the entry is
//! dropped. The file has no name, so that the file is gone when the process ends, by whatever cause.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chacha20poly1305::aead::{Aead, KeyInit, OsRng};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use zeroize::Zeroizing;

use crate::Precision;
use crate::remembered::Remembered;

/// The length of the tag by which a changed entry is noticed.
const TAG: usize = 16;

/// A file for entries, up to a limit. It is made for the first entry.
pub(crate) struct Spill {
    folder: PathBuf,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    /// The file could not be made.
    has_failed: bool,
    end: u64,
}

impl State {
    fn file(&mut self, folder: &Path) -> Option<&mut File> {
        if self.file.is_none() && !self.has_failed {
            self.file = tempfile::tempfile_in(folder).ok();
            self.has_failed = self.file.is_none();
        }
        self.file.as_mut()
    }
}

/// The place of an entry, and its key.
pub(crate) struct Spilled {
    at: u64,
    bytes: usize,
    precision: Precision,
    key: Zeroizing<[u8; 32]>,
}

impl Spill {
    /// A file in `folder` for at most `limit` bytes.
    pub(crate) fn new(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), limit, state: Mutex::default() }
    }

    /// The bytes that still fit.
    pub(crate) fn room(&self) -> u64 {
        let mut state = self.lock();
        // Only a file that can be made has room.
        if self.limit > 0 && state.file(&self.folder).is_some() { self.limit.saturating_sub(state.end) } else { 0 }
    }

    /// Writes an entry; `None` if it does not fit or cannot be written.
    pub(crate) fn write(&self, values: &Remembered) -> Option<Spilled> {
        let length = (values.bytes() + TAG) as u64;
        let key = Zeroizing::new(<[u8; 32]>::from(ChaCha20Poly1305::generate_key(&mut OsRng)));
        let sealed = cipher(&key).encrypt(&Nonce::default(), values.to_le_bytes().as_slice()).ok()?;
        let mut state = self.lock();
        let at = state.end;
        if at + length > self.limit {
            return None;
        }
        let file = state.file(&self.folder)?;
        file.seek(SeekFrom::Start(at)).ok()?;
        file.write_all(&sealed).ok()?;
        state.end += length;
        Some(Spilled { at, bytes: values.bytes(), precision: values.precision(), key })
    }

    /// Reads an entry; `None` if it cannot be read or was changed.
    pub(crate) fn read(&self, entry: &Spilled) -> Option<Remembered> {
        let mut sealed = vec![0; entry.bytes + TAG];
        {
            let mut state = self.lock();
            let file = state.file.as_mut()?;
            file.seek(SeekFrom::Start(entry.at)).ok()?;
            file.read_exact(&mut sealed).ok()?;
        }
        let plain = Zeroizing::new(cipher(&entry.key).decrypt(&Nonce::default(), sealed.as_slice()).ok()?);
        Some(Remembered::from_le_bytes(&plain, entry.precision))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A write that panicked left bytes behind the end, which are written over.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spilled {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A key is used for one message, so the nonce may be the same for all.
fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_until_the_limit_and_changed_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::new(folder.path(), 2 * (400 + TAG as u64));
        let values: Vec<f32> = (0..100).map(|value| value as f32 * 0.5).collect();
        let values = Remembered::new(&values, Precision::F32);
        let rounded = Remembered::new(&[0.25, 1.0 / 3.0], Precision::Bf16);
        let (first, second) = (spill.write(&values).unwrap(), spill.write(&rounded).unwrap());
        assert!(spill.write(&values).is_none(), "the limit is kept");
        assert_eq!(spill.read(&first).unwrap(), values);
        assert_eq!(spill.read(&second).unwrap(), rounded);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        let Spilled { at, bytes, precision, .. } = first;
        let other_key = Spilled { at, bytes, precision, key: Zeroizing::new([1; 32]) };
        assert!(spill.read(&other_key).is_none());
        let mut state = spill.lock();
        let file = state.file.as_mut().unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        file.write_all(&[1, 2, 3]).unwrap();
        drop(state);
        assert!(spill.read(&first).is_none());
    }
}
