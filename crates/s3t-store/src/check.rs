//! `s3t store check`: every inconsistency between catalogue, files, keys and ledger.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use s3t_core::StageKey;
use s3t_ledger::{Entry, Event, root};
use serde::Serialize;

use crate::catalogue::{record_id, slice_number};
use crate::deletion::{dead_exports, is_slice_name};
use crate::disk::names;
use crate::store::{BUILDING, CATALOGUE, ERASING, LEDGER, RECORDS, STAGES, parse_stage_name};
use crate::{Erasure, Place, Store, StoreError};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, where, and what it means.
    pub problem: String,
    /// How `--repair` mends it; `None` if it cannot without guessing.
    pub mend: Option<&'static str>,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreCheck {
    /// Records that were read and compared with the catalogue.
    pub records: u64,
    /// Stages that were read.
    pub stages: u64,
    /// Entries of the ledger that were compared with its signed head.
    pub entries: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl StoreCheck {
    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    fn push(&mut self, problem: impl Into<String>, mend: Option<&'static str>) {
        self.findings.push(Finding { problem: problem.into(), mend });
    }
}

const REMOVE_FILE: &str = "removes the file";
const BUILD_AGAIN: &str = "drops the stage, so that `s3t repair` builds it again";
const ERASE: &str = "finishes the erasure";
const WRITE_AGAIN: &str = "writes the ledger's files again from the catalogue";

impl Store {
    /// Looks at everything and changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Database`] if something cannot be looked at. What is found wrong is in the report.
    pub fn check(&self) -> Result<StoreCheck, StoreError> {
        let first = self.check_once()?;
        if first.passed() {
            return Ok(first);
        }
        // What another process was just doing is not wrong any more when one looks again.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut again = self.check_once()?;
        again.findings.retain(|finding| first.findings.contains(finding));
        Ok(again)
    }

    fn check_once(&self) -> Result<StoreCheck, StoreError> {
        let mut check = StoreCheck::default();
        self.check_catalogue(&mut check)?;
        self.check_slices(&mut check)?;
        self.check_stages(&mut check)?;
        self.check_ledger(&mut check)?;
        self.check_names(&mut check)?;
        Ok(check)
    }

    /// Mends what can be mended without guessing: finishes erasures, drops stages that cannot be read, removes what crashes left,
    /// writes the ledger's files again. Then checks again.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn mend(place: &Place) -> Result<StoreCheck, StoreError> {
        let store = Self::open_as(place, false)?;
        store.erase()?;
        let snapshot = store.snapshot()?;
        let unreadable: Vec<StageKey> =
            snapshot.stages().iter().copied().filter(|key| store.stage(key).is_err()).collect();
        store.change(|change, _| unreadable.iter().try_for_each(|key| change.remove_stage(key).map(drop)))?;
        store.remove_unnamed(&mut Erasure::default())?;
        let checkpoint = store.path.join(LEDGER).join("checkpoint");
        crate::disk::remove(&*store.disk, &checkpoint)?;
        store.publish()?;
        store.check()
    }

    fn check_catalogue(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let inner = self.inner();
        let path = inner.catalogue.path().display().to_string();
        for problem in inner.catalogue.integrity()? {
            check.push(format!("`{path}`: SQLite finds: {problem}; restore the store from a copy"), None);
        }
        let (stored, found) = inner.catalogue.sums(&self.secret, true)?;
        if stored.small != found.small {
            check.push(
                format!(
                    "`{path}`: slices, stages, requests or exports are not those that were written; restore a copy"
                ),
                None,
            );
        }
        if stored.records != found.records {
            let problem = "records or subjects are not those that were written: some might not be found any more";
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        Ok(())
    }

    fn check_slices(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        for address in self.settings().shape.addresses() {
            if snapshot.is_hit(address) {
                check.push(format!("records of {address} were deleted, but are not erased yet"), Some(ERASE));
                continue;
            }
            let entries = match self.entries_of(address) {
                Ok(entries) => entries,
                Err(error) => {
                    check.push(error.to_string(), None);
                    continue;
                }
            };
            if !entries.iter().all(|entry| entry.is_sound(&self.secret)) {
                check.push(
                    format!("{address} has a record with another's digest or id beside it; restore a copy"),
                    None,
                );
            }
            let number = slice_number(self.settings().shape.slices, address);
            let known: HashSet<[u8; 16]> = self.inner().catalogue.read(|connection| {
                let mut query = connection.prepare_cached("SELECT id FROM records WHERE slice = ?")?;
                let rows = query.query_map([number as i64], |row| row.get(0))?;
                rows.collect()
            })?;
            let there: HashSet<[u8; 16]> =
                entries.iter().map(|entry| record_id(&self.secret, &entry.record.id)).collect();
            if known != there || there.len() as u64 != snapshot.sizes()[address.shard.index()][address.slice.index()] {
                let problem = format!(
                    "{address} has {} records in its file and {} in the catalogue: a deletion might miss some; restore a copy",
                    there.len(),
                    known.len()
                );
                check.push(problem, None);
            }
            check.records += entries.len() as u64;
        }
        Ok(())
    }

    fn check_stages(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        for key in snapshot.stages() {
            let expected = snapshot.plan().lineage(key);
            match (self.stage(key), expected) {
                (Ok((lineage, _)), Some(expected)) if lineage == expected => check.stages += 1,
                (Ok(_), _) => check.push(format!("stage {key} is not one of the plan"), Some(BUILD_AGAIN)),
                (Err(error), _) => check.push(error.to_string(), Some(BUILD_AGAIN)),
            }
        }
        Ok(())
    }

    fn check_ledger(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let folder = self.path.join(LEDGER);
        let inner = self.inner();
        let catalogue = &inner.catalogue;
        let (entries, checkpoint) = catalogue.head()?;
        let path = catalogue.path().display().to_string();
        let head = match self.verifying_key().check(&checkpoint) {
            Ok(head) => head,
            Err(error) => {
                check.push(format!("`{path}`: the ledger's {error}"), None);
                return Ok(());
            }
        };
        if head.size != entries {
            let problem =
                format!("the ledger has {entries} entries, but {} were signed: some were added or dropped", head.size);
            check.push(format!("`{path}`: {problem}"), None);
            return Ok(());
        }
        // The tree is computed again from the entries: stored hashes are not believed.
        let mut hashes = Vec::new();
        let mut wrong = None;
        for index in 0..entries {
            let Some(entry) = catalogue.entry(index)? else {
                wrong = Some(format!("ledger entry {index} is missing"));
                break;
            };
            match Entry::from_bytes(index, &entry) {
                Ok(Entry { event: Event::Created { store, settings, .. }, .. })
                    if index == 0 && (store, settings) != (self.id(), self.settings().digest()) =>
                {
                    check.push("the ledger's first entry is of another store or other settings", None);
                }
                Ok(_) => {}
                Err(error) => check.push(error.to_string(), None),
            }
            let known = |numbers: &[u64]| -> Result<Vec<s3t_ledger::Hash>, String> {
                numbers.iter().map(|number| hashes.get(*number as usize).copied().ok_or_else(String::new)).collect()
            };
            let new = s3t_ledger::new_hashes(index, &entry, &known)?.1;
            hashes.extend(new);
            check.entries += 1;
        }
        let computed = |numbers: &[u64]| -> Result<Vec<s3t_ledger::Hash>, String> {
            numbers.iter().map(|number| hashes.get(*number as usize).copied().ok_or_else(|| "missing".into())).collect()
        };
        if wrong.is_none() && root(entries, &computed)? != head.root {
            wrong = Some("an entry of the ledger is not what was signed: changed, or in another place".into());
        }
        if wrong.is_none() {
            let numbers: Vec<u64> = (0..hashes.len() as u64).collect();
            if catalogue.hashes(&numbers).ok().as_ref() != Some(&hashes) {
                wrong = Some("the stored hashes of the ledger are not those of its entries".into());
            }
        }
        if let Some(problem) = wrong {
            check.push(format!("`{path}`: {problem}"), None);
            return Ok(());
        }
        let public = fs::read_to_string(folder.join("key.pub")).unwrap_or_default();
        if public.trim_end() != self.verifying_key().to_string() {
            let problem = format!("`{}` is not the store's public key", folder.join("key.pub").display());
            check.push(problem, Some(WRITE_AGAIN));
        }
        let published = fs::read_to_string(folder.join("checkpoint")).unwrap_or_default();
        // The files may be of an earlier moment, while stages are built; never of another history.
        let published = self.verifying_key().check(&published).ok().filter(|head| head.size <= entries);
        let Some(published) = published.filter(|head| root(head.size, &computed) == Ok(head.root)) else {
            check.push(format!("`{}` is not what the catalogue says", folder.display()), Some(WRITE_AGAIN));
            return Ok(());
        };
        let expected = s3t_ledger::tile_files(0, published.size, &computed, &|index| {
            catalogue
                .entry(index)
                .ok()
                .flatten()
                .ok_or(s3t_ledger::LedgerError::Entry { index, problem: String::new() })
        })?;
        for file in expected {
            if fs::read(folder.join(&file.path)).ok().as_ref() != Some(&file.bytes) {
                let problem = format!("`{}` is not what the catalogue says", folder.join(&file.path).display());
                check.push(problem, Some(WRITE_AGAIN));
            }
        }
        Ok(())
    }

    /// Files that are not the store's, for example copies that somebody made, and what crashes left.
    fn check_names(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        let named = self.slice_files(&snapshot);
        for (folder, _) in self.inner().catalogue.read(|connection| dead_exports(connection, &snapshot))? {
            check.push(format!("the export `{folder}` holds stages that were erased"), Some("removes the export"));
        }
        let database = [CATALOGUE, "catalogue.db-wal", "catalogue.db-shm"];
        for name in names(&self.path)? {
            let own = database.contains(&&*name) || [RECORDS, STAGES, LEDGER, BUILDING, ERASING].contains(&&*name);
            if !own {
                foreign(check, &self.path.join(name));
            }
        }
        for name in names(&self.path.join(RECORDS))? {
            let path = self.path.join(RECORDS).join(&name);
            if named.contains(&name) {
            } else if is_slice_name(&name) || name.starts_with(crate::disk::TEMPORARY) {
                left_over(check, &path);
            } else {
                foreign(check, &path);
            }
        }
        for name in names(&self.path.join(STAGES))? {
            let path = self.path.join(STAGES).join(&name);
            match parse_stage_name(&name) {
                Some(key) if snapshot.has_stage(&key) => {}
                Some(_) => left_over(check, &path),
                None if name.starts_with(crate::disk::TEMPORARY) => left_over(check, &path),
                None => foreign(check, &path),
            }
        }
        for address in self.settings().shape.addresses().filter(|_| self.is_encrypted()) {
            if let Err(error) = self.keys.check_slice(snapshot.generation(address)) {
                check.push(error.to_string(), None);
            }
        }
        for generation in self.keys.slices()?.0 {
            let shape = self.settings().shape;
            let inside = generation.0.shard.0 < shape.shards && generation.0.slice.0 < shape.slices;
            if self.is_encrypted() && (!inside || snapshot.generation(generation.0) != generation) {
                let problem = format!("the key of {} before its last erasure is still there", generation.0);
                check.push(problem, Some("destroys the key"));
            }
        }
        self.keys.foreign_files()?.iter().for_each(|path| foreign(check, path));
        Ok(())
    }
}

fn foreign(check: &mut StoreCheck, path: &Path) {
    let problem =
        format!("`{}` is in the store but not the store's; if it is a copy, erasures do not reach it", path.display());
    check.push(problem, None);
}

fn left_over(check: &mut StoreCheck, path: &Path) {
    check.push(format!("`{}` is named by nothing: a crash left it", path.display()), Some(REMOVE_FILE));
}
