//! Deleting: accepted in one transaction, then erased from disk.
//!
//! # Proof note
//!
//! *Before*: a request names records and subjects. *After* [`Store::accept`] returns: the deletion survives any crash, and no
//! [`Snapshot`] holds a stage that saw one of its records. *After* [`Store::erase`] returns: the records, their ids' digests, the
//! stages that saw them and the keys that open any copy of these are gone. *Why*: accepting is one transaction that
//! marks the records and removes the stages from the catalogue. Erasing writes the other records of each slice anew under a
//! new key, makes the catalogue point there in one transaction, and only then destroys the old key and removes what the
//! catalogue does not name. Every step can be done twice, and opening a store does again what was not finished.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{OptionalExtension, params};
use s3t_core::record::slice_digest;
use s3t_core::{Digest, RecordId, ShardId, SliceAddress, StageKey, SubjectId};
use s3t_ledger::{Effect, Event, Named, Proven, Receipt, commit_request, inclusion_proof};

use crate::catalogue::{
    Change, EXPORTS, REQUESTS, ShortId, now, record_id, request_id, slice_address, slice_number, subject_id, to_digest,
};
use crate::disk::{TEMPORARY, files_under, names, remove, sync_folder};
use crate::keys::Generation;
use crate::snapshot::digest_of_stages;
use crate::store::{ERASING, RECORDS, STAGES, parse_stage_name, slice_name};
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
    /// The key of its commitments; `None` for a request that was erased before.
    pub opening: Option<Digest>,
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
    /// The exported adapters that were removed.
    pub exports: Vec<PathBuf>,
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
        let opening = Digest::from_bytes(random::bytes()?);
        let accepted = self.change_to(|change, snapshot| {
            let earlier = change.run(|connection| read_request(connection, &short))?;
            if let Some(earlier) = earlier {
                let same = match earlier.opening {
                    Some(opening) => commitments(request, &opening) == earlier.named,
                    // Its names cannot be compared any more, but what it named is gone.
                    None => {
                        earlier.named.len() == request.records.len() + request.subjects.len()
                            && !self.is_any_there(change, request)?
                    }
                };
                if !same {
                    return Err(StoreError::OtherRequest(id.clone()));
                }
                let again =
                    Accepted { request: id.clone(), effect: earlier.effect, repeated: true, opening: earlier.opening };
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
            let text = serde_json::to_string(&effect).unwrap_or_default();
            change.touch(REQUESTS, &(epoch as i64), |connection| {
                let statement =
                    "INSERT INTO requests (epoch, id, opening, named, effect, accepted) VALUES (?, ?, ?, ?, ?, ?)";
                let opening = opening.as_bytes().as_slice();
                let values = params![epoch as i64, short.as_slice(), opening, named, text, index as i64];
                connection.prepare_cached(statement)?.execute(values).map(drop)
            })?;
            // Every snapshot from here on is of after the deletion.
            Ok((Accepted { request: id.clone(), effect, repeated: false, opening: Some(opening) }, Some(after)))
        })?;
        if !accepted.repeated {
            let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
            effective.insert(accepted.effect.epoch, now());
        }
        Ok(accepted)
    }

    /// Whether anything that a request names is there.
    fn is_any_there(&self, change: &Change<'_>, request: &DeletionRequest) -> Result<bool, StoreError> {
        for record in &request.records {
            if change.has_record(&record_id(&self.secret, record))? {
                return Ok(true);
            }
        }
        for subject in &request.subjects {
            if change.has_subject(&subject_id(&self.secret, subject))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Erases what was accepted, by whatever process: the records, the stages that saw them, their keys, and what the catalogue
    /// held of them. Waits for another process that erases.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; then the deletion stays accepted and is erased when the store is opened again.
    pub fn erase(&self) -> Result<Erasure, StoreError> {
        let _lock = self.lock_erasing()?;
        let mut erasure = Erasure::default();
        let pending: Vec<SliceAddress> = self.snapshot()?.hit.iter().copied().collect();
        let failed = self.erase_slices(&pending, &mut erasure)?;
        self.remove_unnamed(&mut erasure)?;
        self.finish_erasure(&mut erasure)?;
        // Every time: a crash may have left the log of an erasure that was finished.
        self.inner().catalogue.truncate_log()?;
        // What could be erased is erased.
        failed.map_or(Ok(erasure), Err)
    }

    /// Writes the remaining records of slices anew, under new keys, and makes the catalogue point there in one transaction. Slices
    /// that cannot be read are left as they are; gives the first failure.
    fn erase_slices(
        &self,
        addresses: &[SliceAddress],
        erasure: &mut Erasure,
    ) -> Result<Option<StoreError>, StoreError> {
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
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().flat_map(join).collect()
        });
        let (mut rewritten, mut failed) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(slice) => rewritten.extend(slice),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if rewritten.is_empty() {
            return Ok(failed);
        }
        rewritten.sort_by_key(|slice| slice.new);
        // The new files and keys are there for good before anything points to them.
        sync_folder(&*self.disk, &self.path.join(RECORDS))?;
        self.keys.sync()?;
        self.change(|change, _| {
            for slice in &rewritten {
                let mut row = change.slice(slice_number(self.settings().shape.slices, slice.new.0))?;
                row.generation = slice.new.1;
                row.digest = slice.digest;
                change.set_slice(&row)?;
                change.remove_records(&slice.dead)?;
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
            remove(&*self.disk, &self.slice_path(new))?;
        } else {
            self.write_slice(new, &left)?;
        }
        let gone = gone.into_iter().map(|entry| (entry.digest, entry.record.id)).collect();
        Ok(Some(Rewritten { new, digest: (!left.is_empty()).then_some(digest), dead, gone }))
    }

    /// The right to change files other than stages; waits for another process that has it.
    pub(crate) fn lock_erasing(&self) -> Result<fs::File, StoreError> {
        let path = self.path.join(ERASING);
        let lock = fs::File::create(&path).map_err(StoreError::io("open", &path))?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        Ok(lock)
    }

    /// Removes every file and key that the catalogue does not name, and exports of stages that are gone.
    pub(crate) fn remove_unnamed(&self, erasure: &mut Erasure) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        let exports = self.inner().catalogue.read(|connection| dead_exports(connection, &snapshot))?;
        if exports.is_empty() && self.unnamed(&snapshot)?.is_empty() {
            return Ok(());
        }
        // While the catalogue is held nobody adds a stage.
        let exports = self.change(|change, snapshot| {
            let Unnamed { stages, slices, keys, .. } = self.unnamed(snapshot)?;
            erasure.stages.extend(stages.iter().filter_map(|name| parse_stage_name(name)));
            for (folder, names) in [(STAGES, stages), (RECORDS, slices)] {
                let folder = self.path.join(folder);
                names.iter().try_for_each(|name| remove(&*self.disk, &folder.join(name)))?;
                if !names.is_empty() {
                    sync_folder(&*self.disk, &folder)?;
                }
            }
            self.keys.remove_unfinished()?;
            keys.iter().try_for_each(|generation| self.keys.destroy_slice(*generation))?;
            if !keys.is_empty() {
                self.keys.sync()?;
            }
            change.run(|connection| dead_exports(connection, snapshot))
        })?;
        for (folder, listed) in exports {
            let folder = PathBuf::from(folder);
            if folder.join("adapter_config.json").is_file() {
                let emptied = files_under(&folder)
                    .and_then(|files| files.iter().try_for_each(|path| remove(&*self.disk, path)))
                    .and_then(|()| fs::remove_dir_all(&folder).map_err(StoreError::io("remove", &folder)));
                if emptied.is_err() {
                    // Tried again with every erasure; `check` tells of it.
                    continue;
                }
                erasure.exports.push(folder);
            }
            self.change(|change, _| {
                change.touch(EXPORTS, &listed, |connection| {
                    connection.execute("DELETE FROM exports WHERE folder = ?", [&listed]).map(drop)
                })
            })?;
        }
        Ok(())
    }

    /// What the catalogue does not name. Names that are not the store's are not among it: `check` reports them.
    fn unnamed(&self, snapshot: &Snapshot) -> Result<Unnamed, StoreError> {
        let named = self.slice_files(snapshot);
        let current: HashSet<Generation> =
            self.settings().shape.addresses().map(|address| snapshot.generation(address)).collect();
        let (keys, others) = self.keys.slices()?;
        let mut unnamed = Unnamed {
            stages: names(&self.path.join(STAGES))?,
            slices: names(&self.path.join(RECORDS))?,
            keys,
            unfinished_keys: others.iter().any(|name| name.starts_with(TEMPORARY)),
        };
        unnamed.stages.retain(|name| {
            name.starts_with(TEMPORARY) || parse_stage_name(name).is_some_and(|key| !snapshot.has_stage(&key))
        });
        unnamed.slices.retain(|name| !named.contains(name) && (is_slice_name(name) || name.starts_with(TEMPORARY)));
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

    /// Writes into the ledger what is erased, and forgets the openings of its requests.
    fn finish_erasure(&self, erasure: &mut Erasure) -> Result<(), StoreError> {
        if !self.snapshot()?.is_erasing() {
            return Ok(());
        }
        let effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finished = self.change(|change, snapshot| {
            let mut still = BTreeSet::new();
            for address in &snapshot.hit {
                let number = slice_number(self.settings().shape.slices, *address);
                // Those that were accepted since the slice was written anew, or that cannot be erased yet.
                let left: Vec<i64> = change.run(|connection| {
                    let statement = "SELECT DISTINCT dead FROM records WHERE slice = ? AND dead IS NOT NULL";
                    connection.prepare_cached(statement)?.query_map([number as i64], |row| row.get(0))?.collect()
                })?;
                if left.is_empty() {
                    let mut row = change.slice(number)?;
                    row.hit = 0;
                    change.set_slice(&row)?;
                }
                still.extend(left.into_iter().map(|epoch| epoch as u64));
            }
            let open: Vec<u64> = change.run(|connection| {
                let mut query =
                    connection.prepare_cached("SELECT epoch FROM requests WHERE erased IS NULL ORDER BY epoch")?;
                let epochs = query.query_map([], |row| row.get::<_, i64>(0).map(|epoch| epoch as u64))?;
                epochs.collect()
            })?;
            let done: Vec<u64> = open.into_iter().filter(|epoch| !still.contains(epoch)).collect();
            for epoch in &done {
                let since = effective.get(epoch).copied().unwrap_or_else(now);
                let index = change.append(now(), Event::Effective { epoch: *epoch, since })?;
                let erased = change.append(now(), Event::Erased { epoch: *epoch })?;
                change.touch(REQUESTS, &(*epoch as i64), |connection| {
                    let statement = "UPDATE requests SET opening = NULL, effective = ?2, erased = ?3 WHERE epoch = ?1";
                    let values = params![*epoch as i64, index as i64, erased as i64];
                    connection.prepare_cached(statement)?.execute(values).map(drop)
                })?;
            }
            let keys = snapshot.plan().stages().map(|stage| &stage.key);
            let (stages, plan) = (keys.len() as u64, digest_of_stages(keys));
            if still.is_empty() && change.get("plan")?.as_deref() != Some(plan.as_bytes()) {
                change.append(now(), Event::Planned { epoch: snapshot.epoch(), stages, plan })?;
                change.set("plan", plan.as_bytes())?;
            }
            Ok(done)
        })?;
        let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        effective.retain(|epoch, _| !finished.contains(epoch));
        erasure.stages.sort_unstable();
        Ok(())
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
    named: Vec<Digest>,
    effect: Effect,
    accepted: u64,
    effective: Option<u64>,
    erased: Option<u64>,
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

fn commitments(request: &DeletionRequest, opening: &Digest) -> Vec<Digest> {
    let records = request.records.iter().map(|record| Named::Record(record).commit(opening));
    let subjects = request.subjects.iter().map(|subject| Named::Subject(subject).commit(opening));
    records.chain(subjects).collect()
}

fn saw(stage: &s3t_core::PlannedStage, slices: &BTreeSet<SliceAddress>) -> bool {
    stage.slices.iter().any(|slice| slices.contains(&SliceAddress { shard: stage.shard, slice: *slice }))
}

/// The exports that hold a stage which is gone.
pub(crate) fn dead_exports(
    connection: &rusqlite::Connection,
    snapshot: &Snapshot,
) -> rusqlite::Result<Vec<(String, String)>> {
    let mut query = connection.prepare_cached("SELECT folder, stages FROM exports")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut dead = Vec::new();
    for row in rows {
        let (folder, stages) = row?;
        let stages: Vec<StageKey> = serde_json::from_str(&stages).unwrap_or_default();
        if stages.iter().any(|key| !snapshot.has_stage(key)) {
            dead.push((folder.clone(), folder));
        }
    }
    Ok(dead)
}

/// Whether a file's name is that of a slice's records.
pub(crate) fn is_slice_name(name: &str) -> bool {
    let parts = name.strip_suffix(".records").and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(address, generation)| {
        let numbers = address.split_once('-').map(|(shard, slice)| [shard, slice, generation]);
        numbers.is_some_and(|numbers| numbers.iter().all(|number| number.parse::<u64>().is_ok()))
    })
}
