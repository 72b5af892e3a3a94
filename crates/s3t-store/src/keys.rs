//! The keys of a store: a folder outside it, so that a copy of the store alone says nothing.
//!
//! ```text
//! KEYS/store.secret               keys the partition and every digest of personal data
//! KEYS/signing.key                signs the ledger's checkpoints
//! KEYS/checkpoint                 the newest checkpoint: a store older than it was rolled back
//! KEYS/slices/SHARD-SLICE.N.key   opens the records of a slice since its N-th erasure
//! ```
//!
//! # Proof note
//!
//! *Before*: the records of a slice are sealed under the slice's key, and a stage under a key made from those of all slices in its
//! lineage. *After* a slice's key is destroyed: no copy of its records, or of a stage that saw one of them, can be opened.
//! *Why*: the key of a stage is a hash over all of these keys, so without one of them it cannot be computed. The key of the
//! slice's remaining records is new and random, so it opens nothing of before.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, StoreSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::disk::{Disk, enter, make, names, remove, sync_folder, write_atomically, write_new_name};
use crate::folder::{Folder, Kind};
use crate::names::{
    CHECKPOINT, Generation, SECRET, SIGNING, SLICES, TEMPORARY, finished, is_key_ring_file, of_unfinished,
};
use crate::place::Location;
use crate::seal::Seal;
use crate::{StoreError, random};

/// The key ring of a store.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    folder: Arc<Folder>,
    slices: Arc<Folder>,
    disk: Arc<dyn Disk>,
}

impl Keys {
    /// Opens the key ring in a folder.
    pub(crate) fn open(at: &Location, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let folder = at.open().map_err(|error| match error {
            StoreError::Io { cause, .. } => StoreError::Key { path: at.path().join(SECRET), cause },
            other => other,
        })?;
        let slices = enter(&folder, SLICES)?;
        Ok(Self { folder: Arc::new(folder), slices: Arc::new(slices), disk })
    }

    /// Makes a new key ring, in a folder of this name that is not there yet.
    pub(crate) fn create(
        parent: &Folder,
        name: &OsStr,
        secret: &StoreSecret,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let folder = make(parent, name)?;
        let slices = make(&folder, SLICES)?;
        let keys = Self { folder: Arc::new(folder), slices: Arc::new(slices), disk };
        keys.write(&keys.folder, SECRET, secret.as_bytes())?;
        keys.write(&keys.folder, SIGNING, &Zeroizing::new(random::bytes::<32>()?))?;
        sync_folder(&*keys.disk, &keys.folder)?;
        Ok(keys)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn secret(&self) -> Result<StoreSecret, StoreError> {
        read(&self.folder, SECRET).map(|bytes| StoreSecret::from_bytes(*bytes))
    }

    pub(crate) fn signing(&self) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        read(&self.folder, SIGNING)
    }

    /// The newest checkpoint that was published; `None` before the first.
    pub(crate) fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        match self.folder.read_text(CHECKPOINT) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", self.folder.path_of(CHECKPOINT))(error)),
        }
    }

    pub(crate) fn write_checkpoint(&self, text: &str) -> Result<(), StoreError> {
        write_atomically(&*self.disk, &self.folder, CHECKPOINT, text.as_bytes())
    }

    /// The seal of a slice's records.
    pub(crate) fn slice(&self, generation: Generation) -> Result<Seal, StoreError> {
        read(&self.slices, &generation.key()).map(Seal::Key)
    }

    /// The seal of a stage, from the keys of the slices in its lineage.
    pub(crate) fn stage(&self, slices: &[Generation]) -> Result<Seal, StoreError> {
        let mut builder = DigestBuilder::new("stage key");
        for generation in slices {
            builder.bytes(&*read(&self.slices, &generation.key())?);
        }
        Ok(Seal::Key(Zeroizing::new(*builder.finish().as_bytes())))
    }

    /// Reads a slice's key, to see that it is whole.
    pub(crate) fn check_slice(&self, generation: Generation) -> Result<(), StoreError> {
        read(&self.slices, &generation.key()).map(drop)
    }

    /// Draws and keeps a key for a slice. The caller syncs with [`sync`](Self::sync).
    pub(crate) fn make_slice(&self, generation: Generation) -> Result<(), StoreError> {
        // One of an attempt that was interrupted may open a file of it that somebody has copied.
        let name = generation.key();
        for left in [format!("{TEMPORARY}{name}"), name.clone()] {
            destroy(&*self.disk, &self.slices, &left)?;
        }
        self.write(&self.slices, &name, &Zeroizing::new(random::bytes::<32>()?))
    }

    /// The slice keys that are there.
    pub(crate) fn slices(&self) -> Result<Vec<Generation>, StoreError> {
        Ok(names(&self.slices)?.iter().filter_map(|name| Generation::of_key(name)).collect())
    }

    /// The unfinished key files that a crash left, as folder and name.
    fn unfinished(&self) -> Result<Vec<(&Folder, String)>, StoreError> {
        let mut found = Vec::new();
        for folder in [&*self.folder, &*self.slices] {
            for name in names(folder)? {
                let is_file = || folder.entry(&name).is_ok_and(|entry| entry.is_some_and(|of| of.kind == Kind::File));
                if is_unfinished(folder, &self.slices, &name) && is_file() {
                    found.push((folder, name));
                }
            }
        }
        Ok(found)
    }

    /// `true` if a crash left unfinished key files.
    pub(crate) fn has_unfinished(&self) -> Result<bool, StoreError> {
        Ok(!self.unfinished()?.is_empty())
    }

    /// Removes the unfinished key files that a crash left.
    pub(crate) fn remove_unfinished(&self) -> Result<(), StoreError> {
        self.unfinished()?.into_iter().try_for_each(|(folder, name)| destroy(&*self.disk, folder, &name))
    }

    /// Entries of the folder that are not keys of ours: other names, and links in the place of a key.
    pub(crate) fn foreign(&self) -> Result<Vec<PathBuf>, StoreError> {
        foreign(&self.folder, &self.slices)
    }

    /// Keys that others than their owner may change, and keys that others may read.
    pub(crate) fn exposed(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), StoreError> {
        let (mut writable, mut readable) = (Vec::new(), Vec::new());
        let mut look = |path: PathBuf, mode: u32| {
            if mode & 0o022 != 0 {
                writable.push(path);
            } else if mode & 0o044 != 0 {
                readable.push(path);
            }
        };
        for folder in [&*self.folder, &*self.slices] {
            let itself = folder.itself().map_err(StoreError::io("look at", folder.path()))?;
            // Who may not enter the folder reads none of its files; who may change a file is told all the same.
            let hidden = if itself.mode & 0o011 == 0 { 0o044 } else { 0 };
            look(folder.path().into(), itself.mode & !0o044);
            for name in names(folder)? {
                if let Ok(Some(entry)) = folder.entry(&name)
                    && entry.kind == Kind::File
                {
                    look(folder.path_of(&name), entry.mode & !hidden);
                }
            }
        }
        Ok((writable, readable))
    }

    /// Lets only their owner use the keys.
    pub(crate) fn restrict(&self) -> Result<(), StoreError> {
        for folder in [&*self.folder, &*self.slices] {
            folder.restrict().map_err(StoreError::io("restrict", folder.path()))?;
            for name in names(folder)? {
                let found = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
                if found.is_some_and(|entry| entry.kind == Kind::File && entry.mode & 0o077 != 0) {
                    folder.restrict_file(&name).map_err(StoreError::io("restrict", folder.path_of(&name)))?;
                }
            }
        }
        Ok(())
    }

    /// Destroys a slice's key: its bytes are written over, then it is removed. The caller syncs with [`sync`](Self::sync).
    pub(crate) fn destroy_slice(&self, generation: Generation) -> Result<(), StoreError> {
        destroy(&*self.disk, &self.slices, &generation.key())
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&*self.disk, &self.slices)
    }

    fn write(&self, folder: &Folder, name: &str, key: &[u8; 32]) -> Result<(), StoreError> {
        let mut text = format!("{} {}\n", Digest::from_bytes(*key), checksum(key));
        let written = write_new_name(&*self.disk, folder, name, text.as_bytes());
        text.zeroize();
        written
    }
}

/// Destroys all keys of the ring in a folder of this name, and removes the folder; it may be there in part or not at all.
///
/// # Errors
///
/// [`StoreError::Foreign`] if something in the folder is not a key of ours: then nothing was destroyed. Links in an unfinished ring
/// are removed; what they lead to is not touched.
pub(crate) fn destroy_all(disk: &dyn Disk, parent: &Folder, name: &OsStr) -> Result<(), StoreError> {
    let Some((folder, slices)) = own_folders(parent, name)? else { return Ok(()) };
    if let Some(slices) = slices {
        names(&slices)?.iter().try_for_each(|key| destroy(disk, &slices, key))?;
        folder.remove_folder(SLICES).map_err(StoreError::io("remove", slices.path()))?;
    }
    names(&folder)?.iter().try_for_each(|key| destroy(disk, &folder, key))?;
    parent.remove_folder(name).map_err(StoreError::io("remove", folder.path()))?;
    sync_folder(disk, parent)
}

/// Checks that a folder of this name, if it is there, is a key ring with nothing else in it.
///
/// # Errors
///
/// [`StoreError::Foreign`] or [`StoreError::Link`].
pub(crate) fn check_own(parent: &Folder, name: &OsStr) -> Result<(), StoreError> {
    own_folders(parent, name).map(drop)
}

/// The folders of a ring with nothing else in them, which may be there in part.
fn own_folders(parent: &Folder, name: &OsStr) -> Result<Option<(Folder, Option<Folder>)>, StoreError> {
    if parent.entry(name).map_err(StoreError::io("look at", parent.path_of(name)))?.is_none() {
        return Ok(None);
    }
    let folder = enter(parent, name)?;
    let slices = match folder.entry(SLICES).map_err(StoreError::io("look at", folder.path_of(SLICES)))? {
        Some(_) => Some(enter(&folder, SLICES)?),
        None => None,
    };
    let is_unfinished = name.to_string_lossy().starts_with(TEMPORARY);
    let mut strange = foreign(&folder, slices.as_ref().unwrap_or(&folder))?;
    strange.retain(|path| !(is_unfinished && path.is_symlink()));
    match strange.into_iter().next() {
        Some(path) => Err(StoreError::Foreign(path)),
        None => Ok(Some((folder, slices))),
    }
}

/// `true` if this name in one of the ring's two folders is that of a key.
fn is_key(folder: &Folder, slices: &Folder, name: &str) -> bool {
    if std::ptr::eq(folder, slices) { Generation::of_key(name).is_some() } else { is_key_ring_file(name) }
}

fn is_unfinished(folder: &Folder, slices: &Folder, name: &str) -> bool {
    of_unfinished(name).is_some_and(|name| is_key(folder, slices, name))
}

/// Entries of the two folders of a ring that are not keys. `slices` is `folder` where there is no folder of slices.
fn foreign(folder: &Folder, slices: &Folder) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut look = |folder: &Folder, own: &dyn Fn(&str) -> bool| -> Result<(), StoreError> {
        for name in names(folder)? {
            let kind = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
            let is_file = kind.is_none_or(|entry| entry.kind == Kind::File);
            if !own(&name) || !is_file {
                found.push(folder.path_of(&name));
            }
        }
        Ok(())
    };
    let own = |name: &str| is_key_ring_file(finished(name));
    if std::ptr::eq(folder, slices) {
        look(folder, &own)?;
        return Ok(found);
    }
    look(folder, &own)?;
    look(slices, &|name| Generation::of_key(finished(name)).is_some())?;
    found.retain(|path| path != slices.path());
    Ok(found)
}

/// Writes over a key and removes it. A file with another name somewhere is written over only if it is a key: what else has the
/// same bytes may be somebody's.
fn destroy(disk: &dyn Disk, folder: &Folder, name: &str) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("overwrite", folder.path_of(name))(error);
    if let Some(entry) = folder.entry(name).map_err(failed)?
        && entry.kind == Kind::File
        && (entry.names == 1 || read(folder, name).is_ok())
    {
        // A key's file is short; more than that is not ours to fill.
        let zeros = vec![0; entry.length.min(4096) as usize];
        disk.overwrite(folder, name.as_ref(), &zeros).map_err(failed)?;
    }
    remove(disk, folder, name)
}

fn read(folder: &Folder, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let path = folder.path_of(name);
    let text = folder.read_text(name).map(Zeroizing::new);
    let damaged = || StoreError::damaged(&path, "it is not 64 hexadecimal digits with their checksum");
    let text = match text {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged()),
        text => text.map_err(|cause| StoreError::Key { path: path.clone(), cause })?,
    };
    let (key, sum) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
    let key = Zeroizing::new(*key.parse::<Digest>().map_err(|_| damaged())?.as_bytes());
    if checksum(&key) == sum { Ok(key) } else { Err(damaged()) }
}

/// So that a changed bit is told from a wrong key.
fn checksum(key: &[u8; 32]) -> String {
    DigestBuilder::new("key checksum").bytes(key).finish().to_string()[..8].to_owned()
}
