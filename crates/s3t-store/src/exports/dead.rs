//! Exports of stages that are gone: found by the content of their files, and removed or named.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::unfinished::remove_unfinished;
use crate::catalogue::{ExportRow, ExportedFile};
use crate::disk::{parent, sync_folder};
use crate::erasure::{Erasure, RemainingExport};
use crate::folder::{Folder, Kind};
use crate::store::ErasingLock;
use crate::{Snapshot, Store, StoreError};

/// The state of an adapter's files.
enum Found {
    /// All of them are gone; whether some were removed just now, and the names of others that are left.
    Gone { removed: bool, others: usize },
    /// They are there, and may be removed.
    Present,
    /// It cannot be told, or they cannot be removed.
    Unknown(String),
}

impl Store {
    /// Removes the files of exports of stages that are gone, as far as they can be found.
    pub(crate) fn remove_dead_exports(&self, _held: &ErasingLock, erasure: &mut Erasure) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        for row in rows.into_iter().filter(|row| is_dead(row, &snapshot)) {
            let (folder, remaining) = (row.folder.clone(), &mut erasure.remaining_exports);
            match self.look_at(&row, true) {
                Found::Gone { removed, others } => {
                    self.forget_row(&row)?;
                    if others == 0 && removed {
                        remove_empty(&row.folder);
                    }
                    if others > 0 && removed {
                        let reason =
                            format!("its files were removed; {others} others in the folder are not the store's");
                        remaining.push(RemainingExport { folder: folder.clone(), reason, pending: false });
                    }
                    erasure.exports.extend(removed.then_some(folder));
                }
                Found::Present => {}
                Found::Unknown(reason) => remaining.push(RemainingExport { folder, reason, pending: true }),
            }
        }
        Ok(())
    }

    /// The folders of the adapters that were exported, whether their stages are gone or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn exports(&self) -> Result<Vec<PathBuf>, StoreError> {
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        Ok(rows.into_iter().map(|row| row.folder).collect())
    }

    /// The exports of stages that are gone whose files are still there, or of which that cannot be told.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn remaining_exports(&self) -> Result<Vec<RemainingExport>, StoreError> {
        let snapshot = self.snapshot()?;
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        let mut remaining = Vec::new();
        for row in rows.into_iter().filter(|row| is_dead(row, &snapshot)) {
            let reason = match self.look_at(&row, false) {
                Found::Gone { .. } => continue,
                Found::Present => "it holds stages that were deleted; the next erasure removes it".to_owned(),
                Found::Unknown(reason) => reason,
            };
            remaining.push(RemainingExport { folder: row.folder, reason, pending: true });
        }
        Ok(remaining)
    }

    /// Forgets the exports at a place, which somebody else has removed: the folder of one adapter, or of a whole export. Gives the
    /// number of adapters.
    ///
    /// # Errors
    ///
    /// [`StoreError::ExportThere`] for one whose files are still there: then none is forgotten. [`StoreError::Busy`] or
    /// [`StoreError::Database`].
    pub fn forget_exports(&self, folder: &Path) -> Result<usize, StoreError> {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        // The folder may be gone, but the one it was in need not be; links were resolved when it was written.
        let around = parent(&absolute).canonicalize().unwrap_or_else(|_| parent(&absolute).into());
        let resolved = around.join(absolute.file_name().unwrap_or_default());
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        let is_here = |place: &Path| place == absolute || place == resolved;
        let here = |row: &&ExportRow| is_here(&row.folder) || is_here(parent(&row.folder));
        let found: Vec<&ExportRow> = rows.iter().filter(here).collect();
        if let Some(row) = found.iter().find(|row| matches!(self.look_at(row, false), Found::Present)) {
            return Err(StoreError::ExportThere(row.folder.clone()));
        }
        found.iter().try_for_each(|row| self.forget_row(row))?;
        Ok(found.len())
    }

    /// Looks for an adapter's files, and removes them if `remove`.
    fn look_at(&self, row: &ExportRow, remove: bool) -> Found {
        if let Some(unfinished) = &row.unfinished {
            // Not renamed yet: everything in a folder of that name is the store's.
            if parent(unfinished).exists() {
                return match remove.then(|| remove_unfinished(unfinished)) {
                    None => Found::Present,
                    Some(Ok(())) => Found::Gone { removed: true, others: 0 },
                    Some(Err(error)) => Found::Unknown(error.to_string()),
                };
            }
            match is_away(parent(unfinished))
                .and_then(|away| Ok(away && (is_away(parent(&row.folder))? || is_away(&row.folder)?)))
            {
                // It was never made, or it was renamed in the moment before a crash and moved away since.
                Ok(true) => return Found::Gone { removed: false, others: 0 },
                Ok(false) => {}
                Err(error) => {
                    return Found::Unknown(format!("the folder around it cannot be looked at: {error}; {FORGET}"));
                }
            }
        }
        let Some(files) = &row.files else {
            return Found::Unknown(format!(
                "it was written by an earlier version, which kept no digests of files; {FORGET}"
            ));
        };
        let folder = match Folder::open_without_links(&row.folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Found::Unknown(format!("it is not there: its disk may be away, or it was moved; {FORGET}"));
            }
            Err(error) => return Found::Unknown(format!("it cannot be looked at: {error}; {FORGET}")),
        };
        self.look_in(&folder, files, remove).unwrap_or_else(|error| Found::Unknown(error.to_string()))
    }

    /// Looks for files by their content, whatever their names are. An adapter is its tensors: a configuration may be the same, byte
    /// for byte, in somebody else's adapter, so without the tensors nothing in the folder is taken for the store's.
    fn look_in(&self, folder: &Folder, files: &[ExportedFile], remove: bool) -> Result<Found, StoreError> {
        let (mut own, mut others) = (Vec::new(), 0);
        let look = |name: &OsStr| StoreError::io("look at", folder.path_of(name));
        for name in folder.names().map_err(StoreError::io("list", folder.path()))? {
            let Some(entry) = folder.entry(&name).map_err(look(&name))? else { continue };
            let may_be = entry.kind == Kind::File && files.iter().any(|file| file.length == entry.length);
            let found = if may_be {
                let digest = self.digest_of_file(&folder.read(&name).map_err(look(&name))?);
                files.iter().find(|file| file.digest == digest)
            } else {
                None
            };
            match found {
                Some(file) => own.push((file.is_description(), name, entry)),
                None => others += 1,
            }
        }
        if own.iter().all(|(is_description, ..)| *is_description) {
            return Ok(Found::Gone { removed: false, others: others + own.len() });
        }
        if !remove {
            return Ok(Found::Present);
        }
        // The tensors go last: as long as one is there, what is left is known to be the store's.
        own.sort_by_key(|(is_description, ..)| !is_description);
        for (_, name, looked_at) in &own {
            // The file that was read, not one that has come in its place.
            if folder.entry(name).map_err(look(name))?.is_some_and(|entry| entry.identity == looked_at.identity) {
                crate::disk::remove(&*self.disk, folder, name)?;
            }
        }
        sync_folder(&*self.disk, folder)?;
        Ok(Found::Gone { removed: true, others })
    }
}

/// The way out for an export of which the store cannot tell anything.
const FORGET: &str = "when it is gone, `s3t store forget-export` takes it off the list";

/// `true` if the folder around a folder is there, without it.
fn is_away(folder: &Path) -> std::io::Result<bool> {
    let around = Folder::open_without_links(parent(folder))?;
    Ok(around.entry(folder.file_name().unwrap_or_default())?.is_none())
}

fn is_dead(row: &ExportRow, snapshot: &Snapshot) -> bool {
    row.stages.iter().any(|key| !snapshot.has_stage(key))
}

/// Removes the folder of an adapter with nothing in it. It stays until its row is forgotten: a folder that is not there says nothing
/// about its files. One that stays for good is empty.
fn remove_empty(folder: &Path) {
    if let Ok(around) = Folder::open_without_links(parent(folder)) {
        drop(around.remove_folder(folder.file_name().unwrap_or_default()));
    }
}
