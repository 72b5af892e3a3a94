//! Opening, filling and erasing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use s3t_core::digest::DigestBuilder;
use s3t_core::index::place_records;
use s3t_core::record::slice_digest;
use s3t_core::{
    Digest, Lineage, Partitioner, Plan, Record, RecordId, RecordIndex, SliceAddress, StageKey, StoreSecret, SubjectId,
};
use s3t_peft::NamedTensors;

use crate::files::{TEMPORARY, names, remove, sync_folder, write_atomically};
use crate::manifest::{FORMAT, Manifest, Pending, StoreSettings};
use crate::{StoreError, slice_file, stage_file};

const MANIFEST: &str = "manifest.json";
const SECRET: &str = "secret.key";
const LOCK: &str = "lock";
const RECORDS: &str = "records";
const STAGES: &str = "stages";
const STAGE_ENDING: &str = ".safetensors";

/// The records of a slice with their digests, by ascending digest.
pub type SliceRecords = Vec<(Digest, Record)>;

/// What a new store is made from.
pub struct NewStore<'a> {
    /// What the store is for.
    pub settings: StoreSettings,
    /// Places the records.
    pub partitioner: &'a dyn Partitioner,
    /// The records.
    pub records: &'a [Record],
    /// The secret, for example a [`random_secret`].
    pub secret: StoreSecret,
}

/// What an erasure removed from disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erasure {
    /// The slices whose files were rewritten.
    pub slices: Vec<SliceAddress>,
    /// The stages whose files were removed.
    pub stages: Vec<StageKey>,
    /// The digests of the records that were removed.
    pub records: Vec<Digest>,
}

/// An open store. One process at a time holds it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    secret: StoreSecret,
    manifest: Manifest,
    plan: Plan,
    index: RecordIndex,
    /// The manifest's deleted records, to be looked up.
    deleted: HashSet<Digest>,
    found_dead: Vec<StageKey>,
    /// Held, not read: the lock lasts as long as the file is open.
    _lock: File,
}

impl Store {
    /// Makes a store: places the records and writes them. On any error nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is something at the path; [`StoreError::Core`] for duplicate ids or impossible
    /// settings; [`StoreError::Io`].
    pub fn create(path: &Path, new: NewStore<'_>) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(StoreError::Exists(path.into()));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(StoreError::io("make", parent))?;
        let unfinished = unfinished(path);
        remove_leftover(&unfinished)?;
        make_private_folder(&unfinished)?;
        let filled = (|| {
            let lock = lock(&unfinished, path)?;
            fill(&unfinished, &new.secret, new.settings, new.partitioner, new.records)?;
            fs::rename(&unfinished, path).map_err(StoreError::io("make", path))?;
            drop(lock);
            sync_folder(parent)
        })();
        if let Err(error) = filled {
            remove_folder(&unfinished)?;
            return Err(error);
        }
        Self::open(path)
    }

    /// Removes a store for good, for example to make it anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`] for a folder that is none, [`StoreError::Locked`] while another process has it open; then
    /// nothing is removed.
    pub fn remove(path: &Path) -> Result<(), StoreError> {
        if !path.join(MANIFEST).is_file() {
            return Err(StoreError::NotAStore(path.into()));
        }
        let _lock = lock(path, path)?;
        remove_folder(path)
    }

    /// Stages that were on disk although the plan does not hold them and no deletion was pending, when the store was
    /// opened. They were removed.
    pub fn found_dead(&self) -> &[StageKey] {
        &self.found_dead
    }

    /// Names in the store's folders that are not the store's own, for example copies that somebody made.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn foreign_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let shape = self.manifest.settings.shape;
        let slices: HashSet<PathBuf> = shape.addresses().map(|address| self.slice_path(address)).collect();
        let own = |folder: &Path, path: &Path, name: &str| {
            if folder == self.path {
                [MANIFEST, SECRET, LOCK, RECORDS, STAGES].contains(&name)
            } else if folder.ends_with(RECORDS) {
                slices.contains(path)
            } else {
                let key = name.strip_suffix(STAGE_ENDING).and_then(|key| key.parse::<StageKey>().ok());
                key.is_some_and(|key| self.plan.stage(&key).is_some())
            }
        };
        let mut foreign = Vec::new();
        for folder in [self.path.clone(), self.path.join(RECORDS), self.path.join(STAGES)] {
            for name in names(&folder)? {
                let path = folder.join(&name);
                if !own(&folder, &path, &name) {
                    foreign.push(path);
                }
            }
        }
        Ok(foreign)
    }

    /// A public name of this store, derived from its secret: it tells stores apart and tells nothing else.
    pub fn id(&self) -> Digest {
        DigestBuilder::keyed(&self.secret, "store id").finish()
    }

    /// The secret that keys the partition and the digests.
    pub fn secret(&self) -> &StoreSecret {
        &self.secret
    }

    /// Opens a store: finishes what a crash left unfinished, and reads the ids of its records.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::Locked`], [`StoreError::OtherFormat`], [`StoreError::Damaged`],
    /// [`StoreError::SliceMismatch`] or [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.join(MANIFEST).is_file() {
            return Err(StoreError::NotAStore(path.into()));
        }
        let lock = lock(path, path)?;
        // What a crash left of making this store holds records too.
        remove_leftover(&unfinished(path))?;
        let manifest = Manifest::read(&path.join(MANIFEST))?;
        let secret = read_secret(&path.join(SECRET))?;
        let plan = manifest.plan()?;
        let index = RecordIndex::default();
        let deleted = manifest.deleted_records.iter().copied().collect();
        let mut store =
            Self { path: path.into(), secret, manifest, plan, index, deleted, found_dead: Vec::new(), _lock: lock };
        store.remove_unfinished()?;
        if store.manifest.pending.is_empty() {
            store.found_dead = store.remove_dead_stages()?;
        } else {
            store.erase_pending()?;
        }
        for address in store.manifest.settings.shape.addresses() {
            for (_, record) in store.records(address)? {
                store.index.insert(record.id, record.subject, address)?;
            }
        }
        Ok(store)
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The stages that the store should hold.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The records that are there.
    pub fn index(&self) -> &RecordIndex {
        &self.index
    }

    /// The records of a slice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::SliceMismatch`] if they are not those the manifest names.
    pub fn records(&self, address: SliceAddress) -> Result<SliceRecords, StoreError> {
        let Some(expected) = self.manifest.slices[address.shard.index()][address.slice.index()] else {
            return Ok(Vec::new());
        };
        let records = digested(slice_file::read(&self.slice_path(address))?, &self.secret);
        if slice_digest(&self.secret, records.iter().map(|(digest, _)| *digest)) != expected {
            return Err(StoreError::SliceMismatch { address });
        }
        Ok(records)
    }

    /// Whether a stage is on disk.
    pub fn has_stage(&self, key: &StageKey) -> bool {
        self.stage_path(key).is_file()
    }

    /// Reads a stage and checks that its lineage is the one that makes its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingStage`] or [`StoreError::Damaged`].
    pub fn stage(&self, key: &StageKey) -> Result<(Lineage, NamedTensors), StoreError> {
        let path = self.stage_path(key);
        if !path.is_file() {
            return Err(StoreError::MissingStage(*key));
        }
        let (lineage, tensors) = stage_file::read(&path)?;
        if lineage.key() != *key {
            return Err(StoreError::Damaged { path, problem: "its lineage makes another key".into() });
        }
        Ok((lineage, tensors))
    }

    /// Writes a stage. May be called from several threads.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn write_stage(&self, lineage: &Lineage, tensors: &NamedTensors) -> Result<(), StoreError> {
        stage_file::write(&self.stage_path(&lineage.key()), lineage, tensors)
    }

    /// The stages on disk, sorted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a file is not named by a key.
    pub fn stages(&self) -> Result<BTreeSet<StageKey>, StoreError> {
        let folder = self.path.join(STAGES);
        let mut keys = BTreeSet::new();
        for name in names(&folder)?.into_iter().filter(|name| !name.starts_with(TEMPORARY)) {
            let key = name.strip_suffix(STAGE_ENDING).and_then(|key| key.parse().ok());
            let foreign =
                || StoreError::Damaged { path: folder.join(&name), problem: "it is not a stage of ours".into() };
            keys.insert(key.ok_or_else(foreign)?);
        }
        Ok(keys)
    }

    /// Whether a record of this id was deleted from the store.
    pub fn is_deleted(&self, record: &RecordId) -> bool {
        self.deleted.contains(&self.record_tombstone(record))
    }

    /// Whether a subject of this name was deleted from the store.
    pub fn is_deleted_subject(&self, subject: &SubjectId) -> bool {
        self.manifest.deleted_subjects.contains(&self.subject_tombstone(subject))
    }

    /// The records that a request names: the given ones and all of the given subjects, each once.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRecord`], [`StoreError::RecordAlreadyDeleted`] and the same for subjects.
    pub fn resolve(&self, records: &[RecordId], subjects: &[SubjectId]) -> Result<Vec<RecordId>, StoreError> {
        let mut named = Vec::new();
        for record in records {
            if self.index.address(record.as_str()).is_none() {
                let error =
                    if self.is_deleted(record) { StoreError::RecordAlreadyDeleted } else { StoreError::UnknownRecord };
                return Err(error(record.clone()));
            }
            named.push(record.clone());
        }
        for subject in subjects {
            let of_subject = self.index.of_subject(subject.as_str());
            if of_subject.is_empty() {
                let error = if self.is_deleted_subject(subject) {
                    StoreError::SubjectAlreadyDeleted
                } else {
                    StoreError::UnknownSubject
                };
                return Err(error(subject.clone()));
            }
            named.extend_from_slice(of_subject);
        }
        let mut seen = HashSet::new();
        named.retain(|record| seen.insert(record.clone()));
        Ok(named)
    }

    /// Accepts a deletion: once this returns it survives any crash. The records must be those of [`resolve`](Self::resolve).
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], or [`StoreError::UnknownRecord`]; then nothing was accepted.
    pub fn accept(&mut self, records: &[RecordId], subjects: &[SubjectId]) -> Result<(), StoreError> {
        let mut manifest = self.manifest.clone();
        manifest.epoch += 1;
        for record in records {
            let unknown = || StoreError::UnknownRecord(record.clone());
            let address = self.index.address(record.as_str()).ok_or_else(unknown)?;
            let tombstone = self.record_tombstone(record);
            manifest.pending.push(Pending { record: tombstone, address });
            manifest.deleted_records.push(tombstone);
        }
        // A subject whose last record goes is gone too, whether it was named or not.
        let named: HashSet<&RecordId> = records.iter().collect();
        let mut going: HashMap<&SubjectId, usize> = HashMap::new();
        for subject in named.iter().filter_map(|record| self.index.subject(record.as_str())) {
            *going.entry(subject).or_default() += 1;
        }
        let emptied = going
            .iter()
            .filter(|(subject, count)| self.index.of_subject(subject.as_str()).len() == **count)
            .map(|(subject, _)| *subject);
        let gone: BTreeSet<&SubjectId> = subjects.iter().chain(emptied).collect();
        manifest.deleted_subjects.extend(gone.into_iter().map(|subject| self.subject_tombstone(subject)));
        manifest.write(&self.path.join(MANIFEST))?;
        self.deleted.extend(manifest.pending.iter().map(|pending| pending.record));
        self.manifest = manifest;
        self.index.remove_all(records);
        Ok(())
    }

    /// Erases what was accepted: rewrites the slices without the records, and removes every stage whose lineage held one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; then the deletion stays pending and is erased when the store is opened again.
    pub fn erase_pending(&mut self) -> Result<Erasure, StoreError> {
        let pending: HashSet<Digest> = self.manifest.pending.iter().map(|pending| pending.record).collect();
        let addresses: BTreeSet<SliceAddress> = self.manifest.pending.iter().map(|pending| pending.address).collect();
        let mut erasure = Erasure::default();
        let mut manifest = self.manifest.clone();
        for address in addresses {
            let path = self.slice_path(address);
            let (gone, left): (SliceRecords, SliceRecords) = digested(slice_file::read(&path)?, &self.secret)
                .into_iter()
                .partition(|(_, record)| pending.contains(&self.record_tombstone(&record.id)));
            let digest = slice_digest(&self.secret, left.iter().map(|(digest, _)| *digest));
            manifest.slices[address.shard.index()][address.slice.index()] = (!left.is_empty()).then_some(digest);
            if !gone.is_empty() {
                let left: Vec<Record> = left.into_iter().map(|(_, record)| record).collect();
                slice_file::write(&path, &left)?;
                erasure.slices.push(address);
                erasure.records.extend(gone.into_iter().map(|(digest, _)| digest));
            }
        }
        self.plan = manifest.plan()?;
        erasure.stages = self.remove_dead_stages()?;
        manifest.pending.clear();
        manifest.write(&self.path.join(MANIFEST))?;
        self.manifest = manifest;
        Ok(erasure)
    }

    fn remove_dead_stages(&self) -> Result<Vec<StageKey>, StoreError> {
        let dead: Vec<StageKey> = self.stages()?.into_iter().filter(|key| self.plan.stage(key).is_none()).collect();
        for key in &dead {
            remove(&self.stage_path(key))?;
        }
        sync_folder(&self.path.join(STAGES))?;
        Ok(dead)
    }

    fn remove_unfinished(&self) -> Result<(), StoreError> {
        for folder in [self.path.clone(), self.path.join(RECORDS), self.path.join(STAGES)] {
            for name in names(&folder)?.into_iter().filter(|name| name.starts_with(TEMPORARY)) {
                remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn record_tombstone(&self, record: &RecordId) -> Digest {
        DigestBuilder::keyed(&self.secret, "deleted record").bytes(record.as_str().as_bytes()).finish()
    }

    fn subject_tombstone(&self, subject: &SubjectId) -> Digest {
        DigestBuilder::keyed(&self.secret, "deleted subject").bytes(subject.as_str().as_bytes()).finish()
    }

    fn slice_path(&self, address: SliceAddress) -> PathBuf {
        slice_path(&self.path, address)
    }

    fn stage_path(&self, key: &StageKey) -> PathBuf {
        self.path.join(STAGES).join(format!("{key}{STAGE_ENDING}"))
    }
}

fn slice_path(store: &Path, address: SliceAddress) -> PathBuf {
    store.join(RECORDS).join(format!("{}-{}.bin", address.shard, address.slice))
}

/// Writes all files of a new store into an empty folder.
fn fill(
    folder: &Path,
    secret: &StoreSecret,
    settings: StoreSettings,
    partitioner: &dyn Partitioner,
    records: &[Record],
) -> Result<(), StoreError> {
    let places = place_records(records, partitioner, settings.shape, secret)?;
    for name in [RECORDS, STAGES] {
        let path = folder.join(name);
        fs::create_dir(&path).map_err(StoreError::io("make", &path))?;
    }
    write_atomically(&folder.join(SECRET), format!("{}\n", Digest::from_bytes(*secret.as_bytes())).as_bytes())?;
    let mut slices = vec![vec![None; settings.shape.slices as usize]; settings.shape.shards as usize];
    let mut by_slice: std::collections::BTreeMap<SliceAddress, Vec<Record>> = std::collections::BTreeMap::new();
    for (record, place) in records.iter().zip(places) {
        by_slice.entry(place).or_default().push(record.clone());
    }
    for (address, records) in by_slice {
        let records = digested(records, secret);
        let digest = slice_digest(secret, records.iter().map(|(digest, _)| *digest));
        slices[address.shard.index()][address.slice.index()] = Some(digest);
        let records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
        slice_file::write(&slice_path(folder, address), &records)?;
    }
    let manifest = Manifest {
        format: FORMAT,
        settings,
        slices,
        epoch: 0,
        deleted_records: Vec::new(),
        deleted_subjects: Vec::new(),
        pending: Vec::new(),
    };
    manifest.plan()?;
    manifest.write(&folder.join(MANIFEST))
}

fn digested(records: Vec<Record>, secret: &StoreSecret) -> SliceRecords {
    let mut records: SliceRecords = records.into_iter().map(|record| (record.digest(secret), record)).collect();
    records.sort_by_key(|(digest, _)| *digest);
    records
}

/// Where a store stands while it is being made: beside its final place, so that it can be renamed there at once.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

/// Removes what a crash left of making a store.
fn remove_leftover(unfinished: &Path) -> Result<(), StoreError> {
    if !unfinished.exists() {
        return Ok(());
    }
    let _lock = lock(unfinished, unfinished)?;
    remove_folder(unfinished)
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => sync_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))),
    }
}

/// A folder that only its owner can enter, where the system knows such a thing.
fn make_private_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(StoreError::io("make", path))
}

/// Takes the lock of a folder; `store` is what the error names.
fn lock(folder: &Path, store: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(store.into())),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
    }
}

/// A secret from the operating system.
///
/// # Errors
///
/// [`StoreError::Io`] if it gives no random bytes.
pub fn random_secret() -> Result<StoreSecret, StoreError> {
    let mut bytes = [0; 32];
    let failed = |error: rand::rngs::SysError| std::io::Error::other(error.to_string());
    SysRng.try_fill_bytes(&mut bytes).map_err(failed).map_err(StoreError::io("draw random bytes for", SECRET))?;
    Ok(StoreSecret::from_bytes(bytes))
}

fn read_secret(path: &Path) -> Result<StoreSecret, StoreError> {
    let text = fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    let damaged = |_| StoreError::Damaged { path: path.into(), problem: "it is not 64 hexadecimal digits".into() };
    Ok(StoreSecret::from_bytes(*text.trim().parse::<Digest>().map_err(damaged)?.as_bytes()))
}
