//! An open store: opening it, its locks, its moments and its changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, StoreSecret};
use s3t_ledger::{Epoch, Event, SigningKey, Timestamp, VerifyingKey};

use crate::catalogue::{Catalogue, Change, FORMAT, State};
use crate::clock::now;
use crate::disk::{Disk, enter};
use crate::folder::Folder;
use crate::keys::Keys;
use crate::lock::{self, Lock};
use crate::names::{ADDING, BUILDING, CATALOGUE, ERASING, LEDGER, MANIFEST, RECORDS, STAGES};
use crate::{Place, Snapshot, StoreError, StoreSettings};

/// The key of further settings of the store's maker for taking records in.
pub(crate) const TAKEN_IN_WITH: &str = "taken-in-with";

/// An open store. Any number of processes may have it open, and any number of threads may use it: changes follow each other, and
/// reading never waits for them.
#[derive(Debug)]
pub struct Store {
    pub(crate) place: Place,
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
    pub(crate) settings: StoreSettings,
    pub(crate) encrypt: bool,
    taken_in_with: Option<serde_json::Value>,
    inner: Mutex<Inner>,
    /// When each deletion that this process accepted took effect, until that is in the ledger.
    pub(crate) effective: Mutex<BTreeMap<Epoch, Timestamp>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalogue: Catalogue,
    /// The catalogue's version and what was in it.
    seen: Option<(i64, Arc<Snapshot>)>,
    /// `true` if this process has changed it since.
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

/// The right to write and to remove the files of stages, held for a moment at a time.
///
/// # Proof note
///
/// *Before*: a process adds a stage while another accepts a deletion that hits it and erases. *After*: when the ledger says "erased",
/// no file of the stage is there. *Why*: whoever adds a stage looks at what is live after it has taken this lock, and keeps the lock
/// until the stage is in the catalogue or its file is removed. The eraser takes it after the deletion is in effect: whoever had it
/// before has finished, and whoever takes it later sees that the stage is dead and writes nothing. So nobody syncs a file while
/// the catalogue is held, and a deletion does not wait for it.
#[derive(Debug)]
pub(crate) struct AddingLock {
    _lock: Lock,
}

impl Store {
    /// Opens a store to read it only: for serving beside a process that changes it. Nothing is written or finished.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(place: &Place) -> Result<Self, StoreError> {
        Self::open_as(place, true)
    }

    pub(crate) fn open_as(place: &Place, read_only: bool) -> Result<Self, StoreError> {
        let span = tracing::debug_span!("store_open", read_only, epoch = tracing::field::Empty).entered();
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
        let file = at.store.file(CATALOGUE);
        let open = || Catalogue::open(&file, Arc::clone(&place.disk), read_only, place.patience);
        // Of a store that is being removed the keys may be gone.
        let keys = Keys::open(&at.keys, Arc::clone(&place.disk)).and_then(|keys| Ok((keys.secret()?, keys)));
        let (secret, keys) = match keys {
            Err(_) if open().is_ok_and(|catalogue| catalogue.is_removed().unwrap_or(false)) => {
                return Err(StoreError::Removed(path));
            }
            keys => keys?,
        };
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
        let taken_in_with = catalogue.get(TAKEN_IN_WITH)?.map(|text| serde_json::from_slice(&text)).transpose();
        let taken_in_with = taken_in_with.map_err(|error| damaged(&format!("its settings: {error}")))?;
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
            taken_in_with,
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
        span.record("epoch", epoch.0);
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

    /// The right to write and to remove the files of stages; waits for another thread or process that has it, as long as the store's
    /// patience lasts.
    pub(crate) fn lock_adding(&self) -> Result<AddingLock, StoreError> {
        let lock = lock::take(&self.folder, ADDING, self.place.patience)?;
        let lock = lock.map_err(|holder| StoreError::Adding { store: self.path.clone(), holder })?;
        Ok(AddingLock { _lock: lock })
    }

    /// The time to wait for another process that has the store in hand.
    pub(crate) fn patience(&self) -> std::time::Duration {
        self.place.patience
    }

    /// The content of the store now, for a store that stays [at one moment](Self::at_one_moment).
    pub(crate) fn present(&self) -> Result<Arc<Snapshot>, StoreError> {
        Self::open_as(&self.place, true)?.snapshot()
    }

    /// A second connection to the catalogue, for what takes time: nobody who changes or reads the catalogue waits for it.
    pub(crate) fn own_connection(&self) -> Result<Catalogue, StoreError> {
        self.inner().catalogue.another()
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

    /// The location of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings of the store.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Further settings of the store's maker for taking records in ([`NewStore`](crate::NewStore)); `None` of a store that an earlier
    /// program made.
    pub fn taken_in_with(&self) -> Option<&serde_json::Value> {
        self.taken_in_with.as_ref()
    }

    /// `true` if records and stages are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypt
    }

    /// The content of the store now: every deletion that was acknowledged before this call, by whatever process, is in it.
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
                let state = inner.catalogue.read(|queries| queries.state())?;
                let _span = tracing::debug_span!("store_effect", epoch = state.epoch.0).entered();
                let snapshot = Arc::new(self.snapshot_of(state, old.map(|(_, snapshot)| snapshot).as_deref())?);
                inner.seen = Some((version, Arc::clone(&snapshot)));
                inner.changed = false;
                Ok(snapshot)
            }
        }
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
        let mut guard = self.inner();
        let inner = &mut *guard;
        let (seen, was_changed) = (inner.seen.clone(), inner.changed);
        inner.changed = true;
        let (result, after, version) = inner.catalogue.change(&self.secret, &self.signing, |open| {
            // Inside the transaction: no other process can commit until this one has.
            let version = open.read(|queries| queries.data_version())?;
            let snapshot = match seen {
                Some((seen, snapshot)) if seen == version && !was_changed => snapshot,
                seen => {
                    let old = seen.map(|(_, snapshot)| snapshot);
                    Arc::new(self.snapshot_of(open.read(|queries| queries.state())?, old.as_deref())?)
                }
            };
            change(open, &snapshot).map(|(result, after)| (result, after, version))
        })?;
        if let Some(after) = after {
            inner.seen = Some((version, Arc::new(after)));
            inner.changed = false;
        }
        let is_stale = inner.changed;
        drop(guard);
        if is_stale {
            // Whoever changed the store reads it again, not the next who asks: that may be a thread that stands behind others and would keep
            // a deletion waiting. What fails here fails there.
            drop(self.snapshot());
        }
        Ok(result)
    }

    /// The snapshot of a state. The plan is that of `old` if no slice has changed since.
    fn snapshot_of(&self, state: State, old: Option<&Snapshot>) -> Result<Snapshot, StoreError> {
        if state.is_removed {
            return Err(StoreError::Removed(self.path.clone()));
        }
        Snapshot::new(&self.settings, state, old)?
            .ok_or_else(|| StoreError::damaged(&self.path.join(CATALOGUE), "slices are missing"))
    }
}

fn take_erasing(folder: &Folder, patience: std::time::Duration) -> Result<ErasingLock, StoreError> {
    let lock = lock::take(folder, ERASING, patience)?;
    let lock = lock.map_err(|holder| StoreError::Erasing { store: folder.path().into(), holder })?;
    Ok(ErasingLock { _lock: lock })
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
    let text = Folder::open(path).and_then(|folder| folder.read_text(MANIFEST)).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["manifest"]["format"].as_u64().and_then(|format| u32::try_from(format).ok())
}
