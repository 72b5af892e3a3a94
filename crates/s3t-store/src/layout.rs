//! The names of a store's files, and the removal of a whole store.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::StoreError;
use crate::disk::{Disk, TEMPORARY, enter, names, remove, sync_folder};
use crate::folder::{Folder, Kind};
use crate::store::{BUILDING, CATALOGUE, ERASING, LEDGER, RECORDS, STAGES, parse_slice_file_name, parse_stage_name};

/// The folder of tiles in the ledger's.
const TILES: &str = "tile";

/// Whether an entry of the store's folder is the store's.
pub(crate) fn is_own_file(name: &str) -> bool {
    let database = name.strip_prefix(CATALOGUE).is_some_and(|end| ["", "-wal", "-shm", "-journal"].contains(&end));
    // The manifest is that of a store of format 1 or 2.
    database || [BUILDING, ERASING, "manifest.json"].contains(&name)
}

fn finished(name: &str) -> &str {
    name.strip_prefix(TEMPORARY).unwrap_or(name)
}

fn is_tile_name(name: &str) -> bool {
    let digits = name.strip_prefix('x').unwrap_or(name);
    let digits = digits.strip_suffix(".p").unwrap_or(digits);
    name == "entries" || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Everything under a store's folder that is not the store's: other names, and links or pipes in the place of files.
pub(crate) fn foreign(folder: &Folder) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    walk(folder, Part::Top, &mut |folder, name, own| {
        if !own {
            found.push(folder.path_of(name));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Removes a store's folder of this name; it may be there in part or not at all.
///
/// # Errors
///
/// [`StoreError::Foreign`] if something in it is not the store's: then nothing was removed. Links in the folder of an unfinished store
/// are removed; what they lead to is not touched.
pub(crate) fn remove_store(disk: &dyn Disk, parent: &Folder, name: &OsStr) -> Result<(), StoreError> {
    let found = parent.entry(name).map_err(StoreError::io("look at", parent.path_of(name)))?;
    if found.is_none() {
        return Ok(());
    }
    let folder = enter(parent, name)?;
    let is_unfinished = name.to_string_lossy().starts_with(TEMPORARY);
    let mut strange = foreign(&folder)?;
    strange.retain(|path| !(is_unfinished && path.is_symlink()));
    if let Some(path) = strange.into_iter().next() {
        return Err(StoreError::Foreign(path));
    }
    clear(disk, &folder)?;
    parent.remove_folder(name).map_err(StoreError::io("remove", folder.path()))?;
    sync_folder(disk, parent)
}

/// Removes everything in a folder whose entries are all the store's.
fn clear(disk: &dyn Disk, folder: &Folder) -> Result<(), StoreError> {
    for name in names(folder)? {
        let entry = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
        if entry.is_some_and(|entry| entry.kind == Kind::Folder) {
            clear(disk, &enter(folder, &name)?)?;
            folder.remove_folder(&name).map_err(StoreError::io("remove", folder.path_of(&name)))?;
        } else {
            remove(disk, folder, &name)?;
        }
    }
    Ok(())
}

/// A folder of a store.
#[derive(Debug, Clone, Copy)]
enum Part {
    Top,
    Records,
    Stages,
    Ledger,
    Tiles,
}

impl Part {
    /// The part that a folder of this name is, inside this one.
    fn enter(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Top, RECORDS) => Some(Self::Records),
            (Self::Top, STAGES) => Some(Self::Stages),
            (Self::Top, LEDGER) => Some(Self::Ledger),
            (Self::Ledger, TILES) => Some(Self::Tiles),
            (Self::Tiles, name) if is_tile_name(name) => Some(Self::Tiles),
            _ => None,
        }
    }

    fn is_own(self, name: &str) -> bool {
        match self {
            Self::Top => is_own_file(name),
            Self::Records => parse_slice_file_name(finished(name)).is_some(),
            Self::Stages => parse_stage_name(finished(name)).is_some(),
            Self::Ledger => ["key.pub", "checkpoint"].contains(&finished(name)),
            Self::Tiles => is_tile_name(finished(name)),
        }
    }
}

fn walk(
    folder: &Folder,
    part: Part,
    see: &mut dyn FnMut(&Folder, &str, bool) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for name in names(folder)? {
        let entry = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
        match entry.map(|entry| entry.kind) {
            // Gone since the names were listed.
            None if part.is_own(&name) => {}
            Some(Kind::Folder) if part.enter(&name).is_some() => {
                walk(&enter(folder, &name)?, part.enter(&name).unwrap_or(part), see)?;
            }
            kind => see(folder, &name, kind == Some(Kind::File) && part.is_own(&name))?,
        }
    }
    Ok(())
}
