//! Records that may be in the memory of other machines: written into the catalogue before they leave.
//!
//! # Proof note
//!
//! *Before*: a process lets records of the store leave for other machines, where they are forgotten on its word, or at a moment of their
//! own if its word does not come. *After*: no process writes into the ledger that a deletion is erased while a machine may remember a
//! record of it, whichever processes are killed or stopped. *Why*: a hold names the newest deletion of which nothing is remembered
//! elsewhere, and the moment until which anything may be. It is in the catalogue, synced, before a record leaves, and is renewed before any
//! machine may remember longer (see [`Elsewhere::lasts`]). Whoever writes "erased" does so in a transaction that reads all holds, and
//! passes over the deletions that are newer than one that is not over. A hold ends with its moment, by each clock that can tell, or when
//! the process that made it says that everything is forgotten.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Digest;
use s3t_ledger::Epoch;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Change};
use crate::clock::Moment;
use crate::{Store, StoreError, random};

/// The name in the table `store`.
const NAME: &str = "elsewhere";

/// The time between two looks at whether a hold has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// A hold, as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    /// The deletions up to which everything is forgotten elsewhere.
    epoch: u64,
    until: Moment,
}

fn parse(bytes: Option<Vec<u8>>, catalogue: &std::path::Path) -> Result<Vec<Row>, StoreError> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    let wrong = |error| StoreError::damaged(catalogue, format!("its holds on erasures cannot be read ({error})"));
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// The time for which records of a deletion may be remembered elsewhere; `None` if they are not.
fn remembered(rows: &[Row], now: &Moment, epoch: Epoch) -> Option<Duration> {
    let held = rows.iter().filter(|row| row.epoch < epoch.0).map(|row| row.until.left_by_any_clock(now));
    held.filter(|left| !left.is_zero()).max()
}

/// The holds that are there, for whoever writes that deletions are erased.
pub(crate) struct Holds {
    rows: Vec<Row>,
    now: Moment,
}

impl Holds {
    pub(crate) fn of_change(change: &Change<'_>) -> Result<Self, StoreError> {
        Ok(Self { rows: parse(change.read(|queries| queries.setting(NAME))?, change.path())?, now: Moment::now() })
    }

    /// Returns `true` if records of a deletion may be remembered elsewhere.
    pub(crate) fn hold(&self, epoch: Epoch) -> bool {
        remembered(&self.rows, &self.now, epoch).is_some()
    }
}

/// A hold on the erasures of a store: records may be in the memory of other machines. It stays until it is [released](Self::release), or
/// until its moment if this process ends before.
#[derive(Debug)]
pub struct Elsewhere<'a> {
    store: &'a Store,
    connection: Catalogue,
    id: String,
    until: Arc<Mutex<Moment>>,
}

impl Store {
    /// Writes down that records may be in the memory of other machines for `length` from now on, and that nothing is remembered there of
    /// the deletions up to `epoch`. Until then no process calls a newer deletion erased.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], [`StoreError::Io`] or [`StoreError::Database`]; then no record may leave.
    pub fn hold_elsewhere(&self, epoch: Epoch, length: Duration) -> Result<Elsewhere<'_>, StoreError> {
        let id = Digest::from_bytes(random::bytes()?).short();
        let until = Arc::new(Mutex::new(Moment::now()));
        let mut elsewhere = Elsewhere { store: self, connection: self.own_connection()?, id, until };
        elsewhere.renew(epoch, length)?;
        Ok(elsewhere)
    }

    /// The time for which records of deletions that are not called erased may be remembered by other machines; `None` if they are not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Database`].
    pub fn remembered_elsewhere(&self) -> Result<Option<Duration>, StoreError> {
        let rows = {
            let inner = self.inner();
            parse(inner.catalogue.get(NAME)?, inner.catalogue.path())?
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let (now, snapshot) = (Moment::now(), self.snapshot()?);
        Ok(snapshot.unerased().iter().filter_map(|epoch| remembered(&rows, &now, *epoch)).max())
    }

    /// Waits until no machine remembers a record of a deletion; `false` if one may still at `until`.
    pub(crate) fn is_forgotten_by(&self, until: Instant) -> bool {
        while !matches!(self.remembered_elsewhere(), Ok(None)) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

impl Elsewhere<'_> {
    /// Has the hold last for `length` from now on, for all deletions after `epoch`.
    ///
    /// # Errors
    ///
    /// As [`Store::hold_elsewhere`]; then the hold is as it was.
    pub fn renew(&mut self, epoch: Epoch, length: Duration) -> Result<(), StoreError> {
        let until = Moment::now().plus(length);
        self.write(Some(Row { id: self.id.clone(), epoch: epoch.0, until: until.clone() }))?;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        Ok(())
    }

    /// Ends the hold: everything is forgotten.
    ///
    /// # Errors
    ///
    /// As [`Store::hold_elsewhere`]; then the hold ends at its moment.
    pub fn release(mut self) -> Result<(), StoreError> {
        self.write(None)
    }

    /// A function that says whether the hold lasts for this time from now on at least. Nobody may remember a record for longer.
    pub fn lasts(&self) -> impl Fn(Duration) -> bool + Send + Sync + 'static {
        let until = Arc::clone(&self.until);
        move |time| {
            let until = until.lock().unwrap_or_else(PoisonError::into_inner);
            until.left_by_each_clock(&Moment::now()) > time
        }
    }

    /// Writes the row of this hold, and drops those that are over.
    fn write(&mut self, row: Option<Row>) -> Result<(), StoreError> {
        let id = &self.id;
        self.connection.change(&self.store.secret, &self.store.signing, |change| {
            let Holds { mut rows, now } = Holds::of_change(change)?;
            rows.retain(|row| row.id != *id && !row.until.left_by_any_clock(&now).is_zero());
            rows.extend(row);
            let bytes = serde_json::to_vec(&rows).map_err(|error| {
                StoreError::damaged(change.path(), format!("a hold on erasures cannot be written ({error})"))
            })?;
            change.set(NAME, &bytes)
        })
    }
}
