//! `s3t store check`: every inconsistency between catalogue, files, keys and ledger.
//!
//! # Proof note
//!
//! *Before*: other processes may accept deletions, erase, build and publish. *After*: whatever is called wrong was wrong at one
//! moment. *Why*: the catalogue is read in one transaction, and its files while this process holds the [`ErasingLock`], without which
//! nobody changes or removes one. Only stages are added beside it, in a transaction of the catalogue: what is not named yet is looked
//! at again while no such transaction is open. Where the lock cannot be had, what its holder may be about to name is not judged, and
//! the rest is judged if the catalogue has not changed in the meantime.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use s3t_core::record::slice_digest;
use s3t_core::{Digest, StageKey};
use s3t_ledger::{Entry, Epoch, Event, Receipt, root};
use serde::Serialize;

use crate::catalogue::{RequestRow, record_id, slice_number};
use crate::disk::{names, remove};
use crate::lock::Holder;
use crate::names::{CHECKPOINT, Generation, PUBLIC_KEY, finished, of_unfinished, parse_stage_name};
use crate::store::ErasingLock;
use crate::{Erasure, Place, Store, StoreError, layout, making};

/// The tries to look at a store that keeps changing.
const TRIES: usize = 20;

/// A fault of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The problem, its place, and its meaning.
    pub problem: String,
    /// The step by which `--repair` mends the problem; `None` if it cannot without guessing.
    pub mend: Option<&'static str>,
}

/// The findings of a check.
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
    /// Deletions that are in effect and whose erasure is not finished.
    pub waiting: Vec<String>,
    /// Things to know that are not wrong.
    pub notes: Vec<String>,
}

impl StoreCheck {
    /// `true` if nothing is wrong.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    fn push(&mut self, problem: impl Into<String>, mend: Option<&'static str>) {
        self.findings.push(Finding { problem: problem.into(), mend });
    }
}

const REMOVE_FILE: &str = "removes the file";
const BUILD_AGAIN: &str = "drops the stage, so that `s3t repair` builds it again";
const RESTRICT: &str = "lets only their owner use them";
const WRITE_AGAIN: &str = "writes the ledger's files again from the catalogue";

impl Store {
    /// Looks at everything and changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] if others changed the store again and again while it was looked at; [`StoreError::Io`] or
    /// [`StoreError::Database`] if something cannot be looked at. What is found wrong is in the report.
    pub fn check(&self) -> Result<StoreCheck, StoreError> {
        for attempt in 0..TRIES {
            let patience = if attempt == 0 { self.patience() } else { std::time::Duration::ZERO };
            let held = match self.lock_erasing_for(patience) {
                Ok(lock) => Ok(lock),
                Err(StoreError::Erasing { holder, .. }) => Err(holder),
                // Told among the findings.
                Err(StoreError::Link { .. }) => Err(Holder::default()),
                Err(error) => return Err(error),
            };
            let version = self.inner().catalogue.version()?;
            let check = self.at_one_moment()?.check_moment(held.as_ref())?;
            if check.passed() || held.is_ok() || self.inner().catalogue.version()? == version {
                return Ok(check);
            }
        }
        Err(StoreError::Changed(self.path().into()))
    }

    /// Looks at a store [at one moment](Self::at_one_moment); with the lock, or knowing who holds it.
    fn check_moment(&self, held: Result<&ErasingLock, &Holder>) -> Result<StoreCheck, StoreError> {
        let mut check = StoreCheck::default();
        self.check_catalogue(&mut check)?;
        self.check_slices(&mut check)?;
        self.check_stages(&mut check)?;
        self.check_ledger(held.is_ok(), &mut check)?;
        self.check_names(held.is_ok(), &mut check)?;
        self.check_exports(&mut check)?;
        if let Err(holder) = held {
            check.notes.push(format!("{holder} is changing the store's files, so left-overs were not looked for"));
        }
        for pending in self.pending()? {
            check.waiting.push(format!(
                "deletion {} ({} records) is in effect and not erased yet; the next command that changes the store finishes it",
                pending.epoch, pending.records
            ));
        }
        Ok(check)
    }

    /// Mends what can be mended without guessing: finishes erasures, drops stages that cannot be read, removes what crashes left,
    /// writes the ledger's files again. Then checks again.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`StoreError::Erasing`] while another process has the files in hand.
    pub fn mend(place: &Place) -> Result<StoreCheck, StoreError> {
        let store = Self::open_to_accept(place)?;
        let lock = store.lock_erasing()?;
        store.erase_with(&lock, &mut Erasure::default())?;
        let mut unreadable: Vec<StageKey> = Vec::new();
        for key in store.snapshot()?.stages() {
            match store.stage(key) {
                Err(StoreError::Damaged { .. } | StoreError::MissingStage(_) | StoreError::Link { .. }) => {
                    unreadable.push(*key);
                }
                read => drop(read?),
            }
        }
        store.change(|change, _| unreadable.iter().try_for_each(|key| change.remove_stage(key).map(drop)))?;
        store.remove_unnamed(&lock, &mut Erasure::default())?;
        remove(&*store.disk, &store.ledger, CHECKPOINT)?;
        store.publish_with(&lock)?;
        store.keys.restrict()?;
        drop(lock);
        making::clear_left_overs(place, &place.resolve()?)?;
        store.check()
    }

    fn check_catalogue(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let inner = self.inner();
        let path = inner.catalogue.path().display().to_string();
        for problem in inner.catalogue.read(|queries| queries.integrity())? {
            check.push(format!("`{path}`: SQLite finds: {problem}; restore the store from a copy"), None);
        }
        let (stored, found) = inner.catalogue.sums(&self.secret, true)?;
        if stored.small != found.small {
            let problem = "settings, slices, stages, requests or exports are not those that were written";
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        if stored.records != found.records {
            let problem = "records or subjects are not those that were written: some might not be found any more";
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        if inner.catalogue.has_marks()
            && let Some(problem) = inner.catalogue.read(|queries| queries.wrong_marks())?
        {
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        Ok(())
    }

    fn check_slices(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        for address in self.settings().shape.addresses() {
            let expected = snapshot.plan().digests()[address.shard.index()][address.slice.index()];
            let entries = match expected {
                None => Vec::new(),
                Some(expected) => match self.read_slice(snapshot.generation(address)) {
                    Ok(entries) => {
                        if slice_digest(&self.secret, entries.iter().map(|entry| entry.digest)) != expected {
                            check.push(StoreError::SliceMismatch { address }.to_string(), None);
                            continue;
                        }
                        entries
                    }
                    Err(error) => {
                        let waits =
                            if snapshot.is_hit(address) { "; its deleted records cannot be erased" } else { "" };
                        check.push(format!("{error}{waits}"), None);
                        continue;
                    }
                },
            };
            if !entries.iter().all(|entry| entry.is_sound(&self.secret)) {
                let problem = format!("{address} has a record with another's digest or id beside it; restore a copy");
                check.push(problem, None);
            }
            let number = slice_number(self.settings().shape.slices, address);
            let known = self.inner().catalogue.read(|queries| queries.records_in(number))?;
            let there: HashSet<[u8; 16]> =
                entries.iter().map(|entry| record_id(&self.secret, &entry.record.id)).collect();
            let alive = known.values().filter(|alive| **alive).count() as u64;
            let size = snapshot.sizes()[address.shard.index()][address.slice.index()];
            if known.len() != there.len() || !known.keys().all(|id| there.contains(id)) || alive != size {
                let problem = format!(
                    "{address} has {} records in its file and {} in the catalogue: a deletion might miss some; restore a copy",
                    there.len(),
                    known.len()
                );
                check.push(problem, None);
            }
            check.records += alive;
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

    fn check_ledger(&self, with_files: bool, check: &mut StoreCheck) -> Result<(), StoreError> {
        let folder = self.ledger.path();
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
        let mut deletions = Deletions::default();
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
                Ok(entry) => deletions.read(index, &entry.event),
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
        for problem in deletions.differences(&catalogue.read(|queries| queries.requests())?) {
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        if !with_files {
            return Ok(());
        }
        let public = self.ledger.read_text(PUBLIC_KEY).unwrap_or_default();
        if public.trim_end() != self.verifying_key().to_string() {
            let problem = format!("`{}` is not the store's public key", folder.join(PUBLIC_KEY).display());
            check.push(problem, Some(WRITE_AGAIN));
        }
        let published = self.ledger.read_text(CHECKPOINT).unwrap_or_default();
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
            if self.read_tile(&file.path).ok().as_ref() != Some(&file.bytes) {
                let problem = format!("`{}` is not what the catalogue says", folder.join(&file.path).display());
                check.push(problem, Some(WRITE_AGAIN));
            }
        }
        Ok(())
    }

    fn read_tile(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder: Option<crate::folder::Folder> = None;
        for step in folders.split('/') {
            folder = Some(folder.as_ref().unwrap_or(&self.ledger).enter(step)?);
        }
        folder.as_ref().unwrap_or(&self.ledger).read(name)
    }

    /// Files that are not the store's, for example copies that somebody made, and what crashes left.
    fn check_names(&self, held: bool, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        layout::foreign(&self.folder)?.iter().for_each(|path| foreign(check, path));
        self.keys.foreign()?.iter().for_each(|path| foreign(check, path));
        for address in self.settings().shape.addresses().filter(|_| self.is_encrypted()) {
            if let Err(error) = self.keys.check_slice(snapshot.generation(address)) {
                check.push(error.to_string(), None);
            }
        }
        let (writable, readable) = self.keys.exposed()?;
        for path in writable {
            check.push(format!("`{}` can be changed by others than its owner", path.display()), Some(RESTRICT));
        }
        if let Some(first) = readable.first() {
            check.notes.push(format!(
                "{} key files can be read by others than their owner, for example `{}`; `--repair` {RESTRICT}",
                readable.len(),
                first.display()
            ));
        }
        if !held {
            return Ok(());
        }
        // Files and keys that a killed erasure left belong to the deletion that is waiting, and go with it.
        if snapshot.unerased().is_empty() {
            self.check_unnamed_slices(&snapshot, check)?;
        }
        let unnamed = self.unnamed_stages(|key| snapshot.has_stage(key))?;
        if !unnamed.is_empty() {
            self.check_unnamed_stages(&unnamed, check)?;
        }
        Ok(())
    }

    /// Files and keys of slices that the catalogue does not name, while no deletion waits for its erasure.
    fn check_unnamed_slices(&self, snapshot: &crate::Snapshot, check: &mut StoreCheck) -> Result<(), StoreError> {
        let named = self.slice_files(snapshot);
        for name in names(&self.records)? {
            let is_own = Generation::of_records(finished(&name)).is_some();
            if is_own && !named.contains(&name) {
                left_over(check, &self.records.path_of(&name));
            }
        }
        for generation in self.keys.slices()? {
            let shape = self.settings().shape;
            let inside = generation.slice.shard.0 < shape.shards && generation.slice.slice.0 < shape.slices;
            if self.is_encrypted() && (!inside || snapshot.generation(generation.slice) != generation) {
                let problem = format!("the key of {} before its last erasure is still there", generation.slice);
                check.push(problem, Some("destroys the key"));
            }
        }
        if self.keys.has_unfinished()? {
            check.push("a key that a crash left unfinished is still there", Some("destroys the key"));
        }
        Ok(())
    }

    /// The files of stages that are not among these, and unfinished ones.
    fn unnamed_stages(&self, is_named: impl Fn(&StageKey) -> bool) -> Result<HashSet<String>, StoreError> {
        let unnamed = |name: &String| match of_unfinished(name) {
            Some(finished) => parse_stage_name(finished).is_some(),
            None => parse_stage_name(name).is_some_and(|key| !is_named(&key)),
        };
        Ok(names(&self.stages)?.into_iter().filter(unnamed).collect())
    }

    /// Looks at unnamed stages again while nobody can add one: those that are still there were left by a crash. A live stage of the
    /// plan was being built: nothing deleted is in its file, which goes when the stage is built or its slices are hit.
    fn check_unnamed_stages(&self, unnamed: &HashSet<String>, check: &mut StoreCheck) -> Result<(), StoreError> {
        let look = |snapshot: &crate::Snapshot| {
            // Stages that a deletion has cut off are waiting to be erased.
            if !snapshot.unerased().is_empty() {
                return Ok(Vec::new());
            }
            let unnamed = self.unnamed_stages(|key| snapshot.has_stage(key))?.into_iter();
            let is_live = |name: &str| parse_stage_name(finished(name)).is_some_and(|key| snapshot.is_live(&key));
            Ok(unnamed.map(|name| (is_live(&name), name)).collect())
        };
        let now = match self.while_nobody_writes(look) {
            Err(StoreError::Busy { holder, .. }) => {
                check.notes.push(format!("{holder} is adding a stage, so left-overs among them were not looked for"));
                return Ok(());
            }
            now => now?,
        };
        let mut left: Vec<(bool, String)> = now.into_iter().filter(|(_, name)| unnamed.contains(name)).collect();
        left.sort();
        for (is_live, name) in left {
            let path = self.stages.path_of(&name);
            if is_live {
                check.waiting.push(format!(
                    "`{}` was left by a build that was killed; the next command that changes the store removes it",
                    path.display()
                ));
            } else {
                left_over(check, &path);
            }
        }
        Ok(())
    }

    /// Exports of stages that are gone. Those of a deletion whose erasure is waiting are waiting too.
    fn check_exports(&self, check: &mut StoreCheck) -> Result<(), StoreError> {
        let waits = !self.snapshot()?.unerased().is_empty();
        for export in self.remaining_exports()? {
            let problem = format!("the export `{}` of deleted stages: {}", export.folder.display(), export.reason);
            if waits { check.waiting.push(problem) } else { check.push(problem, None) }
        }
        Ok(())
    }
}

/// The deletions that a ledger tells of, by epoch.
#[derive(Default)]
struct Deletions {
    /// Entry, commitments, records and effect of the acceptance.
    accepted: BTreeMap<Epoch, (u64, Digest, u64, Digest)>,
    effective: BTreeMap<Epoch, u64>,
    erased: BTreeMap<Epoch, u64>,
}

impl Deletions {
    fn read(&mut self, index: u64, event: &Event) {
        match event {
            Event::Accepted { epoch, named, records, effect, .. } => {
                self.accepted.insert(*epoch, (index, *named, *records, *effect));
            }
            Event::Effective { epoch, .. } => drop(self.effective.insert(*epoch, index)),
            Event::Erased { epoch } => drop(self.erased.insert(*epoch, index)),
            _ => {}
        }
    }

    /// The differences between the ledger and the catalogue's requests.
    fn differences(mut self, requests: &[RequestRow]) -> Vec<String> {
        let mut found = Vec::new();
        for row in requests {
            let epoch = row.effect.epoch;
            let named = Receipt::named_digest(&row.named);
            let said = (row.accepted, named, row.effect.records, row.effect.digest());
            if self.accepted.remove(&epoch) != Some(said) {
                found.push(format!("deletion {epoch} is not as the ledger says it was accepted"));
            }
            let done = (self.effective.remove(&epoch), self.erased.remove(&epoch));
            if done != (row.effective, row.erased) {
                found.push(format!("deletion {epoch} is not as far as the ledger says"));
            }
        }
        let others = self.accepted.into_keys().chain(self.effective.into_keys()).chain(self.erased.into_keys());
        found.extend(others.map(|epoch| format!("deletion {epoch} is in the ledger and not among the requests")));
        found
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
