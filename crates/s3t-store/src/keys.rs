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

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, SliceAddress, StoreSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::disk::{
    Disk, TEMPORARY, make_private_folder, names, parent, remove, sync_folder, write_atomically, write_new_name,
};
use crate::seal::Seal;
use crate::{StoreError, random};

const SECRET: &str = "store.secret";
const SIGNING: &str = "signing.key";
const CHECKPOINT: &str = "checkpoint";
const SLICES: &str = "slices";

/// A slice and how often its records were written anew.
pub(crate) type Generation = (SliceAddress, u64);

/// The key ring of a store.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Keys {
    /// The folder that a store's keys are in unless the pipeline says otherwise: beside the store.
    pub(crate) fn beside(store: &Path) -> PathBuf {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".keys");
        store.with_file_name(name)
    }

    pub(crate) fn in_folder(folder: &Path, disk: Arc<dyn Disk>) -> Self {
        Self { folder: folder.into(), disk }
    }

    /// Makes a new key ring in a folder that is not there.
    pub(crate) fn create(&self, secret: &StoreSecret) -> Result<(), StoreError> {
        make_private_folder(&self.folder)?;
        make_private_folder(&self.folder.join(SLICES))?;
        self.write(SECRET, secret.as_bytes())?;
        self.write(SIGNING, &*Zeroizing::new(random::bytes::<32>()?))?;
        sync_folder(&*self.disk, &self.folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn secret(&self) -> Result<StoreSecret, StoreError> {
        self.read(SECRET).map(|bytes| StoreSecret::from_bytes(*bytes))
    }

    pub(crate) fn signing(&self) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        self.read(SIGNING)
    }

    /// The newest checkpoint that was published; `None` before the first.
    pub(crate) fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        let path = self.folder.join(CHECKPOINT);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    pub(crate) fn write_checkpoint(&self, text: &str) -> Result<(), StoreError> {
        write_atomically(&*self.disk, &self.folder.join(CHECKPOINT), text.as_bytes())
    }

    /// The seal of a slice's records.
    pub(crate) fn slice(&self, generation: Generation) -> Result<Seal, StoreError> {
        self.read(&slice_name(generation)).map(Seal::Key)
    }

    /// The seal of a stage, from the keys of the slices in its lineage.
    pub(crate) fn stage(&self, slices: &[Generation]) -> Result<Seal, StoreError> {
        let mut builder = DigestBuilder::new("stage key");
        for generation in slices {
            builder.bytes(&*self.read(&slice_name(*generation))?);
        }
        Ok(Seal::Key(Zeroizing::new(*builder.finish().as_bytes())))
    }

    /// Reads a slice's key, to see that it is whole.
    pub(crate) fn check_slice(&self, generation: Generation) -> Result<(), StoreError> {
        self.read(&slice_name(generation)).map(drop)
    }

    /// Draws and keeps a key for a slice. The caller syncs with [`sync`](Self::sync).
    pub(crate) fn make_slice(&self, generation: Generation) -> Result<(), StoreError> {
        self.write(&slice_name(generation), &*Zeroizing::new(random::bytes::<32>()?))
    }

    /// The slice keys that are there, and the names in the folder that are none.
    pub(crate) fn slices(&self) -> Result<(Vec<Generation>, Vec<String>), StoreError> {
        let names = names(&self.folder.join(SLICES))?;
        let (keys, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| parse_slice_name(name).is_some());
        Ok((keys.iter().filter_map(|name| parse_slice_name(name)).collect(), others))
    }

    /// Files in the folder that are no keys of ours.
    pub(crate) fn foreign_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let own = [SECRET, SIGNING, CHECKPOINT, SLICES];
        let mut foreign: Vec<PathBuf> =
            self.slices()?.1.into_iter().map(|name| self.folder.join(SLICES).join(name)).collect();
        let others = names(&self.folder)?.into_iter().filter(|name| !own.contains(&name.as_str()));
        foreign.extend(others.map(|name| self.folder.join(name)));
        Ok(foreign)
    }

    /// Destroys a slice's key: its bytes are written over, then it is removed. The caller syncs with [`sync`](Self::sync).
    pub(crate) fn destroy_slice(&self, generation: Generation) -> Result<(), StoreError> {
        self.destroy(&self.folder.join(slice_name(generation)))
    }

    /// Removes what a crash left of writing keys.
    pub(crate) fn remove_unfinished(&self) -> Result<(), StoreError> {
        for folder in [self.folder.clone(), self.folder.join(SLICES)] {
            for name in names(&folder)?.into_iter().filter(|name| name.starts_with(TEMPORARY)) {
                self.destroy(&folder.join(name))?;
            }
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&*self.disk, &self.folder.join(SLICES))
    }

    /// Destroys all keys and removes the folder.
    pub(crate) fn destroy_all(&self) -> Result<(), StoreError> {
        if !self.folder.exists() {
            return Ok(());
        }
        for path in crate::disk::files_under(&self.folder)? {
            self.destroy(&path)?;
        }
        fs::remove_dir_all(&self.folder).map_err(StoreError::io("remove", &self.folder))?;
        sync_folder(&*self.disk, parent(&self.folder))
    }

    fn destroy(&self, path: &Path) -> Result<(), StoreError> {
        if let Ok(length) = path.metadata().map(|metadata| metadata.len()) {
            let zeros = vec![0; length as usize];
            self.disk.overwrite(path, &zeros).map_err(StoreError::io("overwrite", path))?;
        }
        remove(&*self.disk, path)
    }

    fn write(&self, name: &str, key: &[u8]) -> Result<(), StoreError> {
        let bytes: [u8; 32] = key.try_into().unwrap_or([0; 32]);
        let mut text = format!("{} {}\n", Digest::from_bytes(bytes), checksum(&bytes));
        let written = write_new_name(&*self.disk, &self.folder.join(name), text.as_bytes());
        text.zeroize();
        written
    }

    fn read(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).map(Zeroizing::new);
        let text = text.map_err(|source| StoreError::Key { path: path.clone(), source })?;
        let damaged = || StoreError::damaged(&path, "it is not 64 hexadecimal digits with their checksum");
        let (key, sum) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
        let key = Zeroizing::new(*key.parse::<Digest>().map_err(|_| damaged())?.as_bytes());
        if checksum(&key) == sum { Ok(key) } else { Err(damaged()) }
    }
}

/// So that a changed bit is told from a wrong key.
fn checksum(key: &[u8; 32]) -> String {
    DigestBuilder::new("key checksum").bytes(key).finish().to_string()[..8].to_owned()
}

fn slice_name((address, generation): Generation) -> String {
    format!("{SLICES}/{}-{}.{generation}.key", address.shard, address.slice)
}

fn parse_slice_name(name: &str) -> Option<Generation> {
    let (address, generation) = name.strip_suffix(".key")?.split_once('.')?;
    let (shard, slice) = address.split_once('-')?;
    Some((SliceAddress::new(shard.parse().ok()?, slice.parse().ok()?), generation.parse().ok()?))
}
