//! Exports while they are written.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use s3t_core::{Digest, StageKey};

use super::unfinished::remove_unfinished;
use crate::catalogue::{ExportRow, ExportedFile};
use crate::disk::{enter, names, open_folder, parent, remove, sync_folder};
use crate::folder::{Folder, Kind};
use crate::lock::{self, Lock};
use crate::names::{TEMPORARY, WRITING};
use crate::{Store, StoreError, random};

/// The tries to make a folder for an export if somebody clears it away.
const BEGINNINGS: usize = 100;

/// An export while it is written.
#[derive(Debug)]
pub struct NewExport<'a> {
    store: &'a Store,
    parent: Folder,
    name: OsString,
    unfinished: OsString,
    /// Each adapter's row.
    rows: Vec<ExportRow>,
    /// Held, not read.
    _lock: Lock,
}

impl Store {
    /// Starts an export: a new folder that becomes `directory` when it is [finished](NewExport::finish). `adapters` are the names
    /// of its subfolders with the stages that each will hold. What an interrupted export left is removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is something at `directory`; [`StoreError::ExportInside`] if it is inside the store or its keys; [`StoreError::MissingStage`] for a stage that is gone;
    /// [`StoreError::Io`] or [`StoreError::Database`].
    pub fn begin_export(
        &self,
        directory: &Path,
        adapters: &[(String, Vec<StageKey>)],
    ) -> Result<NewExport<'_>, StoreError> {
        self.clear_interrupted_exports()?;
        let around = parent(directory);
        std::fs::create_dir_all(around).map_err(StoreError::io("make", around))?;
        let around = around.canonicalize().map_err(StoreError::io("find", around))?;
        let name = directory.file_name().ok_or_else(|| StoreError::Exists(directory.into()))?;
        let own = self.place.resolve()?;
        if let Some(folder) = [own.store, own.keys].iter().find(|folder| around.starts_with(folder.real())) {
            return Err(StoreError::ExportInside { export: directory.into(), folder: folder.path() });
        }
        for _ in 0..BEGINNINGS {
            let parent = open_folder(&around, &around)?;
            if parent.entry(name).map_err(StoreError::io("look at", directory))?.is_some() {
                return Err(StoreError::Exists(directory.into()));
            }
            if let Some(export) = self.begin_export_in(parent, name, adapters)? {
                return Ok(export);
            }
        }
        Err(StoreError::Exists(directory.into()))
    }

    /// Makes the folder of a new export; `None` if another process took it for an interrupted one before it was locked.
    fn begin_export_in(
        &self,
        parent: Folder,
        name: &OsStr,
        adapters: &[(String, Vec<StageKey>)],
    ) -> Result<Option<NewExport<'_>>, StoreError> {
        let mut unfinished = OsString::from(TEMPORARY);
        unfinished.push(name);
        unfinished.push(format!("-{}", Digest::from_bytes(random::bytes()?).short()));
        let place = parent.path_of(&unfinished);
        // The catalogue knows of the folder before it is there, so that an erasure finds it after any crash.
        let rows = self.change(|change, _| {
            let mut rows = Vec::new();
            for (adapter, stages) in adapters {
                let row = ExportRow {
                    number: 0,
                    folder: parent.path_of(name).join(adapter),
                    stages: stages.clone(),
                    files: None,
                    unfinished: Some(place.join(adapter)),
                };
                rows.push(change.add_export(row)?);
            }
            Ok(rows)
        })?;
        let folder = match parent.make(&unfinished) {
            // Taken away between making and opening it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            made => made.map_err(StoreError::io("make", &place))?,
        };
        let lock = match lock::take(&folder, WRITING, std::time::Duration::ZERO) {
            Ok(Ok(lock)) => lock,
            Ok(Err(_)) => return Ok(None),
            Err(_) if !place.exists() => return Ok(None),
            Err(error) => return Err(error),
        };
        // Made here and nowhere else: once an erasure has removed one and forgotten its row, nothing can be written into it.
        for (adapter, _) in adapters {
            match folder.make(adapter) {
                Err(_) if !place.exists() => return Ok(None),
                made => made.map(drop).map_err(StoreError::io("make", folder.path_of(adapter)))?,
            }
        }
        let export = NewExport { store: self, parent, name: name.to_owned(), unfinished, rows, _lock: lock };
        // An erasure that looked before the folder was there has forgotten the rows of stages that were gone.
        let snapshot = self.snapshot()?;
        if let Some(gone) = export.stages().find(|key| !snapshot.has_stage(key)) {
            export.abandon();
            return Err(StoreError::MissingStage(*gone));
        }
        Ok(Some(export))
    }
}

impl NewExport<'_> {
    /// The folder to write into, with a folder for each adapter. Only its owner can enter it. A folder that is gone was removed by a
    /// deletion, and must not be made again.
    pub fn path(&self) -> PathBuf {
        self.parent.path_of(&self.unfinished)
    }

    /// Gives the export its name, if all of its stages may serve, and while no deletion can be accepted. `false` if a deletion has
    /// hit them: then nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if something has the name by now; [`StoreError::Io`] or [`StoreError::Database`]. Nothing is left of
    /// the export then.
    pub fn finish(self) -> Result<bool, StoreError> {
        let finished = self.rename_if_live();
        if matches!(finished, Ok(true)) {
            return finished;
        }
        self.abandon();
        // An erasure removes what it finds, also while it is read here.
        if self.is_hit()? { Ok(false) } else { finished }
    }

    /// `true` if a deletion has hit a stage of the export. Then an erasure may have removed what was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn is_hit(&self) -> Result<bool, StoreError> {
        let snapshot = self.store.snapshot()?;
        Ok(self.stages().any(|key| !snapshot.has_stage(key)))
    }

    fn stages(&self) -> impl Iterator<Item = &StageKey> {
        self.rows.iter().flat_map(|row| &row.stages)
    }

    fn rename_if_live(&self) -> Result<bool, StoreError> {
        let store = self.store;
        let folder = enter(&self.parent, &self.unfinished)?;
        let mut written = Vec::new();
        for row in &self.rows {
            let adapter = enter(&folder, row.folder.file_name().unwrap_or_default())?;
            let mut files = Vec::new();
            restrict(&adapter)?;
            for name in names(&adapter)? {
                sync_file(&adapter, name.as_ref())?;
                let bytes = adapter.read(&name).map_err(StoreError::io("read", adapter.path_of(&name)))?;
                files.push(ExportedFile { length: bytes.len() as u64, digest: store.digest_of_file(&bytes), name });
            }
            sync_folder(&*store.disk, &adapter)?;
            written.push((row, files));
        }
        let known = store.change(|change, _| {
            let mut known = 0;
            for (row, files) in &written {
                known += usize::from(change.set_export_files(row, files)?);
            }
            Ok(known)
        })?;
        files(&folder)?.iter().try_for_each(|name| sync_file(&folder, name.as_ref()))?;
        sync_folder(&*store.disk, &folder)?;
        restrict(&folder)?;
        let mut has_name = false;
        let renamed = store.change(|change, snapshot| {
            // An adapter that the catalogue does not know of is not handed out: no deletion would find it.
            let is_live = self.stages().all(|key| snapshot.has_stage(key));
            if !is_live || known != written.len() {
                return Ok(false);
            }
            self.parent.rename_new(&self.unfinished, &self.name).map_err(|error| {
                let place = self.parent.path_of(&self.name);
                if error.kind() == ErrorKind::AlreadyExists {
                    return StoreError::Exists(place);
                }
                StoreError::io("make", place)(error)
            })?;
            has_name = true;
            self.rows.iter().try_for_each(|row| change.finish_export(row))?;
            Ok(true)
        });
        if renamed.is_err() && has_name {
            // The catalogue still calls it unfinished, and looks for it there.
            let back = self.parent.rename_new(&self.name, &self.unfinished);
            back.map_err(StoreError::io("take back", self.parent.path_of(&self.name)))?;
        }
        let renamed = renamed?;
        if renamed {
            // Not before the rename is in the catalogue: without the lock's file the export counts as interrupted.
            remove(&*store.disk, &folder, WRITING)?;
            sync_folder(&*store.disk, &folder)?;
            sync_folder(&*store.disk, &self.parent)?;
        }
        Ok(renamed)
    }

    /// Removes what was written.
    pub fn abandon(&self) {
        for row in &self.rows {
            // An export that has its name and could not be taken back stays in the catalogue, and an erasure finds it.
            if self.parent.entry(&self.unfinished).is_ok_and(|entry| entry.is_none()) && row.folder.exists() {
                continue;
            }
            // What stays is removed by the next export or erasure: its row stays too.
            if row.unfinished.as_deref().is_some_and(|adapter| remove_unfinished(adapter).is_ok()) {
                drop(self.store.forget_row(row));
            }
        }
    }
}

/// Makes the content of a file durable: its digest goes into the catalogue, and no deletion would know half of it again.
fn sync_file(folder: &Folder, name: &OsStr) -> Result<(), StoreError> {
    let synced = folder.open_file(name).and_then(|file| file.sync_all());
    synced.map_err(StoreError::io("sync", folder.path_of(name)))
}

/// Lets only their owner use a folder and the files in it.
fn restrict(folder: &Folder) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("restrict", folder.path())(error);
    folder.restrict().map_err(failed)?;
    files(folder)?.iter().try_for_each(|name| folder.restrict_file(name).map_err(failed))
}

/// The names of the files in a folder, without folders and links.
fn files(folder: &Folder) -> Result<Vec<String>, StoreError> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let entry = folder.entry(&name).map_err(StoreError::io("look at", folder.path_of(&name)))?;
        files.extend(entry.is_some_and(|entry| entry.kind == Kind::File).then_some(name));
    }
    Ok(files)
}
