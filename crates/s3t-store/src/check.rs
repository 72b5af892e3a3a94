//! `s3t store check`: every inconsistency between catalogue, files, keys and ledger.
//!
//! # Proof note
//!
//! *Before*: other processes may accept deletions, erase, build and publish. *After*: whatever is called wrong was wrong at one
//! moment. *Why*: the catalogue is read in one transaction, and its files while this process holds the [`ErasingLock`], without which
//! nobody changes or removes one. Only stages are added beside it, in a transaction of the catalogue: what is not named yet is looked
//! at again while no such transaction is open. Where the lock cannot be had, what its holder may be about to name is not judged, and
//! the rest is judged if the catalogue has not changed in the meantime.

mod ledger;
mod left_overs;

use std::collections::HashSet;

use s3t_core::StageKey;
use s3t_core::record::slice_digest;

use crate::catalogue::{record_id, slice_number};
use crate::lock::Holder;
use crate::store::ErasingLock;
use crate::{Erasure, Place, Store, StoreError, making};

/// The tries to look at a store that keeps changing.
const TRIES: usize = 20;

/// A fault of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The problem, its place, and its meaning.
    pub problem: String,
    /// The step by which `--repair` mends the problem; `None` if it cannot without guessing.
    pub mend: Option<&'static str>,
}

/// The findings of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

const BUILD_AGAIN: &str = "drops the stage, so that `s3t repair` builds it again";
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
            // What others changed meanwhile is looked at again before anything is called a fault.
            let is_last = attempt + 1 == TRIES && held.is_ok();
            if check.passed() || is_last || self.inner().catalogue.version()? == version {
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
        store.publish_again(&lock)?;
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
