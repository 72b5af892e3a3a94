//! The ledger's files, for other tools: written from the catalogue, which is what counts.

use std::fs;
use std::path::PathBuf;

use s3t_ledger::{LedgerError, tile_files};

use crate::disk::{remove, sync_folder, write_atomically};
use crate::store::LEDGER;
use crate::{Store, StoreError};

impl Store {
    /// Brings the ledger's files and the keys' newest checkpoint up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Database`].
    pub fn publish(&self) -> Result<(), StoreError> {
        // One at a time, and not beside an erasure, which removes unfinished files.
        let _lock = self.lock_erasing()?;
        let folder = self.path.join(LEDGER);
        let inner = self.inner();
        let catalogue = &inner.catalogue;
        let Some(checkpoint) = catalogue.get("checkpoint")?.and_then(|text| String::from_utf8(text).ok()) else {
            return Ok(());
        };
        let head = self.signing.verifying_key().check(&checkpoint)?;
        // Outside every change, so that none waits for it.
        catalogue.checkpoint()?;
        let public = format!("{}\n", self.verifying_key());
        if fs::read_to_string(folder.join("key.pub")).ok().as_ref() != Some(&public) {
            write_atomically(&*self.disk, &folder.join("key.pub"), public.as_bytes())?;
        }
        let published = fs::read_to_string(folder.join("checkpoint")).ok();
        let known = self.keys.checkpoint()?;
        if published.as_ref() == Some(&checkpoint) && known.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        let old = published.and_then(|text| self.signing.verifying_key().check(&text).ok());
        let old = old.map_or(0, |head| head.size).min(head.size);
        let entry = |index: u64| -> Result<Vec<u8>, LedgerError> {
            let missing = |problem: String| LedgerError::Entry { index, problem };
            let entry = catalogue.entry(index).map_err(|error| missing(error.to_string()))?;
            entry.ok_or_else(|| missing("is missing".into()))
        };
        let mut folders: Vec<PathBuf> = Vec::new();
        for file in tile_files(old, head.size, &|numbers: &[u64]| catalogue.hashes(numbers), &entry)? {
            let path = folder.join(&file.path);
            let parent = crate::disk::parent(&path).to_path_buf();
            fs::create_dir_all(&parent).map_err(StoreError::io("make", &parent))?;
            write_atomically(&*self.disk, &path, &file.bytes)?;
            // A full tile, or a wider part of one, takes the place of narrower parts.
            let narrower = if file.path.contains(".p/") { parent } else { path.with_extension("p") };
            if narrower.is_dir() {
                for name in crate::disk::names(&narrower)? {
                    let other = narrower.join(name);
                    if other != path {
                        remove(&*self.disk, &other)?;
                    }
                }
                folders.push(narrower);
            }
        }
        for folder in folders {
            sync_folder(&*self.disk, &folder)?;
        }
        write_atomically(&*self.disk, &folder.join("checkpoint"), checkpoint.as_bytes())?;
        self.keys.write_checkpoint(&checkpoint)
    }
}
