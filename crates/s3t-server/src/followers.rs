//! The followers of a leader: what they have confirmed, and until when they may answer.
//!
//! # Proof note
//!
//! *Before*: the store has accepted deletion `E`. *After* [`Confirmed::has`] is true for it: no follower's answer whose request arrives
//! from then on uses a stage that `E` cut. *Why*:
//!
//! 1. A follower answers only while it has a lease, and it has one for epoch `e` only if it has put the members of a state of epoch `e`
//!    or later in place before it asked for the lease (see the `follow` module).
//! 2. A lease for epoch `e` is granted after the follower's row was written, and only if the catalogue's epoch, read after that, is not
//!    above `e`. So a lease for an epoch before `E` is granted only if its row was written before the store accepted `E`; whoever
//!    looks at the rows after that sees it.
//! 3. `E` waits until each row has an epoch of at least `E`, or has not changed for as long as the longest lease that it was ever given
//!    and a margin, by the monotonic clock of the process that looks. The lease ended before that: the follower counts from a moment
//!    before it sent the request, the leader from one after it has read the row that the request wrote, and the margin covers clocks of
//!    different speed. A row that is renewed meanwhile has, by 2, an epoch of at least `E`.
//!
//! Rows are on disk and no clock time is in them. So a leader that has just started waits for every lease that the one before it gave, as
//! if it had given it at its start, and a wall clock that is set changes nothing.
//!
//! An accepted request whose names are all unknown waits as one whose names are known: both raise the version of the state, and are in
//! effect when every follower has confirmed that version. So the time tells nothing about who is among the records.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Digest;
use s3t_engine::ReplicaState;
use s3t_ledger::Epoch;
use s3t_store::Snapshot;

use crate::ServerError;
use crate::random::random_name;
use crate::refusal::{Kind, Refusal};
use crate::replication::{Confirmation, Confirmed as Reply, Published, margin};
use crate::requests::{FollowerRow, Requests};
use crate::service::Service;

/// The most followers at a time.
const MAX_FOLLOWERS: usize = 256;

/// The time between two looks at the rows while a request waits: leases end without a message.
const LOOK: Duration = Duration::from_millis(20);

/// The time between two looks while no request waits.
const IDLE: Duration = Duration::from_secs(1);

/// The followers of a leader.
pub(crate) struct Followers {
    requests: Arc<Requests>,
    lease: Duration,
    /// The name of this process in versions.
    start: String,
    /// The number of requests that were accepted by this process, part of every version.
    accepted: tokio::sync::watch::Sender<u64>,
    state: Mutex<State>,
    published: Mutex<Option<Known>>,
    woken: (Mutex<bool>, Condvar),
}

#[derive(Default)]
struct State {
    /// The last change of each row that this process has seen.
    seen: HashMap<String, Seen>,
    /// The version that has to be confirmed, of each request that waits.
    marks: HashMap<String, u64>,
}

struct Seen {
    renewals: i64,
    since: Instant,
    /// The newest version of this process that the follower has confirmed.
    version: u64,
}

/// The state of a snapshot, as it was told to followers.
struct Known {
    snapshot: Arc<Snapshot>,
    state: ReplicaState,
    digest: Digest,
}

/// The confirmations of one moment.
pub(crate) struct Confirmed<'a> {
    rows: Vec<(FollowerRow, u64)>,
    state: MutexGuard<'a, State>,
}

impl Confirmed<'_> {
    /// `true` if no follower answers with stages that a request cut.
    pub(crate) fn has(&self, request: &str, epoch: Option<Epoch>) -> bool {
        let mark = self.state.marks.get(request).copied().unwrap_or(1);
        self.rows.iter().all(|(row, version)| *version >= mark && epoch.is_none_or(|epoch| row.epoch >= epoch))
    }
}

impl Followers {
    pub(crate) fn new(requests: Arc<Requests>, lease: Duration) -> Result<Self, ServerError> {
        Ok(Self {
            requests,
            lease,
            start: random_name::<6>()?,
            accepted: tokio::sync::watch::Sender::new(1),
            state: Mutex::default(),
            published: Mutex::default(),
            woken: (Mutex::new(false), Condvar::new()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed in single steps, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The followers that may have a lease, each with the newest version that it confirmed.
    fn rows(&self, state: &mut State) -> Result<Vec<(FollowerRow, u64)>, ServerError> {
        let rows = self.requests.followers()?;
        let now = Instant::now();
        state.seen.retain(|name, _| rows.iter().any(|row| row.name == *name));
        let mut live = Vec::with_capacity(rows.len());
        for row in rows {
            let new = Seen { renewals: row.renewals, since: now, version: 0 };
            let seen = state.seen.entry(row.name.clone()).or_insert(new);
            if seen.renewals != row.renewals {
                (seen.renewals, seen.since) = (row.renewals, now);
            }
            let lease = Duration::from_millis(row.lease_ms);
            if now.duration_since(seen.since) > lease + margin(lease) {
                tracing::warn!(target: "s3t::followers", follower = row.name, "the lease of a follower has run out");
                self.requests.remove_follower(&row)?;
            } else {
                live.push((row, seen.version));
            }
        }
        Ok(live)
    }

    /// Notes that the store has accepted a request: `true` if it is in effect only when followers have confirmed.
    pub(crate) fn accept(&self, request: &str) -> Result<bool, ServerError> {
        let mut state = self.state();
        if self.rows(&mut state)?.is_empty() {
            return Ok(false);
        }
        self.accepted.send_modify(|number| *number += 1);
        state.marks.insert(request.to_owned(), *self.accepted.borrow());
        Ok(true)
    }

    /// Notes that a request is in effect.
    pub(crate) fn forget(&self, request: &str) {
        self.state().marks.remove(request);
    }

    /// The confirmations of this moment.
    pub(crate) fn confirmed(&self) -> Result<Confirmed<'_>, ServerError> {
        let mut state = self.state();
        let rows = self.rows(&mut state)?;
        Ok(Confirmed { rows, state })
    }

    /// The epoch up to which every follower that has a lease has forgotten what was cut; `None` without followers.
    pub(crate) fn erased(&self) -> Result<Option<Epoch>, ServerError> {
        Ok(self.rows(&mut self.state())?.iter().map(|(row, _)| row.erased).min())
    }

    /// The number of followers that may have a lease.
    pub(crate) fn number(&self) -> Result<usize, ServerError> {
        Ok(self.rows(&mut self.state())?.len())
    }

    /// The longest time for which an accepted request waits for a follower: its lease ends in that.
    pub(crate) fn longest_wait(&self) -> Result<Duration, ServerError> {
        let rows = self.requests.followers()?;
        let longest = rows.iter().map(|row| Duration::from_millis(row.lease_ms)).max().unwrap_or(self.lease);
        Ok(longest + margin(longest) + IDLE)
    }

    /// Takes a confirmation, and renews the lease if it is of the newest epoch.
    pub(crate) fn confirm(&self, service: &Service, confirmation: &Confirmation) -> Result<Reply, Refusal> {
        let Confirmation { follower: name, version, epoch, erased, leaving } = confirmation;
        self.check_allowed()?;
        if name.len() != 32 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Refusal::invalid("`follower` takes 32 hexadecimal digits"));
        }
        let rows = self.requests.followers()?;
        let known = rows.iter().find(|row| row.name == *name);
        let reply = |granted, epoch| Reply { granted, lease_ms: self.lease.as_millis() as u64, epoch };
        let before = service.epoch()?;
        if *epoch > before || erased > epoch {
            let message = format!("the follower confirms epoch {epoch}, and this store is at {before}");
            return Err(Refusal::new(Kind::Conflict, message));
        }
        if *leaving {
            if let Some(row) = known {
                self.requests.remove_follower(row)?;
            }
            tracing::info!(target: "s3t::followers", follower = name, "a follower has left");
            self.wake();
            return Ok(reply(false, before));
        }
        // Not renewed either: whoever confirms the past for ever would hold deletions up.
        if *epoch < before {
            return Ok(reply(false, before));
        }
        match known {
            None if rows.len() >= MAX_FOLLOWERS => {
                return Err(Refusal::overloaded(format!("there are {MAX_FOLLOWERS} followers already"), 60));
            }
            None => tracing::info!(target: "s3t::followers", follower = name, "a follower has come"),
            Some(_) => {}
        }
        let lease_ms = self.lease.as_millis() as u64;
        let row = FollowerRow { name: name.clone(), epoch: *epoch, erased: *erased, lease_ms, renewals: 1 };
        self.requests.renew_follower(&row)?;
        // After the row is written, see the module.
        let after = service.epoch()?;
        let granted = *epoch >= after;
        let mut state = self.state();
        self.rows(&mut state)?;
        if let Some(seen) = state.seen.get_mut(name).filter(|_| granted) {
            seen.version = seen.version.max(self.number_of(version));
        }
        drop(state);
        self.wake();
        Ok(reply(granted, after))
    }

    fn check_allowed(&self) -> Result<(), Refusal> {
        if self.lease.is_zero() {
            let message = "this server takes no followers: `server.lease_seconds` is 0";
            return Err(Refusal::new(Kind::Forbidden, message));
        }
        Ok(())
    }

    /// Refuses a stage to whoever has no lease: nobody would wait until it is gone there.
    pub(crate) fn check_lease(&self, name: &str) -> Result<(), Refusal> {
        self.check_allowed()?;
        if self.rows(&mut self.state())?.iter().any(|(row, _)| row.name == name) {
            return Ok(());
        }
        Err(Refusal::new(Kind::Conflict, "no lease for this follower; confirm the newest state first"))
    }

    /// The stages that the store answers with now.
    pub(crate) fn published(&self, service: &Service) -> Result<Published, Refusal> {
        self.check_allowed()?;
        // Before the state: whoever confirms this number has seen every deletion that was counted in it.
        let number = *self.accepted.borrow();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = service.snapshot()?;
        if published.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.snapshot, &snapshot)) {
            let mut contents = published.take().map(|known| known.state.stages).unwrap_or_default();
            let state = service.system().replica_state(&mut contents)?;
            *published = Some(Known { snapshot, digest: state.digest(), state });
        }
        let Some(known) = &*published else { return Err(Refusal::new(Kind::Failed, "the state is missing")) };
        Ok(Published { version: self.version(number, &known.digest), state: known.state.clone() })
    }

    fn version(&self, number: u64, digest: &Digest) -> String {
        format!("{}.{number}.{}", self.start, digest.short())
    }

    /// The number in a version of this process; 0 for another's.
    fn number_of(&self, version: &str) -> u64 {
        let number = version.strip_prefix(&self.start).and_then(|rest| rest.strip_prefix('.')?.split('.').next());
        number.and_then(|number| number.parse().ok()).filter(|number| *number <= *self.accepted.borrow()).unwrap_or(0)
    }

    /// Changes when a request is accepted.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.accepted.subscribe()
    }

    /// Has whoever [waits](Self::wait) look again.
    pub(crate) fn wake(&self) {
        *self.woken.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.1.notify_all();
    }

    /// Waits until a follower confirms or a request is accepted, for a while at most.
    pub(crate) fn wait(&self, is_awaited: bool) {
        let (woken, changed) = &self.woken;
        let time = if is_awaited { LOOK } else { IDLE };
        let woken = woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, _) =
            changed.wait_timeout_while(woken, time, |woken| !*woken).unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}
