//! Deleting: accepted in one transaction, then erased from disk.
//!
//! # Proof note
//!
//! *Before*: a request names records and subjects. *After* [`Store::accept`] returns: the deletion survives any crash, and no
//! [`Snapshot`] holds a stage that saw one of its records. *After* the ledger says that it was erased: the records, their ids'
//! digests, the stages that saw them and the keys that open any copy of these are gone. *Why*: accepting is one transaction that
//! marks the records and removes the stages from the catalogue. Erasing writes the other records of each slice anew under a
//! new key, makes the catalogue point there in one transaction, and only then destroys the old key and removes what the
//! catalogue does not name; then SQLite's log is truncated, and only then does the ledger say so. Every step can be done twice, and
//! opening a store does again what was not finished. Whoever removes a file holds the [`ErasingLock`], so that nobody takes the new
//! file of an erasure that has not committed for a left-over.
//!
//! The opening of a request's commitments is a function of the store's signing key, the request's id and the names in it. So
//! whoever asks for the same again gets the same receipt, before and after the erasure, and another request under the same id is told
//! from it, although the store keeps nothing that names anybody.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{OptionalExtension, params};
use s3t_core::digest::DigestBuilder;
use s3t_core::record::slice_digest;
use s3t_core::{Digest, RecordId, ShardId, SliceAddress, StageKey, SubjectId};
use s3t_ledger::{Effect, Event, Named, Proven, Receipt, Timestamp, commit_request, inclusion_proof};
use serde::Serialize;

use crate::catalogue::{
    REQUESTS, ShortId, now, record_id, request_id, slice_address, slice_number, subject_id, to_digest,
};
use crate::disk::{TEMPORARY, names, remove, sync_folder};
use crate::exports::RemainingExport;
use crate::keys::Generation;
use crate::snapshot::digest_of_stages;
use crate::store::{ErasingLock, parse_slice_file_name, parse_stage_name, slice_name};
use crate::{Snapshot, Store, StoreError, random};

/// What is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletionRequest {
    /// The request's id: asking for the same again does nothing twice. `None` draws one.
    pub id: Option<String>,
    /// Records.
    pub records: Vec<RecordId>,
    /// Subjects: all of their records.
    pub subjects: Vec<SubjectId>,
}

/// A deletion that can no longer be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The request's id.
    pub request: String,
    /// What it did.
    pub effect: Effect,
    /// Whether the same request was accepted before; then nothing was done now.
    pub repeated: bool,
    /// The key of its commitments.
    pub opening: Digest,
}

/// What an erasure removed from disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erasure {
    /// The slices whose records were written anew.
    pub slices: Vec<SliceAddress>,
    /// The stages whose files were removed.
    pub stages: Vec<StageKey>,
    /// The records that were removed, with their digests.
    pub records: Vec<(Digest, RecordId)>,
    /// The exported adapters whose files were removed.
    pub exports: Vec<PathBuf>,
    /// Exported adapters of dead stages that could not be removed, or not whole.
    pub remaining_exports: Vec<RemainingExport>,
}

impl Store {
    /// Accepts a deletion: once this returns it survives any crash, and no snapshot holds a stage that saw one of the records.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRecord`], [`StoreError::UnknownSubject`], [`StoreError::RequestId`], [`StoreError::OtherRequest`] or
    /// [`StoreError::Io`]; then nothing was accepted.
    pub fn accept(&self, request: &DeletionRequest) -> Result<Accepted, StoreError> {
        let id = match &request.id {
            Some(id) if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) => {
                return Err(StoreError::RequestId(id.clone()));
            }
            Some(id) => id.clone(),
            None => Digest::from_bytes(random::bytes()?).short(),
        };
        if request.records.is_empty() && request.subjects.is_empty() {
            return Err(StoreError::NothingNamed);
        }
        let short = request_id(&self.secret, &id);
        let opening = self.opening(&id, request);
        let accepted = self.change_to(|change, snapshot| {
            let earlier = change.run(|connection| read_request(connection, &short))?;
            if let Some(earlier) = earlier {
                // Stores of format 3 drew openings, and kept them until the erasure.
                let openings = earlier.opening.into_iter().chain([opening]);
                let same = |opening: &Digest| same_names(commitments(request, opening), earlier.named.clone());
                let opening = openings.into_iter().find(same).ok_or_else(|| StoreError::OtherRequest(id.clone()))?;
                let again = Accepted { request: id.clone(), effect: earlier.effect, repeated: true, opening };
                return Ok((again, None));
            }
            let epoch = snapshot.epoch() + 1;
            let mut marked = Vec::new();
            for record in &request.records {
                let of_record = change.mark_record(&record_id(&self.secret, record), epoch)?;
                marked.extend(of_record.ok_or_else(|| StoreError::UnknownRecord(record.clone()))?);
            }
            for subject in &request.subjects {
                let of_subject = change.mark_subject(&subject_id(&self.secret, subject), epoch)?;
                marked.extend(of_subject.ok_or_else(|| StoreError::UnknownSubject(subject.clone()))?);
            }
            // Copies go along, whoever they belong to.
            let groups: BTreeSet<i64> = marked.iter().filter_map(|record| record.copies).collect();
            for group in groups {
                marked.extend(change.mark_copies(group, epoch)?);
            }
            let mut hits: BTreeMap<u64, u64> = BTreeMap::new();
            marked.iter().for_each(|record| *hits.entry(record.slice).or_default() += 1);
            let slices: BTreeSet<SliceAddress> =
                hits.keys().map(|number| slice_address(self.settings().shape.slices, *number)).collect();
            for (number, records) in &hits {
                let mut row = change.slice(*number)?;
                row.records = row.records.saturating_sub(*records);
                row.hit = epoch;
                change.set_slice(&row)?;
            }
            let mut after = snapshot.clone();
            after.epoch = epoch;
            after.hit.extend(&slices);
            after.unerased.push(epoch);
            for (number, records) in &hits {
                let address = slice_address(self.settings().shape.slices, *number);
                let size = &mut after.sizes[address.shard.index()][address.slice.index()];
                *size = size.saturating_sub(*records);
            }
            let dead = snapshot.plan().stages().filter(|stage| saw(stage, &slices)).map(|stage| stage.key);
            let cut: Vec<StageKey> = dead.filter(|key| after.built.remove(key)).collect();
            for key in &cut {
                change.remove_stage(key)?;
            }
            let hit_shards: BTreeSet<ShardId> = slices.iter().map(|address| address.shard).collect();
            let effect = Effect {
                epoch,
                records: hits.values().sum(),
                slices: slices.into_iter().collect(),
                cut,
                serves: after.serves(hit_shards),
            };
            let named = commitments(request, &opening);
            let entry = Event::Accepted {
                epoch,
                request: commit_request(&opening, &id),
                named: Receipt::named_digest(&named),
                records: effect.records,
                effect: effect.digest(),
            };
            let index = change.append(now(), entry)?;
            change.set("epoch", &epoch.to_le_bytes())?;
            let named: Vec<u8> = named.iter().flat_map(|named| *named.as_bytes()).collect();
            let failed = |error: serde_json::Error| StoreError::damaged(&self.path, error.to_string());
            let text = serde_json::to_string(&effect).map_err(failed)?;
            change.touch(REQUESTS, &(epoch as i64), |connection| {
                let statement = "INSERT INTO requests (epoch, id, opening, named, effect, accepted, waiting)
                                 VALUES (?, ?, ?, ?, ?, ?, ?)";
                let opening = opening.as_bytes().as_slice();
                let waiting = effect.records as i64;
                let values = params![epoch as i64, short.as_slice(), opening, named, text, index as i64, waiting];
                connection.prepare_cached(statement)?.execute(values).map(drop)
            })?;
            // Every snapshot from here on is of after the deletion.
            Ok((Accepted { request: id.clone(), effect, repeated: false, opening }, Some(after)))
        })?;
        if !accepted.repeated {
            let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
            effective.insert(accepted.effect.epoch, now());
        }
        Ok(accepted)
    }

    /// The key of a request's commitments: the same for the same names under the same id, in whatever order, and to nobody but
    /// whoever knows both and has the store's signing key.
    fn opening(&self, id: &str, request: &DeletionRequest) -> Digest {
        let mut builder = DigestBuilder::keyed(&self.openings, "opening");
        builder.bytes(id.as_bytes());
        let records: BTreeSet<&str> = request.records.iter().map(RecordId::as_str).collect();
        let subjects: BTreeSet<&str> = request.subjects.iter().map(SubjectId::as_str).collect();
        for names in [records, subjects] {
            builder.number(names.len() as u64);
            for name in names {
                builder.bytes(name.as_bytes());
            }
        }
        builder.finish()
    }

    /// Erases what was accepted, by whatever process: the records, the stages that saw them, their keys, and what the catalogue
    /// held of them. Waits for another process that erases, as long as the store's patience lasts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Erasing`] while another process has the files in hand, [`StoreError::Reading`] while one reads the catalogue
    /// as it was before, [`StoreError::Io`]; then the deletion stays accepted, and whatever command comes next finishes it.
    pub fn erase(&self) -> Result<Erasure, StoreError> {
        let (erasure, failed) = self.erase_pending();
        failed.map_or(Ok(erasure), Err)
    }

    /// The same, with what was erased before something failed.
    pub fn erase_pending(&self) -> (Erasure, Option<StoreError>) {
        let mut erasure = Erasure::default();
        let erased = self.lock_erasing().and_then(|lock| self.erase_with(&lock, &mut erasure));
        (erasure, erased.err())
    }

    pub(crate) fn erase_with(&self, lock: &ErasingLock, erasure: &mut Erasure) -> Result<(), StoreError> {
        let pending: Vec<SliceAddress> = self.snapshot()?.hit.iter().copied().collect();
        let failed = self.erase_slices(&pending, lock, erasure)?;
        self.remove_unnamed(lock, erasure)?;
        if self.snapshot()?.unerased.is_empty() {
            // A crash may have left the log of an erasure that was finished; nothing that is promised is in it.
            self.inner().catalogue.try_to_truncate_log()?;
        } else {
            // Before anything is called erased: the log has pages as they were before.
            self.inner().catalogue.truncate_log()?;
            self.finish_erasure()?;
        }
        // What could be erased is erased.
        failed.map_or(Ok(()), Err)
    }

    /// Writes the remaining records of slices anew, under new keys, and makes the catalogue point there in one transaction. Slices
    /// that cannot be read are left as they are; gives the first failure.
    fn erase_slices(
        &self,
        addresses: &[SliceAddress],
        _held: &ErasingLock,
        erasure: &mut Erasure,
    ) -> Result<Option<StoreError>, StoreError> {
        if addresses.is_empty() {
            return Ok(None);
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(addresses.len());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(address) = addresses.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push(self.rewrite(*address));
            }
            done
        };
        let results: Vec<Result<Option<Rewritten>, StoreError>> = std::thread::scope(|scope| {
            // Where no more threads can be started, those that were do the work; this one always does.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(start).collect();
            let mut results = work();
            for other in others {
                results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            results
        });
        let (mut rewritten, mut failed) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(slice) => rewritten.extend(slice),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        rewritten.sort_by_key(|slice| slice.new);
        // The new files and keys are there for good before anything points to them.
        sync_folder(&*self.disk, &self.records)?;
        self.keys.sync()?;
        self.change(|change, _| {
            change.check_marks()?;
            for slice in &rewritten {
                let mut row = change.slice(slice_number(self.settings().shape.slices, slice.new.0))?;
                row.generation = slice.new.1;
                row.digest = slice.digest;
                change.set_slice(&row)?;
                change.remove_records(&slice.dead)?;
            }
            for address in addresses {
                let number = slice_number(self.settings().shape.slices, *address);
                // Those that were accepted since the slice was written anew, or that cannot be erased yet.
                let left = change.run(|connection| {
                    let statement = "SELECT 1 FROM records WHERE slice = ? AND dead IS NOT NULL";
                    connection.prepare_cached(statement)?.exists([number as i64])
                })?;
                if !left {
                    let mut row = change.slice(number)?;
                    row.hit = 0;
                    change.set_slice(&row)?;
                }
            }
            Ok(())
        })?;
        for slice in rewritten {
            erasure.slices.push(slice.new.0);
            erasure.records.extend(slice.gone);
        }
        Ok(failed)
    }

    /// Writes the remaining records of a slice to a new file under a new key; `None` if none is dead.
    fn rewrite(&self, address: SliceAddress) -> Result<Option<Rewritten>, StoreError> {
        let number = slice_number(self.settings().shape.slices, address);
        let dead: Vec<ShortId> = self.inner().catalogue.read(|connection| {
            let mut query = connection.prepare_cached("SELECT id FROM records WHERE slice = ? AND dead IS NOT NULL")?;
            let rows = query.query_map([number as i64], |row| row.get::<_, ShortId>(0))?;
            rows.collect()
        })?;
        if dead.is_empty() {
            return Ok(None);
        }
        let snapshot = self.snapshot()?;
        let old = snapshot.generation(address);
        let new = (address, old.1 + 1);
        let ids: HashSet<&ShortId> = dead.iter().collect();
        let (gone, left): (Vec<_>, Vec<_>) =
            self.read_slice(old)?.into_iter().partition(|entry| ids.contains(&entry.id));
        if gone.len() != dead.len() {
            let problem = format!("it lacks {} of the records that are to be erased from it", dead.len() - gone.len());
            return Err(StoreError::damaged(&self.slice_path(old), problem));
        }
        if self.is_encrypted() {
            self.keys.make_slice(new)?;
        }
        let digest = slice_digest(&self.secret, left.iter().map(|entry| entry.digest));
        if left.is_empty() {
            // An attempt that was interrupted may have written records that have gone since.
            remove(&*self.disk, &self.records, slice_name(new))?;
        } else {
            self.write_slice(new, &left)?;
        }
        let gone = gone.into_iter().map(|entry| (entry.digest, entry.record.id)).collect();
        Ok(Some(Rewritten { new, digest: (!left.is_empty()).then_some(digest), dead, gone }))
    }

    /// Removes every file and key that the catalogue does not name, and the files of exports of stages that are gone.
    pub(crate) fn remove_unnamed(&self, held: &ErasingLock, erasure: &mut Erasure) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        if !self.unnamed(&snapshot)?.is_empty() {
            // While the catalogue is held nobody adds a stage.
            self.change(|_, snapshot| {
                let Unnamed { stages, slices, keys, .. } = self.unnamed(snapshot)?;
                erasure.stages.extend(stages.iter().filter_map(|name| parse_stage_name(name)));
                for (folder, names) in [(&self.stages, stages), (&self.records, slices)] {
                    names.iter().try_for_each(|name| remove(&*self.disk, folder, name))?;
                    if !names.is_empty() {
                        sync_folder(&*self.disk, folder)?;
                    }
                }
                self.keys.remove_unfinished()?;
                keys.iter().try_for_each(|generation| self.keys.destroy_slice(*generation))?;
                if !keys.is_empty() {
                    self.keys.sync()?;
                }
                Ok(())
            })?;
            erasure.stages.sort_unstable();
        }
        self.remove_dead_exports(held, erasure)
    }

    /// Files and keys that the catalogue does not name. Names that are not the store's are not among them: `check` reports them.
    fn unnamed(&self, snapshot: &Snapshot) -> Result<Unnamed, StoreError> {
        let named = self.slice_files(snapshot);
        let current: HashSet<Generation> =
            self.settings().shape.addresses().map(|address| snapshot.generation(address)).collect();
        let mut unnamed = Unnamed {
            stages: names(&self.stages)?,
            slices: names(&self.records)?,
            keys: self.keys.slices()?,
            unfinished_keys: self.keys.has_unfinished()?,
        };
        let finished = |name: &str| name.strip_prefix(TEMPORARY).map(str::to_owned);
        unnamed.stages.retain(|name| match finished(name) {
            Some(finished) => parse_stage_name(&finished).is_some(),
            None => parse_stage_name(name).is_some_and(|key| !snapshot.has_stage(&key)),
        });
        unnamed.slices.retain(|name| {
            let own = |name: &str| parse_slice_file_name(name).is_some();
            !named.contains(name) && finished(name).map_or_else(|| own(name), |finished| own(&finished))
        });
        unnamed.keys.retain(|generation| !current.contains(generation));
        Ok(unnamed)
    }

    /// The files of the slices that have records.
    pub(crate) fn slice_files(&self, snapshot: &Snapshot) -> HashSet<String> {
        let full =
            |address: &SliceAddress| snapshot.plan().digests()[address.shard.index()][address.slice.index()].is_some();
        let addresses = self.settings().shape.addresses().filter(full);
        addresses.map(|address| slice_name(snapshot.generation(address))).collect()
    }

    /// Writes into the ledger what is erased. Before it, the log must have been truncated.
    fn finish_erasure(&self) -> Result<(), StoreError> {
        let effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finished = self.change(|change, snapshot| {
            change.check_marks()?;
            let mut done = Vec::new();
            for epoch in &snapshot.unerased {
                if change.waiting(*epoch as i64)? > 0 {
                    continue;
                }
                let since = effective.get(epoch).copied().unwrap_or_else(now);
                let index = change.append(now(), Event::Effective { epoch: *epoch, since })?;
                let erased = change.append(now(), Event::Erased { epoch: *epoch })?;
                change.touch(REQUESTS, &(*epoch as i64), |connection| {
                    let statement = "UPDATE requests SET effective = ?2, erased = ?3 WHERE epoch = ?1";
                    let values = params![*epoch as i64, index as i64, erased as i64];
                    connection.prepare_cached(statement)?.execute(values).map(drop)
                })?;
                done.push(*epoch);
            }
            let keys = snapshot.plan().stages().map(|stage| &stage.key);
            let (stages, plan) = (keys.len() as u64, digest_of_stages(keys));
            let all = done.len() == snapshot.unerased.len();
            if all && change.get("plan")?.as_deref() != Some(plan.as_bytes()) {
                change.append(now(), Event::Planned { epoch: snapshot.epoch(), stages, plan })?;
                change.set("plan", plan.as_bytes())?;
            }
            Ok(done)
        })?;
        let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        effective.retain(|epoch, _| !finished.contains(epoch));
        Ok(())
    }

    /// Forgets the opening of a request whose receipt was handed out: from then on only receipts have it, and whoever asks for
    /// the same again.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRequest`], [`StoreError::Busy`] or [`StoreError::Database`].
    pub fn forget_opening(&self, request: &str) -> Result<(), StoreError> {
        let row = self.request(request)?;
        if row.opening.is_none() {
            return Ok(());
        }
        let epoch = row.effect.epoch as i64;
        self.change(|change, _| {
            change.touch(REQUESTS, &epoch, |connection| {
                connection
                    .prepare_cached("UPDATE requests SET opening = NULL WHERE epoch = ?")?
                    .execute([epoch])
                    .map(drop)
            })
        })?;
        // Zeros are written over it where it was; the log is cut when nobody reads it.
        self.inner().catalogue.try_to_truncate_log()
    }

    /// The deletions that were accepted and are not erased yet, with the moment they were accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Ledger`] or [`StoreError::Database`].
    pub fn pending(&self) -> Result<Vec<PendingDeletion>, StoreError> {
        let unerased: HashSet<u64> = self.snapshot()?.unerased.iter().copied().collect();
        if unerased.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.inner().catalogue.read(all_requests)?;
        let mut pending = Vec::new();
        for row in rows.into_iter().filter(|row| unerased.contains(&row.effect.epoch)) {
            let accepted = self.entry(row.accepted)?.at;
            pending.push(PendingDeletion { epoch: row.effect.epoch, records: row.effect.records, accepted });
        }
        Ok(pending)
    }

    /// The receipt for a request. `opening` is what [`accept`](Self::accept) gave; `None` takes what the store still has.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRequest`], [`StoreError::Ledger`] or [`StoreError::Database`].
    pub fn receipt(&self, request: &str, opening: Option<Digest>) -> Result<Receipt, StoreError> {
        let row = self.request(request)?;
        let opening = opening.or(row.opening);
        self.receipt_of(request.to_owned(), opening, row)
    }

    pub(crate) fn receipt_of(
        &self,
        request: String,
        opening: Option<Digest>,
        row: RequestRow,
    ) -> Result<Receipt, StoreError> {
        let inner = self.inner();
        let catalogue = &inner.catalogue;
        let missing = |what: &str| StoreError::damaged(catalogue.path(), format!("{what} is missing"));
        let checkpoint = catalogue.get("checkpoint")?.and_then(|text| String::from_utf8(text).ok());
        let checkpoint = checkpoint.ok_or_else(|| missing("the checkpoint"))?;
        let size = self.verifying_key().check(&checkpoint)?.size;
        let proven = |index: Option<u64>| -> Result<Option<Proven>, StoreError> {
            let Some(index) = index else { return Ok(None) };
            let entry = catalogue.entry(index)?.and_then(|entry| String::from_utf8(entry).ok());
            let entry = entry.ok_or_else(|| missing("an entry of the ledger"))?;
            let path = inclusion_proof(size, index, &|numbers: &[u64]| catalogue.hashes(numbers))?;
            Ok(Some(Proven { index, entry, path }))
        };
        let parts = [proven(Some(row.accepted))?, proven(row.effective)?, proven(row.erased)?];
        Receipt::new(request, opening, row.named, row.effect, parts, checkpoint)
            .ok_or_else(|| missing("an entry of the ledger"))
    }

    fn request(&self, request: &str) -> Result<RequestRow, StoreError> {
        let short = request_id(&self.secret, request);
        let row = self.inner().catalogue.read(|connection| read_request(connection, &short))?;
        row.ok_or_else(|| StoreError::UnknownRequest(request.to_owned()))
    }

    /// Whether a request of this id was accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn knows_request(&self, request: &str) -> Result<bool, StoreError> {
        match self.request(request) {
            Ok(_) => Ok(true),
            Err(StoreError::UnknownRequest(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A deletion that is accepted and in effect, and not erased yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingDeletion {
    /// The deletion.
    pub epoch: u64,
    /// The records that it takes.
    pub records: u64,
    /// When it was accepted.
    pub accepted: Timestamp,
}

/// Files and keys that the catalogue does not name.
struct Unnamed {
    stages: Vec<String>,
    slices: Vec<String>,
    keys: Vec<Generation>,
    unfinished_keys: bool,
}

impl Unnamed {
    fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.slices.is_empty() && self.keys.is_empty() && !self.unfinished_keys
    }
}

/// A slice that was written anew.
struct Rewritten {
    new: Generation,
    digest: Option<Digest>,
    dead: Vec<ShortId>,
    gone: Vec<(Digest, RecordId)>,
}

/// A request as the catalogue has it.
pub(crate) struct RequestRow {
    opening: Option<Digest>,
    pub(crate) named: Vec<Digest>,
    pub(crate) effect: Effect,
    pub(crate) accepted: u64,
    pub(crate) effective: Option<u64>,
    pub(crate) erased: Option<u64>,
}

fn read_request(connection: &rusqlite::Connection, id: &ShortId) -> rusqlite::Result<Option<RequestRow>> {
    let statement = "SELECT opening, named, effect, accepted, effective, erased FROM requests WHERE id = ?";
    connection.prepare_cached(statement)?.query_row([id.as_slice()], RequestRow::read).optional()
}

/// All requests, by epoch.
pub(crate) fn all_requests(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<RequestRow>> {
    let statement = "SELECT opening, named, effect, accepted, effective, erased FROM requests ORDER BY epoch";
    connection.prepare_cached(statement)?.query_map([], RequestRow::read)?.collect()
}

impl RequestRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let effect: String = row.get(2)?;
        let effect = serde_json::from_str(&effect).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
        })?;
        let index = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|index| index as u64));
        Ok(Self {
            opening: row.get::<_, Option<Vec<u8>>>(0)?.map(|bytes| to_digest(&bytes)).transpose()?,
            named: row.get::<_, Vec<u8>>(1)?.as_chunks().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect(),
            effect,
            accepted: index(3)?.unwrap_or_default(),
            effective: index(4)?,
            erased: index(5)?,
        })
    }
}

/// Whether two lists of commitments are of the same names, in whatever order and however often.
fn same_names(mut one: Vec<Digest>, mut other: Vec<Digest>) -> bool {
    for list in [&mut one, &mut other] {
        list.sort_unstable();
        list.dedup();
    }
    one == other
}

fn commitments(request: &DeletionRequest, opening: &Digest) -> Vec<Digest> {
    let records = request.records.iter().map(|record| Named::Record(record).commit(opening));
    let subjects = request.subjects.iter().map(|subject| Named::Subject(subject).commit(opening));
    records.chain(subjects).collect()
}

fn saw(stage: &s3t_core::PlannedStage, slices: &BTreeSet<SliceAddress>) -> bool {
    stage.slices.iter().any(|slice| slices.contains(&SliceAddress { shard: stage.shard, slice: *slice }))
}
