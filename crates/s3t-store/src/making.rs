//! Making a store, and removing one.
//!
//! # Proof note
//!
//! *Before*: any number of processes want to make a store at one place. *After*: one has made it and the others are told, or have
//! waited; no key of a store that is there was touched. *Why*: whoever makes a store, or clears the partial store that a crash left,
//! holds a lock beside it from before it looks until it is done. The store is made under another name and renamed when it is
//! whole, its keys first; keys without a store are destroyed only if the unfinished store beside them carries their signature.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use s3t_core::placement::place_records;
use s3t_core::record::slice_digest;
use s3t_core::{Digest, Partitioner, Record, SliceAddress, StoreSecret, SubjectId};
use s3t_ledger::{Epoch, Event, SigningKey};

use crate::catalogue::{Catalogue, CatalogueFile, RecordRow, SliceRow, record_id, slice_number, subject_id};
use crate::clock::now;
use crate::contents::{SliceEntry, write_slice};
use crate::disk::{enter, make, parent, remove, sync_folder, write_atomically};
use crate::folder::Folder;
use crate::keys::{self, Keys};
use crate::lock::{self, Lock};
use crate::names::{BUILDING, CATALOGUE, ERASING, Generation, LEDGER, PUBLIC_KEY, RECORDS, STAGES};
use crate::place::{Location, Place, Resolved};
use crate::seal::Seal;
use crate::snapshot::digest_of_stages;
use crate::spelling::DISTINCT;
use crate::store::{TAKEN_IN_WITH, format_before_catalogues, origin, store_id};
use crate::{Store, StoreError, StoreSettings, layout};

/// The parts of a new store.
pub struct NewStore<'a> {
    /// The settings of the store.
    pub settings: StoreSettings,
    /// Places the records.
    pub partitioner: &'a dyn Partitioner,
    /// The records.
    pub records: &'a [Record],
    /// The group of near-duplicates that each record is in; empty if none are known. A deletion takes whole groups.
    pub copies: &'a [Option<u32>],
    /// The secret, for example a [`random_secret`](crate::random_secret).
    pub secret: StoreSecret,
    /// `true` if records and stages are encrypted. Without it an erasure is as good as the disk's.
    pub encrypt: bool,
    /// Further settings of the caller for taking records in, as JSON: kept, and given back by [`Store::taken_in_with`].
    pub taken_in_with: serde_json::Value,
}

impl Store {
    /// Makes a store: places the records and writes them. On any error nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], [`StoreError::Link`] or [`StoreError::KeysWithoutStore`] if there is something at the path;
    /// [`StoreError::Making`] while another process makes it; [`StoreError::Foreign`] if something that is not a store's is in the
    /// place of an unfinished one; [`StoreError::Core`] for ids that occur twice or that a person cannot tell
    /// apart, or impossible settings; [`StoreError::Io`].
    pub fn create(place: &Place, new: &NewStore<'_>) -> Result<Self, StoreError> {
        for folder in [parent(&place.path), parent(&place.keys_folder())] {
            fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        }
        let at = place.resolve()?;
        at.store.refuse_link()?;
        at.keys.refuse_link()?;
        let making = Making::begin(place, &at)?;
        let made = make_store(place, &at, &making, new);
        making.end(place, &at);
        made?;
        Self::open(place)
    }

    /// Removes a store and destroys its keys for good, for example to make it anew. Other processes that have it open are told
    /// with their next step. `expected` is the number of deletions that the store may have accepted: with another nothing is removed.
    /// A removal that was interrupted is finished, whatever it says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] if the number is another; [`StoreError::NotAStore`]; [`StoreError::Link`] if a link leads there; [`StoreError::Foreign`] if something else is in its
    /// folders; [`StoreError::Building`] or [`StoreError::Erasing`] while another process has it in hand. Then nothing is removed.
    pub fn remove(place: &Place, expected: Option<Epoch>) -> Result<(), StoreError> {
        let at = place.resolve()?;
        at.store.refuse_link()?;
        at.keys.refuse_link()?;
        let path = at.store.path();
        if !place.is_store() && format_before_catalogues(&at.store.real()).is_none() {
            return Err(StoreError::NotAStore(path));
        }
        let making = Making::begin(place, &at)?;
        let removed = remove_store(place, &at, expected);
        making.end(place, &at);
        removed
    }
}

/// A deletion that was accepted before the mark makes the number another; none is accepted behind it. From the mark on every step can
/// be done again: the store keeps its name, and its mark, until the keys are gone, and is then what a crash leaves of a new store.
fn remove_store(place: &Place, at: &Resolved, expected: Option<Epoch>) -> Result<(), StoreError> {
    let folder = at.store.open()?;
    let holds = |name| lock::take(&folder, name, place.patience);
    let store = || at.store.path();
    let _building = holds(BUILDING)?.map_err(|holder| StoreError::Building { store: store(), holder })?;
    let _erasing = holds(ERASING)?.map_err(|holder| StoreError::Erasing { store: store(), holder })?;
    if let Some(path) = layout::foreign(&folder)?.into_iter().next() {
        return Err(StoreError::Foreign(path));
    }
    keys::check_own(&at.keys.parent, &at.keys.name)?;
    let (disk, parent, unfinished) = (&*place.disk, &at.store.parent, at.store.unfinished());
    layout::remove_store(disk, parent, &unfinished)?;
    // Whoever has it open would go on with files that are gone. A catalogue that cannot be opened is in nobody's hands.
    let catalogue = at.store.file(CATALOGUE);
    if let Ok(catalogue) = Catalogue::open(&catalogue, Arc::clone(&place.disk), false, place.patience)
        && !catalogue.mark_removed(expected)?
    {
        return Err(StoreError::Changed(store()));
    }
    keys::destroy_all(disk, &at.keys.parent, &at.keys.name)?;
    disk.rename(parent, &at.store.name, parent, &unfinished).map_err(StoreError::io("remove", store()))?;
    sync_folder(disk, parent)?;
    layout::remove_store(disk, parent, &unfinished)
}

/// The right to make or clear a store at a place, and its keys at theirs.
pub(crate) struct Making {
    locks: Vec<Lock>,
}

impl Making {
    /// Waits for another process that makes the store.
    fn begin(place: &Place, at: &Resolved) -> Result<Self, StoreError> {
        let mut locks = Vec::new();
        for location in in_order(at) {
            let lock = lock::take(&location.parent, location.making_lock(), place.patience)?;
            locks.push(lock.map_err(|holder| StoreError::Making { store: at.store.path(), holder })?);
        }
        Ok(Self { locks })
    }

    /// Removes the locks' files: they are held until this returns, and whoever waits for one looks whether it is still there.
    fn end(self, place: &Place, at: &Resolved) {
        for location in in_order(at) {
            // A lock's file that stays does no harm: the system has let go of the lock.
            drop(remove(&*place.disk, &location.parent, location.making_lock()));
        }
        drop(self.locks);
    }
}

/// The places whose locks are taken, in an order that is the same for all who want both.
fn in_order(at: &Resolved) -> [&Location; 2] {
    let mut both = [&at.store, &at.keys];
    both.sort_by_key(|location| location.real());
    both
}

/// Removes the partial store that a crash left beside the store, which is there by now. Whoever makes a store there now is left alone.
pub(crate) fn clear_left_overs(place: &Place, at: &Resolved) -> Result<(), StoreError> {
    let left = [
        at.store.has(&at.store.unfinished())?,
        at.store.has(&at.store.making_lock())?,
        at.keys.has(&at.keys.unfinished())?,
        at.keys.has(&at.keys.making_lock())?,
    ];
    if !left.contains(&true) {
        return Ok(());
    }
    let place = Place { patience: std::time::Duration::ZERO, ..place.clone() };
    let making = match Making::begin(&place, at) {
        Err(StoreError::Making { .. }) => return Ok(()),
        begun => begun?,
    };
    let cleared = layout::remove_store(&*place.disk, &at.store.parent, &at.store.unfinished())
        .and_then(|()| keys::destroy_all(&*place.disk, &at.keys.parent, &at.keys.unfinished()));
    making.end(&place, at);
    match cleared {
        // Somebody else's things are left as they are; `check` tells of them.
        Err(StoreError::Foreign(_) | StoreError::Link { .. }) => Ok(()),
        cleared => cleared,
    }
}

fn make_store(place: &Place, at: &Resolved, _held: &Making, new: &NewStore<'_>) -> Result<(), StoreError> {
    let disk = &*place.disk;
    let path = at.store.path();
    if at.store.exists()? {
        return Err(StoreError::Exists(path));
    }
    let (unfinished, unfinished_keys) = (at.store.unfinished(), at.keys.unfinished());
    // A crash while a store was made may have left a part of it, with records, and its keys at either of their places.
    if at.store.has(&unfinished)? {
        if at.keys.exists()? && is_of(place, at) {
            keys::destroy_all(disk, &at.keys.parent, &at.keys.name)?;
        }
        layout::remove_store(disk, &at.store.parent, &unfinished)?;
    }
    keys::destroy_all(disk, &at.keys.parent, &unfinished_keys)?;
    if at.keys.exists()? {
        return Err(StoreError::KeysWithoutStore { keys: at.keys.path(), store: path });
    }
    let mut keys_moved = false;
    let made = (|| {
        let ring = Keys::create(&at.keys.parent, &unfinished_keys, &new.secret, Arc::clone(&place.disk))?;
        let folder = make(&at.store.parent, &unfinished)?;
        fill(place, at, &folder, &ring, new)?;
        let (store, keys) = (&at.store, &at.keys);
        disk.rename(&keys.parent, &unfinished_keys, &keys.parent, &keys.name)
            .map_err(StoreError::io("make", keys.path()))?;
        keys_moved = true;
        sync_folder(disk, &keys.parent)?;
        disk.rename(&store.parent, &unfinished, &store.parent, &store.name).map_err(StoreError::io("make", &path))?;
        sync_folder(disk, &store.parent)
    })();
    if made.is_err() {
        // The folder goes last: as long as it is there, its keys are known to be those of an unfinished store. What fails now
        // is done when the store is made or opened.
        let clean_up = || {
            keys::destroy_all(disk, &at.keys.parent, &unfinished_keys)?;
            if keys_moved && !at.store.exists()? {
                keys::destroy_all(disk, &at.keys.parent, &at.keys.name)?;
            }
            layout::remove_store(disk, &at.store.parent, &unfinished)
        };
        drop(clean_up());
    }
    made
}

/// `true` if the keys at their final place are those of the unfinished store.
fn is_of(place: &Place, at: &Resolved) -> bool {
    let line = || {
        let ledger = enter(&enter(&at.store.parent, at.store.unfinished())?, LEDGER)?;
        ledger.read_text(PUBLIC_KEY).map_err(StoreError::io("read", ledger.path_of(PUBLIC_KEY)))
    };
    let key = || {
        let keys = Keys::open(&at.keys, Arc::clone(&place.disk))?;
        let secret = keys.secret()?;
        Ok::<_, StoreError>(SigningKey::new(&origin(&secret), &*keys.signing()?)?.verifying_key())
    };
    matches!((line(), key()), (Ok(line), Ok(key)) if line == format!("{key}\n"))
}

/// Writes all files of a new store into an empty folder.
fn fill(place: &Place, at: &Resolved, folder: &Folder, keys: &Keys, new: &NewStore<'_>) -> Result<(), StoreError> {
    let NewStore { settings, partitioner, records, copies, secret, encrypt, taken_in_with } = new;
    let disk = &*place.disk;
    let shape = settings.shape;
    let places = place_records(records, *partitioner, shape, secret)?;
    let (of_records, ledger) = (make(folder, RECORDS)?, make(folder, LEDGER)?);
    make(folder, STAGES)?;
    let mut by_slice: BTreeMap<SliceAddress, Vec<&Record>> = shape.addresses().map(|at| (at, Vec::new())).collect();
    for (record, place) in records.iter().zip(&places) {
        by_slice.entry(*place).or_default().push(record);
    }
    let mut rows = Vec::new();
    for (address, records) in by_slice {
        let number = slice_number(shape.slices, address);
        let generation = Generation { slice: address, number: 0 };
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
            write_slice(disk, &of_records, &seal, generation, &records)?;
        }
        rows.push(SliceRow { number, records: count, digest, generation: 0, hit: 0 });
    }
    sync_folder(disk, &of_records)?;
    keys.sync()?;
    let signing = SigningKey::new(&origin(secret), &*keys.signing()?)?;
    let public = format!("{}\n", signing.verifying_key());
    write_atomically(disk, &ledger, PUBLIC_KEY, public.as_bytes())?;
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
            dead: None,
        };
        (record_id(secret, &record.id), row)
    };
    let mut ids: Vec<_> = records.iter().zip(&places).enumerate().map(row).collect();
    ids.sort_unstable_by_key(|(id, _)| *id);
    let catalogue = CatalogueFile {
        path: at.store.real().with_file_name(at.store.unfinished()).join(CATALOGUE),
        shown: folder.path_of(CATALOGUE),
    };
    let mut catalogue = Catalogue::create(&catalogue, Arc::clone(&place.disk), place.patience)?;
    let settings_text = |error: serde_json::Error| StoreError::damaged(folder.path(), error.to_string());
    let (digest, settings) = (settings.digest(), serde_json::to_vec(settings).map_err(settings_text)?);
    catalogue.change(secret, &signing, |change| {
        change.set("settings", &settings)?;
        change.set("store", store_id(secret).as_bytes())?;
        change.set("encrypt", &[u8::from(*encrypt)])?;
        change.set(TAKEN_IN_WITH, taken_in_with.to_string().as_bytes())?;
        // The records were placed, so that no two ids can be taken for each other.
        change.set(DISTINCT, &[1])?;
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
        change.append(at, Event::Created { store, settings: digest, records })?;
        let keys = plan.stages().map(|stage| &stage.key);
        let planned = Event::Planned { epoch: Epoch(0), stages: keys.len() as u64, plan: digest_of_stages(keys) };
        change.set("plan", digest_of_stages(plan.stages().map(|stage| &stage.key)).as_bytes())?;
        change.append(at, planned).map(drop)
    })?;
    // Filling it has moved rows about. Nobody waits yet: what is deleted first is not found between the rows.
    catalogue.write_anew()?;
    catalogue.truncate_log()?;
    drop(catalogue);
    for ending in ["-wal", "-shm"] {
        remove(disk, folder, format!("{CATALOGUE}{ending}"))?;
    }
    sync_folder(disk, folder)
}
