//! Keeping a deletion from being called erased while workers on other machines may hold its records.
//!
//! # Proof note
//!
//! *Before*: another process, or another thread of this one, accepts a deletion while stages are trained elsewhere. *After*: no process
//! writes that it is erased before no job holds one of its records any more and the session has forgotten them. *Why*: an erasure is
//! called finished after SQLite's log was truncated, which waits for whoever reads a moment from before; there is always such a reader
//! from before each deletion that was not dealt with, because a reader is dropped only when a newer one has seen no other deletion.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::StageKey;
use s3t_executor::Session;
use s3t_ledger::Epoch;
use s3t_store::{Snapshot, Store, StoreError};

/// The time between two looks at the catalogue.
const LOOK: Duration = Duration::from_millis(100);

/// A reader is renewed after this time, so that SQLite's log does not grow.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The hold of a build on the erasures of its store.
pub(super) struct Hold<'a> {
    store: &'a Store,
    session: &'a dyn Session,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The stages whose jobs are there.
    running: BTreeSet<StageKey>,
    is_over: bool,
}

/// A moment of the store that is kept, and the deletions up to which everything is forgotten.
pub(super) struct Held {
    _moment: Store,
    since: Instant,
    epoch: Epoch,
}

impl<'a> Hold<'a> {
    pub(super) fn new(store: &'a Store, session: &'a dyn Session) -> Self {
        let state = Mutex::new(State { running: BTreeSet::new(), is_over: false });
        Self { store, session, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reader of a build; `None` if records stay in this process and its children.
    pub(super) fn begin(&self, snapshot: &Snapshot) -> Result<Option<Held>, StoreError> {
        let held = || Ok(Held { _moment: self.store.at_one_moment()?, since: Instant::now(), epoch: snapshot.epoch() });
        self.session.is_elsewhere().then(held).transpose()
    }

    /// A stage whose job is there until the guard is dropped.
    pub(super) fn enter(&'a self, key: StageKey) -> Running<'a> {
        self.lock().running.insert(key);
        Running { hold: self, key }
    }

    /// Keeps readers until the build is over, and deals with each deletion.
    pub(super) fn keep(&self, mut held: Held) {
        loop {
            let is_over = {
                let waited = self.changed.wait_timeout_while(self.lock(), LOOK, |state| !state.is_over);
                waited.unwrap_or_else(PoisonError::into_inner).0.is_over
            };
            if is_over {
                // Nothing is remembered elsewhere when nobody holds erasures up any more: a deletion between two builds finds nothing.
                self.session.forget_all();
                return;
            }
            // A catalogue that cannot be read now is read later; the reader stays.
            let Ok(now) = self.store.snapshot() else { continue };
            if now.epoch() != held.epoch || !now.unerased().is_empty() || held.since.elapsed() > MAX_AGE {
                self.renew(&mut held);
            }
        }
    }

    fn renew(&self, held: &mut Held) {
        let renewed = self.store.at_one_moment().and_then(|moment| Ok((moment.snapshot()?, moment)));
        let Ok((snapshot, moment)) = renewed else { return };
        let epoch = snapshot.epoch();
        if epoch != held.epoch {
            while self.lock().running.iter().any(|key| !snapshot.is_live(key)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.session.forget_all();
        }
        *held = Held { _moment: moment, since: Instant::now(), epoch };
    }

    /// A guard that ends the hold when it is dropped.
    pub(super) fn end_later(&'a self) -> End<'a> {
        End(self)
    }
}

/// A job that is there.
pub(super) struct Running<'a> {
    hold: &'a Hold<'a>,
    key: StageKey,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.hold.lock().running.remove(&self.key);
    }
}

pub(super) struct End<'a>(&'a Hold<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}
