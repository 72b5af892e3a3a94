//! Making, opening and reading a store, and adding stages.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3t_core::digest::DigestBuilder;
use s3t_core::placement::place_records;
use s3t_core::record::slice_digest;
use s3t_core::{Digest, Lineage, Partitioner, Record, RecordId, SliceAddress, StageKey, StoreSecret, SubjectId};
use s3t_ledger::{Event, SigningKey, Timestamp, VerifyingKey};
use s3t_peft::NamedTensors;
use serde::{Deserialize, Serialize};

use crate::catalogue::{
    Catalogue, Change, EXPORTS, RecordRow, ShortId, SliceRow, data_version, now, record_id, slice_address,
    slice_number, subject_id,
};
use crate::disk::{
    Disk, SystemDisk, TEMPORARY, make_private_folder, parent, remove, sync_folder, write_atomically, write_new_name,
};
use crate::keys::{Generation, Keys};
use crate::seal::Seal;
use crate::snapshot::digest_of_stages;
use crate::{Snapshot, StoreError, StoreSettings, stage_file};

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

/// Where a store is and how it is to be opened.
#[derive(Debug, Clone)]
pub struct Place {
    /// The store's folder.
    pub path: PathBuf,
    /// The folder of its keys; `None` for `PATH.keys` beside it.
    pub keys: Option<PathBuf>,
    /// What its files are written with.
    pub disk: Arc<dyn Disk>,
}

impl Place {
    /// A store with its keys beside it, on the real disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keys: None, disk: Arc::new(SystemDisk) }
    }

    /// The folder of the keys.
    pub fn keys_folder(&self) -> PathBuf {
        self.keys.clone().unwrap_or_else(|| Keys::beside(&self.path))
    }

    fn keys(&self) -> Keys {
        Keys::in_folder(&self.keys_folder(), Arc::clone(&self.disk))
    }

    /// The keys of a store that is being made: beside their final place.
    fn unfinished_keys(&self) -> Keys {
        Keys::in_folder(&unfinished(&self.keys_folder()), Arc::clone(&self.disk))
    }

    /// Whether there is a store.
    pub fn is_store(&self) -> bool {
        self.path.join(CATALOGUE).is_file()
    }
}

/// What a new store is made from.
pub struct NewStore<'a> {
    /// What the store is for.
    pub settings: StoreSettings,
    /// Places the records.
    pub partitioner: &'a dyn Partitioner,
    /// The records.
    pub records: &'a [Record],
    /// The group of near-duplicates that each record is in; empty if none are known. A deletion takes whole groups.
    pub copies: &'a [Option<u32>],
    /// The secret, for example a [`random_secret`](crate::random_secret).
    pub secret: StoreSecret,
    /// Whether records and stages are encrypted. Without it an erasure is as good as the disk's.
    pub encrypt: bool,
}

/// An open store. Any number of processes may have it open, and any number of threads may use it: changes follow each other, and
/// reading never waits for them.
#[derive(Debug)]
pub struct Store {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Keys,
    pub(crate) secret: StoreSecret,
    pub(crate) signing: SigningKey,
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
    _file: File,
}

impl Store {
    /// Makes a store: places the records and writes them. On any error nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] or [`StoreError::KeysWithoutStore`] if there is something at the path; [`StoreError::Core`] for
    /// duplicate ids or impossible settings; [`StoreError::Io`].
    pub fn create(place: &Place, new: &NewStore<'_>) -> Result<Self, StoreError> {
        let (path, keys) = (&place.path, place.keys());
        let filling = place.unfinished_keys();
        if path.exists() {
            return Err(StoreError::Exists(path.clone()));
        }
        for folder in [parent(path), parent(keys.folder())] {
            fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        }
        let unfinished = unfinished(path);
        // What a crash left of making this store holds records.
        if unfinished.exists() {
            let ours = fs::read(unfinished.join(LEDGER).join("key.pub"));
            let known = keys.folder().exists() && ours.is_ok_and(|key| signs(&keys, &key));
            remove_folder(&*place.disk, &unfinished)?;
            if known {
                keys.destroy_all()?;
            }
        }
        filling.destroy_all()?;
        if keys.folder().exists() {
            return Err(StoreError::KeysWithoutStore { keys: keys.folder().into(), store: path.clone() });
        }
        let made = (|| {
            filling.create(&new.secret)?;
            make_private_folder(&unfinished)?;
            fill(place, &unfinished, &filling, new)?;
            place.disk.rename(filling.folder(), keys.folder()).map_err(StoreError::io("make", keys.folder()))?;
            sync_folder(&*place.disk, parent(keys.folder()))?;
            place.disk.rename(&unfinished, path).map_err(StoreError::io("make", path))?;
            sync_folder(&*place.disk, parent(path))
        })();
        if let Err(error) = made {
            // The folder goes last: as long as it is there, its keys are known to be those of an unfinished store. What fails now
            // is done when the store is made or opened.
            let clean_up = || {
                filling.destroy_all()?;
                if !path.exists() {
                    keys.destroy_all()?;
                }
                remove_folder(&*place.disk, &unfinished)
            };
            let _: Result<(), StoreError> = clean_up();
            return Err(error);
        }
        Self::open(place)
    }

    /// Removes a store and destroys its keys for good, for example to make it anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`] for a folder that is none, [`StoreError::Building`] while another process builds stages in it;
    /// then nothing is removed.
    pub fn remove(place: &Place) -> Result<(), StoreError> {
        if !place.is_store() {
            // Of a format from before catalogues: it had no keys outside.
            if format_before_catalogues(&place.path).is_some() {
                return remove_folder(&*place.disk, &place.path);
            }
            return Err(StoreError::NotAStore(place.path.clone()));
        }
        let _lock = lock(&place.path.join(BUILDING))?.ok_or_else(|| StoreError::Building(place.path.clone()))?;
        place.keys().destroy_all()?;
        remove_folder(&*place.disk, &place.path)
    }

    /// Opens a store and finishes what a crash left unfinished.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::OtherFormat`], [`StoreError::Key`], [`StoreError::RolledBack`],
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn open(place: &Place) -> Result<Self, StoreError> {
        let store = Self::open_as(place, false)?;
        // What a crash left of making this store holds records too.
        let leftover = unfinished(&place.path);
        if leftover.exists() {
            remove_folder(&*place.disk, &leftover)?;
        }
        place.unfinished_keys().destroy_all()?;
        match store.erase() {
            // What cannot be read cannot be written anew; the deletion stays in effect, and `check` tells of it.
            // A log that others are reading is truncated next time.
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Key { .. } | StoreError::Busy(_)) => {}
            Err(error) => return Err(error),
        }
        store.publish()?;
        Ok(store)
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
        let path = &place.path;
        if !place.is_store() {
            if let Some(found) = format_before_catalogues(path) {
                return Err(StoreError::OtherFormat { path: path.clone(), found, known: crate::catalogue::FORMAT });
            }
            return Err(StoreError::NotAStore(path.clone()));
        }
        let keys = place.keys();
        let secret = keys.secret()?;
        let file = path.join(CATALOGUE);
        let catalogue = Catalogue::open(&file, Arc::clone(&place.disk), read_only)?;
        let damaged = |problem: &str| StoreError::damaged(&file, problem);
        let settings = catalogue.get("settings")?.ok_or_else(|| damaged("it has no settings"))?;
        let settings: StoreSettings =
            serde_json::from_slice(&settings).map_err(|error| damaged(&format!("its settings: {error}")))?;
        let encrypt =
            catalogue.get("encrypt")?.ok_or_else(|| damaged("it does not say whether files are sealed"))? == [1];
        let signing = SigningKey::new(&origin(&secret), &*keys.signing()?)?;
        if catalogue.get("store")?.as_deref() != Some(store_id(&secret).as_bytes()) {
            return Err(StoreError::OtherKeys { keys: keys.folder().into(), store: path.clone() });
        }
        let store = Self {
            path: path.clone(),
            disk: Arc::clone(&place.disk),
            keys,
            secret,
            signing,
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
        let file = lock(&self.path.join(BUILDING))?.ok_or_else(|| StoreError::Building(self.path.clone()))?;
        Ok(BuildLock { _file: file })
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
    pub fn stage(&self, key: &StageKey) -> Result<(Lineage, NamedTensors), StoreError> {
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
    pub fn add_stage(&self, lineage: &Lineage, tensors: &NamedTensors) -> Result<bool, StoreError> {
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
            write_atomically(&*self.disk, &path, &sealed)?;
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
        self.publish()
    }

    /// Remembers that stages were written to a folder outside the store: an erasure of one of them removes the folder.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn note_export(&self, folder: &Path, stages: &[StageKey]) -> Result<(), StoreError> {
        let stages = serde_json::to_string(stages).unwrap_or_default();
        let folder = folder.display().to_string();
        self.change(|change, _| {
            change.touch(EXPORTS, &folder, |connection| {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO exports (folder, stages) VALUES (?, ?)")?
                    .execute([&folder, &stages])
                    .map(drop)
            })
        })
    }

    /// Renames what was written outside the store to where it can be found, if all of these stages may serve, and while no
    /// deletion can be accepted. `false` if one has hit them: then nothing is renamed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] or [`StoreError::Database`].
    pub fn rename_if_live(&self, stages: &[StageKey], from: &Path, to: &Path) -> Result<bool, StoreError> {
        self.change(|_, snapshot| {
            if !stages.iter().all(|key| snapshot.has_stage(key)) {
                return Ok(false);
            }
            self.disk.rename(from, to).map_err(StoreError::io("make", to))?;
            Ok(true)
        })
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
            // One transaction, so that all queries see one moment.
            let open = connection.unchecked_transaction()?;
            self.load_from(&open, old)
        })?
    }

    fn load_from(
        &self,
        connection: &rusqlite::Connection,
        old: Option<&Snapshot>,
    ) -> rusqlite::Result<Result<Snapshot, StoreError>> {
        let shape = self.settings.shape;
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
            built: stages,
        }))
    }

    pub(crate) fn read_slice(&self, generation: Generation) -> Result<Vec<SliceEntry>, StoreError> {
        let path = self.slice_path(generation);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::damaged(&path, "it is not there"));
            }
            read => read.map_err(StoreError::io("read", &path))?,
        };
        let content = self.slice_seal(generation)?.open(&slice_name(generation), &bytes);
        let content = content.map_err(|problem| StoreError::damaged(&path, problem))?;
        postcard::from_bytes(&content).map_err(|error| StoreError::damaged(&path, error.to_string()))
    }

    /// Writes a slice. The caller syncs the folder.
    pub(crate) fn write_slice(&self, generation: Generation, records: &[SliceEntry]) -> Result<(), StoreError> {
        write_slice(&*self.disk, &self.path, &self.slice_seal(generation)?, generation, records)
    }

    fn read_stage(&self, snapshot: &Snapshot, key: &StageKey) -> Result<(Lineage, NamedTensors), StoreError> {
        let path = self.stage_path(key);
        let slices = snapshot.generations_of(key).ok_or(StoreError::MissingStage(*key))?;
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::MissingStage(*key)),
            read => read.map_err(StoreError::io("read", &path))?,
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
        slice_path(&self.path, generation)
    }

    pub(crate) fn stage_path(&self, key: &StageKey) -> PathBuf {
        self.path.join(STAGES).join(format!("{key}{STAGE_ENDING}"))
    }
}

/// The key of the stage in a file of this name; `None` for other files.
pub(crate) fn parse_stage_name(name: &str) -> Option<StageKey> {
    name.strip_suffix(STAGE_ENDING)?.parse().ok()
}

pub(crate) fn slice_name((address, generation): Generation) -> String {
    format!("{}-{}.{generation}{RECORDS_ENDING}", address.shard, address.slice)
}

fn slice_path(store: &Path, generation: Generation) -> PathBuf {
    store.join(RECORDS).join(slice_name(generation))
}

fn write_slice(
    disk: &dyn Disk,
    store: &Path,
    seal: &Seal,
    generation: Generation,
    records: &[SliceEntry],
) -> Result<(), StoreError> {
    let path = slice_path(store, generation);
    let content = postcard::to_stdvec(records).map_err(|error| StoreError::damaged(&path, error.to_string()))?;
    write_new_name(disk, &path, &seal.close(&slice_name(generation), &content)?)
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
    fn new(record: &Record, secret: &StoreSecret) -> Self {
        Self { digest: record.digest(secret), id: record_id(secret, &record.id), record: record.clone() }
    }

    /// Whether what is written beside the record follows from it.
    pub(crate) fn is_sound(&self, secret: &StoreSecret) -> bool {
        self.digest == self.record.digest(secret) && self.id == record_id(secret, &self.record.id)
    }
}

/// Writes all files of a new store into an empty folder.
fn fill(place: &Place, folder: &Path, keys: &Keys, new: &NewStore<'_>) -> Result<(), StoreError> {
    let NewStore { settings, partitioner, records, copies, secret, encrypt } = new;
    let disk = &*place.disk;
    let shape = settings.shape;
    let places = place_records(records, *partitioner, shape, secret)?;
    for name in [RECORDS, STAGES, LEDGER] {
        let path = folder.join(name);
        fs::create_dir(&path).map_err(StoreError::io("make", &path))?;
    }
    let mut by_slice: BTreeMap<SliceAddress, Vec<&Record>> = shape.addresses().map(|at| (at, Vec::new())).collect();
    for (record, place) in records.iter().zip(&places) {
        by_slice.entry(*place).or_default().push(record);
    }
    let mut rows = Vec::new();
    for (address, records) in by_slice {
        let number = slice_number(shape.slices, address);
        let generation = (address, 0);
        if *encrypt {
            keys.make_slice(generation)?;
        }
        let count = records.len() as u64;
        let mut digest = None;
        if !records.is_empty() {
            let mut records: Vec<SliceEntry> = records.iter().map(|record| SliceEntry::new(record, secret)).collect();
            records.sort_by_key(|entry| entry.digest);
            digest = Some(slice_digest(secret, records.iter().map(|entry| entry.digest)));
            let seal = if *encrypt { keys.slice(generation)? } else { Seal::Plain(secret.clone()) };
            write_slice(disk, folder, &seal, generation, &records)?;
        }
        rows.push(SliceRow { number, records: count, digest, generation: 0, hit: 0 });
    }
    sync_folder(disk, &folder.join(RECORDS))?;
    keys.sync()?;
    let signing = SigningKey::new(&origin(secret), &*keys.signing()?)?;
    let public = format!("{}\n", signing.verifying_key());
    write_atomically(disk, &folder.join(LEDGER).join("key.pub"), public.as_bytes())?;
    let digests: Vec<Vec<Option<Digest>>> =
        rows.chunks(shape.slices as usize).map(|shard| shard.iter().map(|row| row.digest).collect()).collect();
    let plan = settings.plan(digests)?;

    let mut subjects: Vec<_> = records.iter().filter_map(|record| record.subject.as_ref()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let numbers: BTreeMap<&SubjectId, i64> = subjects.into_iter().zip(1..).collect();
    // In the order of the table, which is then written from end to end.
    let row = |(index, (record, place)): (usize, (&Record, &SliceAddress))| {
        let row = RecordRow {
            slice: slice_number(shape.slices, *place) as i64,
            subject: record.subject.as_ref().map(|subject| numbers[subject]),
            copies: copies.get(index).copied().flatten().map(i64::from),
        };
        (record_id(secret, &record.id), row)
    };
    let mut ids: Vec<_> = records.iter().zip(&places).enumerate().map(row).collect();
    ids.sort_unstable_by_key(|(id, _)| *id);
    let mut catalogue = Catalogue::create(&folder.join(CATALOGUE), Arc::clone(&place.disk))?;
    catalogue.change(secret, &signing, |change| {
        change.set("settings", &serde_json::to_vec(settings).unwrap_or_default())?;
        change.set("store", store_id(secret).as_bytes())?;
        change.set("encrypt", &[u8::from(*encrypt)])?;
        change.set("epoch", &0_u64.to_le_bytes())?;
        for (subject, number) in &numbers {
            change.add_subject(*number, &subject_id(secret, subject))?;
        }
        for (id, row) in &ids {
            change.add_record(id, *row)?;
        }
        for row in &rows {
            change.set_slice(row)?;
        }
        let at = now();
        let (store, records) = (store_id(secret), records.len() as u64);
        change.append(at, Event::Created { store, settings: settings.digest(), records })?;
        let keys = plan.stages().map(|stage| &stage.key);
        let planned = Event::Planned { epoch: 0, stages: keys.len() as u64, plan: digest_of_stages(keys) };
        change.set("plan", digest_of_stages(plan.stages().map(|stage| &stage.key)).as_bytes())?;
        change.append(at, planned).map(drop)
    })?;
    catalogue.truncate_log()?;
    drop(catalogue);
    for ending in ["-wal", "-shm"] {
        remove(disk, &folder.join(format!("{CATALOGUE}{ending}")))?;
    }
    sync_folder(disk, folder)
}

fn store_id(secret: &StoreSecret) -> Digest {
    DigestBuilder::keyed(secret, "store id").finish()
}

/// The ledger's name in its checkpoints.
fn origin(secret: &StoreSecret) -> String {
    format!("s3t/{}", store_id(secret).short())
}

/// Whether a public key's line is that of these keys.
fn signs(keys: &Keys, line: &[u8]) -> bool {
    let key =
        keys.secret().and_then(|secret| Ok(SigningKey::new(&origin(&secret), &*keys.signing()?)?.verifying_key()));
    key.is_ok_and(|key| format!("{key}\n").as_bytes() == line)
}

/// The format of a store from before there were catalogues; `None` if there is none.
fn format_before_catalogues(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path.join("manifest.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["manifest"]["format"].as_u64().and_then(|format| u32::try_from(format).ok())
}

/// Where a store stands while it is being made: beside its final place, so that it can be renamed there at once.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

fn remove_folder(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => sync_folder(disk, parent(path)),
    }
}

/// Takes the lock of a file; `None` if another process has it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let file = File::create(path).map_err(StoreError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io("lock", path)(error)),
    }
}
