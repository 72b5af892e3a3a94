//! Exports that were interrupted: whatever is in a folder of such a name is the store's.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;

use crate::catalogue::ExportRow;
use crate::disk::parent;
use crate::folder::{Folder, Kind};
use crate::lock;
use crate::names::WRITING;
use crate::{Store, StoreError};

impl Store {
    /// Removes the folders of exports whose process has ended before they were finished. A row whose folder is not there stays: it
    /// may be that of an export which is about to make it.
    pub(super) fn clear_interrupted_exports(&self) -> Result<(), StoreError> {
        // The catalogue is let go of before a row is changed.
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        let wholes: BTreeSet<&Path> = rows.iter().filter_map(|row| row.unfinished.as_deref()).map(parent).collect();
        for whole in wholes {
            let Ok(folder) = Folder::open_without_links(whole) else { continue };
            // Whoever has the lock writes the export or clears it.
            let Ok(Ok(_lock)) = lock::take(&folder, WRITING, std::time::Duration::ZERO) else { continue };
            let is_of_it = |row: &ExportRow| row.unfinished.as_deref().is_some_and(|adapter| parent(adapter) == whole);
            let mut left = self.inner().catalogue.read(|queries| queries.exports())?;
            left.retain(is_of_it);
            if left.is_empty() {
                // It was finished in the meantime: only the lock's file is new in it.
                folder.remove(OsStr::new(WRITING)).unwrap_or_default();
            }
            for row in left {
                remove_unfinished(row.unfinished.as_deref().unwrap_or(whole))?;
                self.forget_row(&row)?;
            }
        }
        Ok(())
    }
}

/// Removes one adapter of an unfinished export, and the export's folder with its last adapter. Others may do the same beside it.
pub(super) fn remove_unfinished(adapter: &Path) -> Result<(), StoreError> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match try_to_remove_unfinished(adapter) {
            // A name that has come or gone between two steps is another process's work: what is left is looked at again.
            Err(StoreError::Io { cause, .. })
                if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            removed => return removed,
        }
    }
    try_to_remove_unfinished(adapter)
}

fn try_to_remove_unfinished(adapter: &Path) -> Result<(), StoreError> {
    let whole = parent(adapter);
    let failed = |error| StoreError::io("remove", adapter)(error);
    let folder = match Folder::open_without_links(whole) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let name = adapter.file_name().unwrap_or_default();
    if folder.entry(name).map_err(failed)?.is_some() {
        let inside = folder.enter(name).map_err(failed)?;
        for file in inside.names().map_err(failed)? {
            inside.remove(&file).map_err(failed)?;
        }
        folder.remove_folder(name).map_err(failed)?;
    }
    let left = folder.names().map_err(failed)?;
    let is_folder =
        |name: &OsString| folder.entry(name).is_ok_and(|entry| entry.is_some_and(|entry| entry.kind == Kind::Folder));
    if !left.iter().any(is_folder) {
        left.iter().try_for_each(|file| folder.remove(file)).map_err(failed)?;
        let around = Folder::open_without_links(parent(whole)).map_err(failed)?;
        around.remove_folder(whole.file_name().unwrap_or_default()).map_err(failed)?;
    }
    Ok(())
}
