//! The ledger's files, for other tools: written from the catalogue, which is what counts.

use s3t_ledger::{Hash, LedgerError, TileFile, tile_files};

use crate::disk::{remove, sync_folder, write_atomically};
use crate::folder::Folder;
use crate::names::{CHECKPOINT, PUBLIC_KEY};
use crate::store::ErasingLock;
use crate::{Store, StoreError};

/// The time to wait for another process where it is as good if that process, or the next, publishes.
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(100);

impl Store {
    /// Brings the ledger's files and the keys' newest checkpoint up to date. Waits for another process that changes files, as
    /// long as the store's patience lasts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Erasing`], [`StoreError::Io`] or [`StoreError::Database`].
    pub fn publish(&self) -> Result<(), StoreError> {
        let lock = self.lock_erasing()?;
        self.publish_with(&lock)
    }

    /// The same, unless another process changes files: then that one, or whoever comes next, publishes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Database`].
    pub fn publish_unless_held(&self) -> Result<(), StoreError> {
        match self.lock_erasing_for(A_MOMENT) {
            Err(StoreError::Erasing { .. }) => Ok(()),
            lock => self.publish_with(&lock?),
        }
    }

    /// The checkpoint that was published last; `None` before the first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn published_checkpoint(&self) -> Result<Option<String>, StoreError> {
        match self.ledger.read_text(CHECKPOINT) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", self.ledger.path_of(CHECKPOINT))(error)),
        }
    }

    /// The proof that the ledger of `old` entries is the beginning of that of `size` entries.
    ///
    /// # Errors
    ///
    /// [`StoreError::Ledger`] if the ledger has fewer entries, or [`StoreError::Database`].
    pub fn consistency_proof(&self, old: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let inner = self.inner();
        Ok(s3t_ledger::consistency_proof(old, size, &|numbers: &[u64]| inner.catalogue.hashes(numbers))?)
    }

    /// One at a time, and not beside an erasure, which removes unfinished files.
    pub(crate) fn publish_with(&self, held: &ErasingLock) -> Result<(), StoreError> {
        self.publish_since(self.ledger.read_text(CHECKPOINT).ok().as_deref(), held)
    }

    /// Writes all of the ledger's files, whatever is there. What is published stays until the new files are in its place.
    pub(crate) fn publish_again(&self, held: &ErasingLock) -> Result<(), StoreError> {
        self.publish_since(None, held)
    }

    fn publish_since(&self, published: Option<&str>, _held: &ErasingLock) -> Result<(), StoreError> {
        let folder = &self.ledger;
        let public = format!("{}\n", self.verifying_key());
        if folder.read_text(PUBLIC_KEY).ok().as_ref() != Some(&public) {
            write_atomically(&*self.disk, folder, PUBLIC_KEY, public.as_bytes())?;
        }
        let Some((checkpoint, files)) = self.unpublished(published)? else { return Ok(()) };
        let mut narrower = Vec::new();
        for file in files {
            let mut parts: Vec<&str> = file.path.split('/').collect();
            let name = parts.pop().unwrap_or_default();
            let parent = descend(folder, &parts)?;
            let parent = parent.as_ref().unwrap_or(folder);
            write_atomically(&*self.disk, parent, name, &file.bytes)?;
            narrower.push((parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>(), name.to_owned()));
        }
        write_atomically(&*self.disk, folder, CHECKPOINT, checkpoint.as_bytes())?;
        self.keys.write_checkpoint(&checkpoint)?;
        // A full tile, or a wider part of one, takes the place of narrower parts; the checkpoint that named them is gone only now.
        for (parts, name) in narrower {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let parent = descend(folder, &parts)?;
            let parent = parent.as_ref().unwrap_or(folder);
            if parts.last().is_some_and(|part| part.strip_suffix(".p").is_some()) {
                remove_others(&*self.disk, parent, &name)?;
            } else if let Ok(parts) = parent.enter(format!("{name}.p")) {
                remove_others(&*self.disk, &parts, "")?;
            }
        }
        Ok(())
    }

    /// The newest checkpoint, and the files of its tiles that have changed since the one that was published; `None` if nothing has.
    /// All of it is read over a connection of its own, so that no deletion waits.
    fn unpublished(&self, published: Option<&str>) -> Result<Option<(String, Vec<TileFile>)>, StoreError> {
        let catalogue = &self.own_connection()?;
        let Some(checkpoint) = catalogue.get("checkpoint")?.and_then(|text| String::from_utf8(text).ok()) else {
            return Ok(None);
        };
        let head = self.signing.verifying_key().check(&checkpoint)?;
        // Outside every change, so that none waits for it.
        catalogue.checkpoint()?;
        if published == Some(&checkpoint) && self.keys.checkpoint()?.as_ref() == Some(&checkpoint) {
            return Ok(None);
        }
        let old = published.and_then(|text| self.signing.verifying_key().check(text).ok());
        // The last entry's tile is written again: if a process was killed before it removed the narrower parts, they go now.
        let old = old.map_or(0, |head| head.size).min(head.size).saturating_sub(1);
        let entry = |index: u64| -> Result<Vec<u8>, LedgerError> {
            let missing = |problem: String| LedgerError::Entry { index, problem };
            let entry = catalogue.entry(index).map_err(|error| missing(error.to_string()))?;
            entry.ok_or_else(|| missing("is missing".into()))
        };
        let files = tile_files(old, head.size, &|numbers: &[u64]| catalogue.hashes(numbers), &entry)?;
        Ok(Some((checkpoint, files)))
    }
}

/// The folder some steps down, made where it is not there; `None` for no steps.
fn descend(folder: &Folder, steps: &[&str]) -> Result<Option<Folder>, StoreError> {
    let mut found: Option<Folder> = None;
    for step in steps {
        let at = found.as_ref().unwrap_or(folder);
        let next = at.enter_or_make(step).map_err(StoreError::io("make", at.path_of(step)))?;
        found = Some(next);
    }
    Ok(found)
}

/// Removes the other files of a folder of tiles.
fn remove_others(disk: &dyn crate::Disk, folder: &Folder, name: &str) -> Result<(), StoreError> {
    let others = crate::disk::names(folder)?;
    others.iter().filter(|other| *other != name).try_for_each(|other| remove(disk, folder, other))?;
    sync_folder(disk, folder)
}
