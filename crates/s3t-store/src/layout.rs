//! The folders of a store, and the removal of a whole store.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use crate::StoreError;
use crate::disk::{Disk, enter, names, remove, sync_folder};
use crate::folder::{Folder, Kind};
use crate::names::{
    CHECKPOINT, Generation, LEDGER, PUBLIC_KEY, RECORDS, STAGES, TEMPORARY, TILES, finished, is_tile, is_top,
    parse_stage_name,
};

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
    // Another process that has the folder open may write one more file of the store's.
    let mut tries = 100;
    loop {
        clear(disk, &folder)?;
        match parent.remove_folder(name) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries > 0 => tries -= 1,
            removed => break removed.map_err(StoreError::io("remove", folder.path()))?,
        }
    }
    sync_folder(disk, parent)
}

/// Removes everything in a folder whose entries are all the store's.
fn clear(disk: &dyn Disk, folder: &Folder) -> Result<(), StoreError> {
    for name in names(folder)? {
        let entry = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
        if entry.is_some_and(|entry| entry.kind == Kind::Folder) {
            clear(disk, &enter(folder, &name)?)?;
            match folder.remove_folder(&name) {
                // It is cleared again with the folder around it.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => removed.map_err(StoreError::io("remove", folder.path_of(&name)))?,
            }
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
            (Self::Tiles, name) if is_tile(name) => Some(Self::Tiles),
            _ => None,
        }
    }

    fn is_own(self, name: &str) -> bool {
        match self {
            Self::Top => is_top(name),
            Self::Records => Generation::of_records(finished(name)).is_some(),
            Self::Stages => parse_stage_name(finished(name)).is_some(),
            Self::Ledger => [PUBLIC_KEY, CHECKPOINT].contains(&finished(name)),
            Self::Tiles => is_tile(finished(name)),
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
