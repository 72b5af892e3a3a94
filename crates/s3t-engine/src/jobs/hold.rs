//! Keeping a deletion from being called erased while workers on other machines may hold its records.
//!
//! # Proof note
//!
//! *Before*: another process, or another thread of this one, accepts a deletion while stages are trained elsewhere. *After*: no process
//! writes that it is erased before no job holds one of its records any more and the session has forgotten them, or every worker has ended
//! by itself. *Why*: the store keeps a hold, written before the first job leaves, that lasts longer than any worker's lease (see
//! [`Elsewhere`]): no lease is renewed, and no worker is given a job, but while the hold lasts for a lease more. It names the deletions
//! that were dealt with, which are those from before the moment at which no job held a record of theirs. Where this process was stopped for
//! so long that the hold was over, no job leaves before each whose records were deleted meanwhile has ended. Where the session has left
//! sealed copies in object storage, a deletion is dealt with when they are removed there. At the end of a build a storage that does not
//! remove them is waited for as long as a lease; then the hold ends, because nobody has the keys of these copies any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::StageKey;
use s3t_executor::Session;
use s3t_ledger::Epoch;
use s3t_store::{Elsewhere, Snapshot, Store, StoreError};

/// The time between two looks at the catalogue.
const LOOK: Duration = Duration::from_millis(100);

/// The hold of a build on the erasures of its store.
pub(super) struct Hold<'a> {
    store: &'a Store,
    session: &'a dyn Session,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The stages whose jobs are there.
    running: BTreeSet<StageKey>,
    /// The stages whose records were deleted while the hold was over.
    lost: BTreeSet<StageKey>,
    /// The deletions up to which everything is forgotten elsewhere.
    epoch: Epoch,
    is_over: bool,
    /// The build is over, and nothing is remembered elsewhere.
    is_forgotten: bool,
}

/// A hold of the store, with the time for which it is renewed.
pub(super) struct Held<'a> {
    elsewhere: Elsewhere<'a>,
    lasts: Arc<dyn Fn(Duration) -> bool + Send + Sync>,
    length: Duration,
    every: Duration,
}

impl<'a> Hold<'a> {
    pub(super) fn new(store: &'a Store, session: &'a dyn Session) -> Self {
        Self { store, session, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this time, or until `is_over`.
    fn wait(&self, time: Duration, is_over: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !is_over(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Holds the erasures of the store for a build; `None` if records stay in this process and its children.
    pub(super) fn begin(&self, snapshot: &Snapshot) -> Result<Option<Held<'a>>, StoreError> {
        let Some(lease) = self.session.lease() else { return Ok(None) };
        let slack = (lease / 2).clamp(Duration::from_secs(2), Duration::from_secs(30));
        let length = lease.mul_f64(1.01) + slack;
        let elsewhere = self.store.hold_elsewhere(snapshot.epoch(), length)?;
        self.lock().epoch = snapshot.epoch();
        let lasts: Arc<dyn Fn(Duration) -> bool + Send + Sync> = Arc::new(elsewhere.lasts());
        self.session.permit(Some(Arc::clone(&lasts)));
        Ok(Some(Held { elsewhere, lasts, length, every: slack / 4 }))
    }

    /// A stage whose job is there until the guard is dropped.
    pub(super) fn enter(&'a self, key: StageKey) -> Running<'a> {
        self.lock().running.insert(key);
        Running { hold: self, key }
    }

    /// Returns `true` for a stage of which nothing may leave any more.
    pub(super) fn has_lost(&self, key: &StageKey) -> bool {
        self.lock().lost.contains(key)
    }

    /// Keeps the hold of the store until everything is forgotten.
    pub(super) fn keep(&self, mut held: Held<'a>) {
        let mut last = (self.lock().epoch, Instant::now());
        let mut tried = last.0;
        loop {
            let state = self.wait(LOOK, |state| state.is_forgotten || state.epoch != tried);
            let (epoch, is_forgotten) = (state.epoch, state.is_forgotten);
            drop(state);
            if is_forgotten {
                if let Err(error) = held.elsewhere.release() {
                    tracing::warn!(%error, "erasures are held up until the leases of workers would have ended");
                }
                self.session.permit(None);
                return;
            }
            tried = epoch;
            let has_lapsed = !(held.lasts)(Duration::ZERO);
            if (epoch == last.0 && last.1.elapsed() < held.every && !has_lapsed) || (has_lapsed && !self.is_clean()) {
                continue;
            }
            // A catalogue that cannot be written now is written later; the hold stays as it is.
            match held.elsewhere.renew(epoch, held.length) {
                Ok(()) => last = (epoch, Instant::now()),
                Err(error) => tracing::warn!(%error, "the hold on erasures is renewed later"),
            }
        }
    }

    /// Returns `true` if no job holds a record that was deleted; otherwise such jobs are to end.
    fn is_clean(&self) -> bool {
        let Ok(snapshot) = self.store.snapshot() else { return false };
        let mut state = self.lock();
        let dead: BTreeSet<StageKey> = state.running.iter().filter(|key| !snapshot.is_live(key)).copied().collect();
        let is_clean = dead.is_empty();
        state.lost.extend(dead);
        is_clean
    }

    /// Deals with each deletion until the build is over, and forgets everything then: a deletion between two builds finds nothing.
    /// `tell` is called with what keeps it waiting at the end.
    pub(super) fn forget_deleted(&self, tell: &(dyn Fn(&str) + Sync)) {
        // The newest deletion that the session was told of.
        let mut told = self.lock().epoch;
        loop {
            let state = self.wait(LOOK, |state| state.is_over);
            let (epoch, is_over) = (state.epoch, state.is_over);
            drop(state);
            if is_over {
                self.session.forget_all();
                self.wait_for_storage(tell);
                self.lock().is_forgotten = true;
                self.changed.notify_all();
                return;
            }
            // A catalogue that cannot be read now is read later.
            let Ok(now) = self.store.snapshot() else { continue };
            if now.epoch() != told {
                while self.lock().running.iter().any(|key| !now.is_live(key)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                self.session.forget_all();
                told = now.epoch();
            }
            if told != epoch && self.session.unforgotten().is_none() {
                self.lock().epoch = told;
                self.changed.notify_all();
            }
        }
    }

    /// Waits for object storage that has not removed its copies yet, as long as a lease.
    fn wait_for_storage(&self, tell: &(dyn Fn(&str) + Sync)) {
        let until = Instant::now() + self.session.lease().unwrap_or_default();
        let mut is_told = false;
        while let Some(left) = self.session.unforgotten() {
            if !std::mem::replace(&mut is_told, true) {
                tell(&left);
            }
            if Instant::now() >= until {
                let why = "the copies that are left are sealed, and nobody has their keys any more; the next training removes them";
                tracing::warn!(left, why);
                return tell(why);
            }
            std::thread::sleep(LOOK);
        }
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
        let mut state = self.hold.lock();
        state.running.remove(&self.key);
        state.lost.remove(&self.key);
    }
}

pub(super) struct End<'a>(&'a Hold<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}
