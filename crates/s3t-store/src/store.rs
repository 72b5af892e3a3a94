//! Making, opening and reading a store, and adding stages.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3t_core::digest::DigestBuilder;
use s3t_core::record::slice_digest;
use s3t_core::tensors::StageTensors;
use s3t_core::{Digest, Lineage, Record, RecordId, SliceAddress, StageKey, StoreSecret, SubjectId};
use s3t_ledger::{Event, SigningKey, Timestamp, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::catalogue::{
    Catalogue, Change, FORMAT, ShortId, SliceRow, data_version, now, of_one_moment, record_id, slice_address,
    subject_id,
};
use crate::disk::{Disk, enter, write_atomically, write_new_name};
use crate::folder::Folder;
use crate::keys::{Generation, Keys};
use crate::lock::{self, Lock};
use crate::seal::Seal;
use crate::{Place, Snapshot, StoreError, StoreSettings, making, stage_file};

pub(crate) const CATALOGUE: &str = "catalogue.db";
pub(crate) const RECORDS: &str = "records";
pub(crate) const STAGES: &str = "stages";
pub(crate) const LEDGER: &str = "ledger";
pub(crate) const BUILDING: &str = "building.lock";
pub(crate) const ERASING: &str = "erasing.lock";
const RECORDS_ENDING: &str = ".records";
const STAGE_ENDING: &str = ".stage";

/// The records of a slice with their digests, by ascending digest.
pub type SliceRecords = Vec<(Digest, Record)>;

/// An open store. Any number of processes may have it open, and any number of threads may use it: changes follow each other, and
/// reading never waits for them.
#[derive(Debug)]
pub struct Store {
    place: Place,
    pub(crate) path: PathBuf,
    pub(crate) folder: Folder,
    pub(crate) records: Folder,
    pub(crate) stages: Folder,
    pub(crate) ledger: Folder,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Keys,
    pub(crate) secret: StoreSecret,
    pub(crate) signing: SigningKey,
    /// Makes the openings of requests.
    pub(crate) openings: StoreSecret,
    settings: StoreSettings,
    encrypt: bool,
    inner: Mutex<Inner>,
    /// When each deletion that this process accepted took effect, until that is in the ledger.
    pub(crate) effective: Mutex<BTreeMap<u64, Timestamp>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalogue: Catalogue,
    /// The catalogue's version and what was in it.
    seen: Option<(i64, Arc<Snapshot>)>,
    /// Whether this process has changed it since.
    changed: bool,
}

/// The right to build stages in a store, held by one process at a time.
#[derive(Debug)]
pub struct BuildLock {
    /// Held, not read: the lock lasts as long as the file is open.
    _lock: Lock,
}

/// The right to change and remove files other than stages, held by one process at a time. Whatever removes files that the
/// catalogue does not name takes it as an argument: what is unnamed while somebody else holds it may be about to be named.
#[derive(Debug)]
pub(crate) struct ErasingLock {
    _lock: Lock,
}

impl Store {
    /// Opens a store and finishes what a crash left unfinished, unless another process has its files in hand: then that one, or
    /// whoever comes next, finishes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::OtherFormat`], [`StoreError::Key`], [`StoreError::RolledBack`],
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn open(place: &Place) -> Result<Self, StoreError> {
        let store = Self::open_to_accept(place)?;
        match store.finish(std::time::Duration::ZERO) {
            // What cannot be read cannot be written anew; the deletion stays in effect, and `check` tells of it. What others have
            // in hand is finished when they are done.
            Ok(())
            | Err(
                StoreError::Damaged { .. }
                | StoreError::Key { .. }
                | StoreError::Busy { .. }
                | StoreError::Reading { .. }
                | StoreError::Erasing { .. },
            ) => {}
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// Opens a store to change it, and leaves unfinished erasures as they are: for accepting a deletion before anything else.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_to_accept(place: &Place) -> Result<Self, StoreError> {
        let store = Self::open_as(place, false)?;
        making::clear_left_overs(place, &place.resolve()?)?;
        Ok(store)
    }

    /// Finishes erasures and publishes the ledger, waiting for so long at most.
    fn finish(&self, patience: std::time::Duration) -> Result<(), StoreError> {
        let lock = self.lock_erasing_for(patience)?;
        let erased = self.erase_with(&lock, &mut crate::Erasure::default());
        let published = self.publish_with(&lock);
        erased.and(published)
    }

    /// Opens a store to read it only: for serving beside a process that changes it. Nothing is written or finished.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(place: &Place) -> Result<Self, StoreError> {
        Self::open_as(place, true)
    }

    pub(crate) fn open_as(place: &Place, read_only: bool) -> Result<Self, StoreError> {
        if !place.path.exists() && !place.path.is_symlink() {
            return Err(StoreError::NotAStore(place.path.clone()));
        }
        let at = place.resolve()?;
        let path = at.store.path();
        let folder = at.store.open()?;
        if folder.entry(CATALOGUE).map_err(StoreError::io("look at", &path))?.is_none() {
            if let Some(found) = format_before_catalogues(&at.store.real()) {
                return Err(StoreError::OtherFormat { path, found, known: FORMAT });
            }
            return Err(StoreError::NotAStore(path));
        }
        let keys = Keys::open(&at.keys, Arc::clone(&place.disk))?;
        let secret = keys.secret()?;
        let file = at.store.file(CATALOGUE);
        let open = || Catalogue::open(&file, Arc::clone(&place.disk), read_only, place.patience);
        let mut catalogue = open()?;
        if catalogue.format() < FORMAT && !read_only {
            // Once, and not beside another process that does the same.
            let _lock = take_erasing(&folder, place.patience)?;
            catalogue = open()?;
            catalogue.upgrade(&secret)?;
        }
        let damaged = |problem: &str| StoreError::damaged(&file.shown, problem);
        if catalogue.is_removed()? {
            return Err(StoreError::Removed(path));
        }
        let settings = catalogue.get("settings")?.ok_or_else(|| damaged("it has no settings"))?;
        let settings: StoreSettings =
            serde_json::from_slice(&settings).map_err(|error| damaged(&format!("its settings: {error}")))?;
        let encrypt =
            catalogue.get("encrypt")?.ok_or_else(|| damaged("it does not say whether files are sealed"))? == [1];
        let signing_key = keys.signing()?;
        let signing = SigningKey::new(&origin(&secret), &signing_key)?;
        if catalogue.get("store")?.as_deref() != Some(store_id(&secret).as_bytes()) {
            return Err(StoreError::OtherKeys { keys: keys.path().into(), store: path });
        }
        let opening = DigestBuilder::keyed(&StoreSecret::from_bytes(*signing_key), "openings").finish();
        let store = Self {
            place: place.clone(),
            records: enter(&folder, RECORDS)?,
            stages: enter(&folder, STAGES)?,
            ledger: enter(&folder, LEDGER)?,
            folder,
            path,
            disk: Arc::clone(&place.disk),
            keys,
            secret,
            signing,
            openings: StoreSecret::from_bytes(*opening.as_bytes()),
            settings,
            encrypt,
            inner: Mutex::new(Inner { catalogue, seen: None, changed: false }),
            effective: Mutex::default(),
        };
        store.check_newest()?;
        let (stored, found) = store.inner().catalogue.sums(&store.secret, false)?;
        if stored != found {
            return Err(damaged("its rows are not those that were written"));
        }
        let (epoch, newest) = store.inner().catalogue.epochs()?;
        if epoch != newest {
            return Err(damaged("its epoch is not that of its newest request"));
        }
        Ok(store)
    }

    /// The same store as it is at this moment: whatever others change, everything that is read is of now. While this is kept, no
    /// erasure can be finished.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn at_one_moment(&self) -> Result<Self, StoreError> {
        let store = Self::open_as(&self.place, true)?;
        store.inner().catalogue.stay()?;
        Ok(store)
    }

    /// The store must be as new as the newest checkpoint that its keys know.
    fn check_newest(&self) -> Result<(), StoreError> {
        let Some(text) = self.keys.checkpoint()? else { return Ok(()) };
        self.check_continues(&text).map(drop)
    }

    /// The right to build stages. Deletions are accepted all the same.
    ///
    /// # Errors
    ///
    /// [`StoreError::Building`] while another process has it.
    pub fn lock_building(&self) -> Result<BuildLock, StoreError> {
        let lock = lock::take(&self.folder, BUILDING, std::time::Duration::ZERO)?;
        let lock = lock.map_err(|holder| StoreError::Building { store: self.path.clone(), holder })?;
        Ok(BuildLock { _lock: lock })
    }

    /// The right to change and remove files; waits for another process that has it, as long as the store's patience lasts.
    pub(crate) fn lock_erasing(&self) -> Result<ErasingLock, StoreError> {
        self.lock_erasing_for(self.place.patience)
    }

    pub(crate) fn lock_erasing_for(&self, patience: std::time::Duration) -> Result<ErasingLock, StoreError> {
        take_erasing(&self.folder, patience)
    }

    /// How long to wait for another process that has the store in hand.
    pub(crate) fn patience(&self) -> std::time::Duration {
        self.place.patience
    }

    /// Looks at the store while nobody else can change its catalogue. Where it cannot be written, nobody can.
    pub(crate) fn while_nobody_writes<T>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let file = self.place.resolve()?.store.file(CATALOGUE);
        let catalogue = match Catalogue::open(&file, Arc::clone(&self.disk), false, self.place.patience) {
            Err(StoreError::Io { .. }) => return look(&*self.snapshot()?),
            opened => opened?,
        };
        catalogue.hold(|connection| {
            let snapshot = self.load_from(connection, None).map_err(|error| catalogue.failed(error))??;
            look(&snapshot)
        })
    }

    /// The process that has the store's files in hand; `None` if there is no such process.
    pub fn holder(&self) -> Option<lock::Holder> {
        lock::holder(&self.folder, ERASING)
    }

    /// A public name of this store, derived from its secret: it tells stores apart and tells nothing else.
    pub fn id(&self) -> Digest {
        store_id(&self.secret)
    }

    /// The secret that keys the partition and the digests.
    pub fn secret(&self) -> &StoreSecret {
        &self.secret
    }

    /// The public key of the ledger.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the store is for.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Whether records and stages are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypt
    }

    /// What the store holds now: every deletion that was acknowledged before this call, by whatever process, is in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], [`StoreError::Damaged`] or [`StoreError::Database`].
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let mut inner = self.inner();
        let version = inner.catalogue.version()?;
        let old = inner.seen.clone();
        match old {
            Some((seen, snapshot)) if seen == version && !inner.changed => Ok(snapshot),
            old => {
                let snapshot = Arc::new(self.load(&inner.catalogue, old.map(|(_, snapshot)| snapshot).as_deref())?);
                inner.seen = Some((version, Arc::clone(&snapshot)));
                inner.changed = false;
                Ok(snapshot)
            }
        }
    }

    /// The address of a record; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn address(&self, record: &RecordId) -> Result<Option<SliceAddress>, StoreError> {
        let id = record_id(&self.secret, record);
        let found: Option<i64> = self.inner().catalogue.read(|connection| {
            use rusqlite::OptionalExtension as _;
            let mut query = connection.prepare_cached("SELECT slice FROM records WHERE id = ? AND dead IS NULL")?;
            query.query_row([id.as_slice()], |row| row.get(0)).optional()
        })?;
        Ok(found.map(|number| slice_address(self.settings.shape.slices, number as u64)))
    }

    /// The number of records of a subject.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn records_of(&self, subject: &SubjectId) -> Result<u64, StoreError> {
        let name = subject_id(&self.secret, subject);
        let found: i64 = self.inner().catalogue.read(|connection| {
            let statement = "SELECT count(*) FROM records WHERE dead IS NULL
                             AND subject = (SELECT number FROM subjects WHERE name = ?)";
            connection.prepare_cached(statement)?.query_row([name.as_slice()], |row| row.get(0))
        })?;
        Ok(found as u64)
    }

    /// The number of subjects.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn subjects(&self) -> Result<u64, StoreError> {
        let count = |connection: &rusqlite::Connection| {
            connection.query_row("SELECT count(*) FROM subjects", [], |row| row.get::<_, i64>(0))
        };
        Ok(self.inner().catalogue.read(count)? as u64)
    }

    /// The records of a slice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::SliceMismatch`] if they are not those the catalogue names,
    /// [`StoreError::BeingErased`] while some of them are going.
    pub fn records(&self, address: SliceAddress) -> Result<SliceRecords, StoreError> {
        Ok(self.entries_of(address)?.into_iter().map(|entry| (entry.digest, entry.record)).collect())
    }

    /// The records of a slice with what is written beside them.
    pub(crate) fn entries_of(&self, address: SliceAddress) -> Result<Vec<SliceEntry>, StoreError> {
        let snapshot = self.snapshot()?;
        let Some(expected) = snapshot.plan().digests()[address.shard.index()][address.slice.index()] else {
            return Ok(Vec::new());
        };
        if snapshot.is_hit(address) {
            return Err(StoreError::BeingErased(address));
        }
        let entries = match self.read_slice(snapshot.generation(address)) {
            Ok(entries) => entries,
            // Another process may have written the slice anew in the meantime.
            Err(error) => {
                let now = self.snapshot()?;
                if now.generation(address) == snapshot.generation(address) && !now.is_hit(address) {
                    return Err(error);
                }
                return Err(StoreError::BeingErased(address));
            }
        };
        if slice_digest(&self.secret, entries.iter().map(|entry| entry.digest)) != expected {
            return Err(StoreError::SliceMismatch { address });
        }
        Ok(entries)
    }

    /// Reads a stage and checks that its lineage is the one that makes its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingStage`] or [`StoreError::Damaged`].
    pub fn stage(&self, key: &StageKey) -> Result<(Lineage, StageTensors), StoreError> {
        let snapshot = self.snapshot()?;
        if !snapshot.has_stage(key) {
            return Err(StoreError::MissingStage(*key));
        }
        match self.read_stage(&snapshot, key) {
            // Another process may have erased it in the meantime.
            Err(error) => {
                if self.snapshot()?.has_stage(key) {
                    Err(error)
                } else {
                    Err(StoreError::MissingStage(*key))
                }
            }
            read => read,
        }
    }

    /// Adds a stage that was built; it can serve from then on. May be called from several threads.
    ///
    /// `false` if a deletion has hit it in the meantime: it is not kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn add_stage(&self, lineage: &Lineage, tensors: &StageTensors) -> Result<bool, StoreError> {
        let key = lineage.key();
        let path = self.stage_path(&key);
        let snapshot = self.snapshot()?;
        let Some(slices) = snapshot.generations_of(&key).filter(|_| snapshot.is_live(&key)) else { return Ok(false) };
        let bytes = stage_file::to_bytes(lineage, tensors).map_err(|problem| StoreError::damaged(&path, problem))?;
        let sealed = self.stage_seal(&slices)?.close(&key.to_string(), &bytes)?;
        // The file is written while the catalogue is held: whoever erases holds it too, so that a stage that is not in the
        // catalogue is one that nobody will add.
        self.change(|change, snapshot| {
            if !snapshot.is_live(&key) || snapshot.generations_of(&key).as_ref() != Some(&slices) {
                return Ok(false);
            }
            write_atomically(&*self.disk, &self.stages, &stage_name(&key), &sealed)?;
            if change.add_stage(&key)? {
                change.append(now(), Event::Built { stage: key })?;
            }
            Ok(true)
        })
    }

    /// Adds an event to the ledger.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Database`].
    pub fn note(&self, event: Event) -> Result<(), StoreError> {
        self.change(|change, _| change.append(now(), event).map(drop))?;
        self.publish_unless_held()
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        // What it guards is one connection, whose changes are made whole or not at all, and a cache that is read again.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change. What it sees of the store is as new as the change itself.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Change<'_>, &Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.change_to(|open, snapshot| change(open, snapshot).map(|result| (result, None)))
    }

    /// Makes a change that also says what the store holds after it, so that nobody need read it again.
    pub(crate) fn change_to<T>(
        &self,
        change: impl FnOnce(&mut Change<'_>, &Snapshot) -> Result<(T, Option<Snapshot>), StoreError>,
    ) -> Result<T, StoreError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let (seen, was_changed) = (inner.seen.clone(), inner.changed);
        inner.changed = true;
        let (result, after, version) = inner.catalogue.change(&self.secret, &self.signing, |open| {
            // Inside the transaction: no other process can commit until this one has.
            let version = open.run(data_version)?;
            let snapshot = match seen {
                Some((seen, snapshot)) if seen == version && !was_changed => snapshot,
                seen => {
                    let old = seen.map(|(_, snapshot)| snapshot);
                    Arc::new(open.run(|connection| self.load_from(connection, old.as_deref()))??)
                }
            };
            change(open, &snapshot).map(|(result, after)| (result, after, version))
        })?;
        if let Some(after) = after {
            inner.seen = Some((version, Arc::new(after)));
            inner.changed = false;
        }
        Ok(result)
    }

    fn load(&self, catalogue: &Catalogue, old: Option<&Snapshot>) -> Result<Snapshot, StoreError> {
        catalogue.read(|connection| {
            // So that all queries see one moment.
            of_one_moment(connection, |open| self.load_from(open, old))
        })?
    }

    fn load_from(
        &self,
        connection: &rusqlite::Connection,
        old: Option<&Snapshot>,
    ) -> rusqlite::Result<Result<Snapshot, StoreError>> {
        let shape = self.settings.shape;
        if crate::catalogue::is_removed(connection)? {
            return Ok(Err(StoreError::Removed(self.path.clone())));
        }
        let epoch = connection
            .prepare_cached("SELECT value FROM store WHERE key = 'epoch'")?
            .query_row([], |row| row.get::<_, Vec<u8>>(0))?;
        let rows: Vec<SliceRow> = {
            let statement = "SELECT number, records, digest, generation, hit FROM slices ORDER BY number";
            connection.prepare_cached(statement)?.query_map([], SliceRow::read)?.collect::<rusqlite::Result<_>>()?
        };
        let stages = connection
            .prepare_cached("SELECT key FROM stages")?
            .query_map([], |row| crate::catalogue::to_digest(&row.get::<_, Vec<u8>>(0)?).map(StageKey))?
            .collect::<rusqlite::Result<_>>()?;
        let unerased = connection
            .prepare_cached("SELECT epoch FROM requests WHERE erased IS NULL ORDER BY epoch")?
            .query_map([], |row| row.get::<_, i64>(0).map(|epoch| epoch as u64))?
            .collect::<rusqlite::Result<_>>()?;
        if rows.len() as u64 != u64::from(shape.shards) * u64::from(shape.slices) {
            return Ok(Err(StoreError::damaged(&self.path.join(CATALOGUE), "slices are missing")));
        }
        let by_shard = |value: fn(&SliceRow) -> u64| -> Vec<Vec<u64>> {
            rows.chunks(shape.slices as usize).map(|shard| shard.iter().map(value).collect()).collect()
        };
        let digests: Vec<Vec<Option<Digest>>> =
            rows.chunks(shape.slices as usize).map(|shard| shard.iter().map(|row| row.digest).collect()).collect();
        let plan = match old {
            Some(old) if *old.plan.digests() == digests => Arc::clone(&old.plan),
            _ => match self.settings.plan(digests) {
                Ok(plan) => Arc::new(plan),
                Err(error) => return Ok(Err(error)),
            },
        };
        let hit = rows.iter().filter(|row| row.hit > 0);
        Ok(Ok(Snapshot {
            epoch: epoch.try_into().map_or(0, u64::from_le_bytes),
            plan,
            sizes: by_shard(|row| row.records),
            generations: by_shard(|row| row.generation),
            hit: hit.map(|row| slice_address(shape.slices, row.number)).collect(),
            unerased,
            built: stages,
        }))
    }

    pub(crate) fn read_slice(&self, generation: Generation) -> Result<Vec<SliceEntry>, StoreError> {
        let path = self.slice_path(generation);
        let bytes = match self.records.read(slice_name(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::damaged(&path, "it is not there"));
            }
            read => read.map_err(StoreError::not_opened("read", &path, &path))?,
        };
        let content = self.slice_seal(generation)?.open(&slice_name(generation), &bytes);
        let content = content.map_err(|problem| StoreError::damaged(&path, problem))?;
        postcard::from_bytes(&content).map_err(|error| StoreError::damaged(&path, error.to_string()))
    }

    /// Writes a slice. The caller syncs the folder.
    pub(crate) fn write_slice(&self, generation: Generation, records: &[SliceEntry]) -> Result<(), StoreError> {
        write_slice(&*self.disk, &self.records, &self.slice_seal(generation)?, generation, records)
    }

    fn read_stage(&self, snapshot: &Snapshot, key: &StageKey) -> Result<(Lineage, StageTensors), StoreError> {
        let path = self.stage_path(key);
        let slices = snapshot.generations_of(key).ok_or(StoreError::MissingStage(*key))?;
        let bytes = match self.stages.read(stage_name(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::MissingStage(*key)),
            read => read.map_err(StoreError::not_opened("read", &path, &path))?,
        };
        let content = self.stage_seal(&slices)?.open(&key.to_string(), &bytes);
        let read = content.and_then(|content| stage_file::from_bytes(&content));
        let (lineage, tensors) = read.map_err(|problem| StoreError::damaged(&path, problem))?;
        if lineage.key() != *key {
            return Err(StoreError::damaged(&path, "its lineage makes another key"));
        }
        Ok((lineage, tensors))
    }

    fn slice_seal(&self, generation: Generation) -> Result<Seal, StoreError> {
        if self.encrypt { self.keys.slice(generation) } else { Ok(Seal::Plain(self.secret.clone())) }
    }

    fn stage_seal(&self, slices: &[Generation]) -> Result<Seal, StoreError> {
        if self.encrypt { self.keys.stage(slices) } else { Ok(Seal::Plain(self.secret.clone())) }
    }

    pub(crate) fn slice_path(&self, generation: Generation) -> PathBuf {
        self.records.path_of(slice_name(generation))
    }

    pub(crate) fn stage_path(&self, key: &StageKey) -> PathBuf {
        self.stages.path_of(stage_name(key))
    }
}

fn take_erasing(folder: &Folder, patience: std::time::Duration) -> Result<ErasingLock, StoreError> {
    let lock = lock::take(folder, ERASING, patience)?;
    let lock = lock.map_err(|holder| StoreError::Erasing { store: folder.path().into(), holder })?;
    Ok(ErasingLock { _lock: lock })
}

fn stage_name(key: &StageKey) -> String {
    format!("{key}{STAGE_ENDING}")
}

/// The key of the stage in a file of this name; `None` for other files.
pub(crate) fn parse_stage_name(name: &str) -> Option<StageKey> {
    let key = name.strip_suffix(STAGE_ENDING)?.parse().ok()?;
    (stage_name(&key) == name).then_some(key)
}

pub(crate) fn slice_name((address, generation): Generation) -> String {
    format!("{}-{}.{generation}{RECORDS_ENDING}", address.shard, address.slice)
}

/// The slice whose records are in a file of this name; `None` for other files.
pub(crate) fn parse_slice_file_name(name: &str) -> Option<Generation> {
    let (address, generation) = name.strip_suffix(RECORDS_ENDING)?.split_once('.')?;
    let (shard, slice) = address.split_once('-')?;
    let parsed = (SliceAddress::new(shard.parse().ok()?, slice.parse().ok()?), generation.parse().ok()?);
    (slice_name(parsed) == name).then_some(parsed)
}

pub(crate) fn write_slice(
    disk: &dyn Disk,
    folder: &Folder,
    seal: &Seal,
    generation: Generation,
    records: &[SliceEntry],
) -> Result<(), StoreError> {
    let name = slice_name(generation);
    let damaged = |error: postcard::Error| StoreError::damaged(&folder.path_of(&name), error.to_string());
    let content = postcard::to_stdvec(records).map_err(damaged)?;
    write_new_name(disk, folder, &name, &seal.close(&name, &content)?)
}

/// A record as its slice's file has it: what follows from it is written beside it, under the same seal, so that it need not be
/// computed again for every other record when one is erased.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SliceEntry {
    #[serde(with = "bytes_of_digest")]
    pub(crate) digest: Digest,
    pub(crate) id: ShortId,
    pub(crate) record: Record,
}

/// A digest as 32 bytes; as text, which it is elsewhere, it would be twice as long.
mod bytes_of_digest {
    use s3t_core::Digest;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        digest.as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(Digest::from_bytes)
    }
}

impl SliceEntry {
    pub(crate) fn new(record: &Record, secret: &StoreSecret) -> Self {
        Self { digest: record.digest(secret), id: record_id(secret, &record.id), record: record.clone() }
    }

    /// Whether what is written beside the record follows from it.
    pub(crate) fn is_sound(&self, secret: &StoreSecret) -> bool {
        self.digest == self.record.digest(secret) && self.id == record_id(secret, &self.record.id)
    }
}

pub(crate) fn store_id(secret: &StoreSecret) -> Digest {
    DigestBuilder::keyed(secret, "store id").finish()
}

/// The ledger's name in its checkpoints.
pub(crate) fn origin(secret: &StoreSecret) -> String {
    format!("s3t/{}", store_id(secret).short())
}

/// The format of a store from before there were catalogues; `None` if there is none.
pub(crate) fn format_before_catalogues(path: &Path) -> Option<u32> {
    let text = Folder::open(path).and_then(|folder| folder.read_text("manifest.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["manifest"]["format"].as_u64().and_then(|format| u32::try_from(format).ok())
}
