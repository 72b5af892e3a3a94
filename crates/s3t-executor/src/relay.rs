//! The owner's table of the objects of a launch: which are there, on which records they depend, and which are to be removed.
//!
//! # Proof note
//!
//! *Before*: objects with records, and with adapters that were trained on records, lie in object storage. *After*
//! [`Relay::forget`] and a [`Relay::purge`] that succeeded: no object is there that depends on one of the records, and no process of the
//! owner has its key. *Why*: every name and every key is made here, and noted with the records on which the content depends before the object
//! is put. `forget` waits for each put that is in the middle, and drops the keys; `purge` removes every object that the table does not
//! name any more, those too that a lost worker has left late, and looks whether they are gone. Objects are placed for a job
//! that is there only, and no job holds the records any more when they are forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::sealed::{ObjectContent, ObjectFolder, ObjectKey, ObjectKind, ObjectReference, ObjectSlot};
use crate::{ExecutorError, StageRecord};

/// The time for which object storage that has failed is left alone: what it would take goes over the links meanwhile.
const REST: Duration = Duration::from_secs(30);

/// The time between an attempt to remove objects that failed and the next.
const PAUSE: Duration = Duration::from_secs(2);

/// News that wait to be passed on, at most.
const MAX_NEWS: usize = 20;

/// The name of the object by which the launch itself is known. It is not removed with the others: storage that does not show it is not the one in
/// which they were left.
pub const LAUNCH_OBJECT: &str = "launch";

/// Fills bytes with random numbers.
pub type Random = fn(&mut [u8]) -> Result<(), ExecutorError>;

/// The objects of a launch, as its owner knows them.
pub struct Relay {
    folder: Arc<dyn ObjectFolder>,
    launch: String,
    /// The min length of bytes that travel as an object.
    min: u64,
    random: Random,
    table: Mutex<Table>,
    /// Held by the one thread that removes objects.
    purging: Mutex<()>,
}

#[derive(Default)]
struct Table {
    runs: BTreeMap<Digest, Arc<Run>>,
    objects: BTreeMap<(ObjectKind, Digest), Arc<Entry>>,
    /// The results that workers may leave, by name.
    results: BTreeMap<String, Vec<Arc<Run>>>,
    /// The times that something was left to be removed, and how many of these a purge has dealt with.
    to_purge: u64,
    purged: u64,
    tried: Option<Instant>,
    rests_until: Option<Instant>,
    news: VecDeque<String>,
    failure: Option<String>,
}

/// Records that travel together.
pub(crate) struct Run {
    id: Digest,
    /// Sorted.
    records: Vec<Digest>,
}

struct Entry {
    name: String,
    /// The records on which the content depends.
    runs: Vec<Arc<Run>>,
    state: Mutex<EntryState>,
}

enum EntryState {
    New(ObjectSlot),
    There(ObjectReference),
    Dead,
}

impl Entry {
    /// Drops the key, when a put that is in the middle has ended. None begins any more.
    fn die(&self) {
        *lock(&self.state) = EntryState::Dead;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// The relay of a launch through a folder that has no objects yet but [`LAUNCH_OBJECT`].
    ///
    /// Parts of jobs and results of fewer bytes than `min` go over the links.
    pub fn new(folder: Arc<dyn ObjectFolder>, launch: String, min: u64, random: Random) -> Self {
        Self { folder, launch, min, random, table: Mutex::default(), purging: Mutex::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &dyn ObjectFolder {
        &*self.folder
    }

    pub(crate) fn min(&self) -> u64 {
        self.min
    }

    fn slot(&self) -> Result<ObjectSlot, ExecutorError> {
        let (mut name, mut key) = ([0; 16], Zeroizing::new([0; 32]));
        (self.random)(&mut name)?;
        (self.random)(&mut *key)?;
        let name = name.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ObjectSlot { launch: self.launch.clone(), name, key: ObjectKey::from_bytes(*key) })
    }

    /// The records that travel together, known by their digests.
    pub(crate) fn run(&self, records: &[StageRecord]) -> Arc<Run> {
        let mut id = DigestBuilder::new("object records");
        records.iter().for_each(|record| _ = id.digest(&record.digest));
        let id = id.finish();
        let mut table = lock(&self.table);
        let run = table.runs.entry(id).or_insert_with(|| {
            let mut records: Vec<Digest> = records.iter().map(|record| record.digest).collect();
            records.sort_unstable();
            Arc::new(Run { id, records })
        });
        Arc::clone(run)
    }

    /// An object with the records of a run.
    pub(crate) fn place_records(
        &self,
        run: &Arc<Run>,
        bytes: impl Fn() -> Result<Zeroizing<Vec<u8>>, ExecutorError>,
    ) -> Result<ObjectReference, ExecutorError> {
        self.place(ObjectKind::Records, run.id, std::slice::from_ref(run), bytes)
    }

    /// An object with adapters whose content has this digest; they depend on records of these runs at most.
    pub(crate) fn place_stage(
        &self,
        digest: Digest,
        runs: &[Arc<Run>],
        bytes: impl Fn() -> Result<Zeroizing<Vec<u8>>, ExecutorError>,
    ) -> Result<ObjectReference, ExecutorError> {
        self.place(ObjectKind::Stage, digest, runs, bytes)
    }

    /// An object that is put once, by whoever needs it first.
    fn place(
        &self,
        kind: ObjectKind,
        id: Digest,
        runs: &[Arc<Run>],
        bytes: impl Fn() -> Result<Zeroizing<Vec<u8>>, ExecutorError>,
    ) -> Result<ObjectReference, ExecutorError> {
        loop {
            let new = self.slot()?;
            let entry = {
                let mut table = lock(&self.table);
                let entry = table.objects.entry((kind, id)).or_insert_with(|| {
                    let name = new.name.clone();
                    Arc::new(Entry { name, runs: runs.to_vec(), state: Mutex::new(EntryState::New(new)) })
                });
                Arc::clone(entry)
            };
            let mut state = lock(&entry.state);
            let reference = match &*state {
                EntryState::There(reference) => return Ok(reference.clone()),
                // It was forgotten in the meantime, with others.
                EntryState::Dead => continue,
                EntryState::New(slot) => {
                    let content = slot.leave(kind, bytes()?, &*self.folder)?;
                    ObjectReference { slot: slot.clone(), content }
                }
            };
            *state = EntryState::There(reference.clone());
            return Ok(reference);
        }
    }

    /// A place for the result of a job with these records.
    pub(crate) fn expect(&self, runs: Vec<Arc<Run>>) -> Result<ObjectSlot, ExecutorError> {
        let slot = self.slot()?;
        lock(&self.table).results.insert(slot.name.clone(), runs);
        Ok(slot)
    }

    /// The result that a worker has left. It is kept for the jobs that build on it.
    pub(crate) fn take<T: DeserializeOwned>(
        &self,
        slot: &ObjectSlot,
        content: ObjectContent,
    ) -> Result<T, ExecutorError> {
        let reference = ObjectReference { slot: slot.clone(), content };
        let result = reference.fetch(&*self.folder)?;
        let before = {
            let mut table = lock(&self.table);
            let Some(runs) = table.results.remove(&slot.name) else { return Ok(result) };
            let (name, state) = (slot.name.clone(), Mutex::new(EntryState::There(reference)));
            table.objects.insert((ObjectKind::Stage, content.digest), Arc::new(Entry { name, runs, state }))
        };
        // Another worker may have left the same content before.
        if let Some(before) = before {
            before.die();
            lock(&self.table).to_purge += 1;
        }
        Ok(result)
    }

    /// Nobody leaves this result any more, or nobody takes it.
    pub(crate) fn drop_result(&self, slot: &ObjectSlot) {
        let mut table = lock(&self.table);
        if table.results.remove(&slot.name).is_some() {
            table.to_purge += 1;
        }
    }

    /// Drops the keys of all objects that depend on one of these records, or of all objects, and notes that they are to be removed.
    /// Places for results stay: a job that is there holds none of the records.
    pub fn forget(&self, records: Option<&[Digest]>) {
        let depends = |run: &Arc<Run>| {
            records.is_none_or(|records| records.iter().any(|record| run.records.binary_search(record).is_ok()))
        };
        let dead: Vec<Arc<Entry>> = {
            let mut table = lock(&self.table);
            table.runs.retain(|_, run| !depends(run));
            let is_dead = |entry: &Entry| records.is_none() || entry.runs.iter().any(depends);
            table.objects.extract_if(.., |_, entry| is_dead(entry)).map(|(_, entry)| entry).collect()
        };
        dead.iter().for_each(|entry| entry.die());
        // Also without any: a lost worker may have left a result that the table does not name any more.
        lock(&self.table).to_purge += 1;
    }

    /// Removes what is to be removed, and looks whether it is gone.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Storage`]: then something may be there yet, and another attempt is to be made.
    pub fn purge(&self) -> Result<(), ExecutorError> {
        let _one = lock(&self.purging);
        let dealt_with = {
            let mut table = lock(&self.table);
            table.tried = Some(Instant::now());
            table.to_purge
        };
        let result = self.remove_unnamed();
        let mut table = lock(&self.table);
        match &result {
            Ok(()) => (table.purged, table.failure) = (dealt_with, None),
            Err(error) => {
                let words = format!("{error}; nothing is called erased before its objects are removed");
                if table.failure.as_ref() != Some(&words) {
                    table.tell(words.clone());
                    table.failure = Some(words);
                }
            }
        }
        result
    }

    fn remove_unnamed(&self) -> Result<(), ExecutorError> {
        let names = self.unnamed()?;
        if names.is_empty() {
            return Ok(());
        }
        self.folder.delete(&names)?;
        let left = self.unnamed()?.iter().filter(|name| names.contains(name)).count();
        let problem = || format!("still lists {left} objects that were removed");
        if left == 0 { Ok(()) } else { Err(ExecutorError::Storage { place: self.folder.place(), problem: problem() }) }
    }

    /// The objects that are there and that the table does not name.
    fn unnamed(&self) -> Result<Vec<String>, ExecutorError> {
        // Listed first: whatever is put later is named before.
        let mut listed = self.folder.list()?;
        // A folder that is not mounted looks empty.
        if !listed.iter().any(|name| name == LAUNCH_OBJECT) {
            let problem = "does not show this launch any more; bring the same folder or bucket back".to_owned();
            return Err(ExecutorError::Storage { place: self.folder.place(), problem });
        }
        let table = lock(&self.table);
        let mut named: BTreeSet<&str> = table.objects.values().map(|entry| entry.name.as_str()).collect();
        named.extend(table.results.keys().map(String::as_str));
        named.insert(LAUNCH_OBJECT);
        listed.retain(|name| !named.contains(name.as_str()));
        Ok(listed)
    }

    /// The objects of forgotten records that may be there yet, in words; `None` if there are none. Tries again to remove them, now and then.
    pub fn unforgotten(&self) -> Option<String> {
        let is_due = {
            let table = lock(&self.table);
            if table.purged == table.to_purge {
                return None;
            }
            table.failure.is_none() || table.tried.is_none_or(|tried| tried.elapsed() >= PAUSE)
        };
        if is_due && self.purge().is_ok() {
            return None;
        }
        let failure = lock(&self.table).failure.clone();
        Some(failure.unwrap_or_else(|| format!("objects in {} are to be removed", self.folder.place())))
    }

    /// Notes a failure of object storage: for a while everything goes over the links.
    pub fn rest(&self, failure: &ExecutorError) {
        let mut table = lock(&self.table);
        table.rests_until = Some(Instant::now() + REST);
        table.tell(format!("{failure}; records and stages go over the links of the workers for {} s", REST.as_secs()));
    }

    /// Returns `true` while object storage is left alone after a failure.
    pub fn is_resting(&self) -> bool {
        lock(&self.table).rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// The news for whoever watches.
    pub fn news(&self) -> Vec<String> {
        lock(&self.table).news.drain(..).collect()
    }
}

impl Table {
    fn tell(&mut self, line: String) {
        if self.news.len() == MAX_NEWS {
            self.news.pop_front();
        }
        self.news.push_back(line);
    }
}
