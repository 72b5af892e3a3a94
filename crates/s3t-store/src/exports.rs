//! Stages that were written outside the store.
//!
//! # Proof note
//!
//! *Before*: stages were exported to a folder, and a deletion cut one of them. *After* an erasure: the files that this store wrote
//! there are gone, or the export is named by the deletion's result, by `status` and by `check`; no other file was touched. *Why*:
//! the catalogue holds a keyed digest of each file from before the folder got its name, a file is removed only if its bytes have
//! one of these digests and the adapter's tensors are beside it, no link is followed, and the row stays until the folder was opened
//! and the tensors are not in it.
//!
//! An export is written in a folder with a random name beside its place, which is renamed when it is whole and while no deletion
//! can be accepted. So everything in a folder of such a name is the store's.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, StageKey};

use crate::catalogue::{ExportRow, ExportedFile};
use crate::disk::{enter, names, open_folder, parent, sync_folder};
use crate::erasure::{Erasure, RemainingExport};
use crate::folder::{Folder, Kind};
use crate::lock::{self, Lock};
use crate::names::{TEMPORARY, WRITING};
use crate::store::ErasingLock;
use crate::{Snapshot, Store, StoreError, random};

/// The tries to make a folder for an export if somebody clears it away.
const BEGINNINGS: usize = 100;

/// The state of an adapter's files.
enum Found {
    /// None of them is there any more; whether some were removed just now, and the names of others that are left.
    Gone { removed: bool, others: usize },
    /// They are there, and may be removed.
    Present,
    /// It cannot be told, or they cannot be removed.
    Unknown(String),
}

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
    /// [`StoreError::Exists`] if there is something at `directory`; [`StoreError::MissingStage`] for a stage that is gone;
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
        let export = NewExport { store: self, parent, name: name.to_owned(), unfinished, rows, _lock: lock };
        // An erasure that looked before the folder was there has forgotten the rows of stages that were gone.
        let snapshot = self.snapshot()?;
        if let Some(gone) = export.stages().find(|key| !snapshot.has_stage(key)) {
            export.abandon();
            return Err(StoreError::MissingStage(*gone));
        }
        Ok(Some(export))
    }

    /// Removes the folders of exports whose process has ended before they were finished. A row whose folder is not there stays: it
    /// may be that of an export which is about to make it.
    fn clear_interrupted_exports(&self) -> Result<(), StoreError> {
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
    /// [`StoreError::Busy`] or [`StoreError::Database`].
    pub fn forget_exports(&self, folder: &Path) -> Result<usize, StoreError> {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        // The folder may be gone, but the one it was in need not be; links were resolved when it was written.
        let around = parent(&absolute).canonicalize().unwrap_or_else(|_| parent(&absolute).into());
        let resolved = around.join(absolute.file_name().unwrap_or_default());
        let rows = self.inner().catalogue.read(|queries| queries.exports())?;
        let here = |row: &&ExportRow| row.folder.starts_with(&absolute) || row.folder.starts_with(&resolved);
        let found: Vec<&ExportRow> = rows.iter().filter(here).collect();
        found.iter().try_for_each(|row| self.forget_row(row))?;
        Ok(found.len())
    }

    fn forget_row(&self, row: &ExportRow) -> Result<(), StoreError> {
        self.change(|change, _| change.forget_export(row))
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
            if !row.folder.exists() {
                // It was never made, or it was renamed in the moment before a crash and moved away since.
                return Found::Gone { removed: false, others: 0 };
            }
        }
        let forget = "when it is gone, `s3t store forget-export` takes it off the list";
        let Some(files) = &row.files else {
            return Found::Unknown(format!(
                "it was written by an earlier version, which kept no digests of files; {forget}"
            ));
        };
        let folder = match Folder::open_without_links(&row.folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Found::Unknown(format!("it is not there: its disk may be away, or it was moved; {forget}"));
            }
            Err(error) => return Found::Unknown(format!("it cannot be looked at: {error}; {forget}")),
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

    fn digest_of_file(&self, bytes: &[u8]) -> Digest {
        DigestBuilder::keyed(&self.secret, "exported file").bytes(bytes).finish()
    }
}

impl NewExport<'_> {
    /// The folder to write into. Only its owner can enter it.
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
        sync_folder(&*store.disk, &folder)?;
        restrict(&folder)?;
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
            self.rows.iter().try_for_each(|row| change.finish_export(row))?;
            Ok(true)
        })?;
        if renamed {
            // Not before the rename is in the catalogue: without the lock's file the export counts as interrupted.
            crate::disk::remove(&*store.disk, &folder, WRITING)?;
            sync_folder(&*store.disk, &folder)?;
            sync_folder(&*store.disk, &self.parent)?;
        }
        Ok(renamed)
    }

    /// Removes what was written.
    pub fn abandon(&self) {
        for row in &self.rows {
            // What stays is removed by the next export or erasure: its row stays too.
            if row.unfinished.as_deref().is_some_and(|adapter| remove_unfinished(adapter).is_ok()) {
                drop(self.store.forget_row(row));
            }
        }
    }
}

/// Lets only their owner use a folder and the files in it.
fn restrict(folder: &Folder) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("restrict", folder.path())(error);
    folder.restrict().map_err(failed)?;
    for name in names(folder)? {
        if folder.entry(&name).map_err(failed)?.is_some_and(|entry| entry.kind == Kind::File) {
            folder.restrict_file(&name).map_err(failed)?;
        }
    }
    Ok(())
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

/// Removes one adapter of an unfinished export, and the export's folder with its last adapter. Others may do the same beside it.
fn remove_unfinished(adapter: &Path) -> Result<(), StoreError> {
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
