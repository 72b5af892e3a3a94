//! A follower: it answers with the stages of a leader on another machine, for as long as the leader lets it.
//!
//! # Proof note
//!
//! *Before*: the leader has called a deletion complete. *After*: no answer whose request arrives at this follower from then on uses a stage
//! that the deletion cut. *Why*: an answer first looks at the lease, then takes the members, and both after its request has arrived. Let
//! the lease be granted for epoch `e`. Members were of epoch `e` or later before that lease began, since one thread takes over a state
//! ([`Replica::apply`]), then confirms its epoch, then begins the lease that the confirmation brought; and epochs never fall. So the
//! members are of epoch `e` at least. The leader called the deletion `E` complete either after this follower had confirmed `E` or more,
//! and then its members have been of `E` since before that; or after every lease for an epoch before `E` had run out by the leader's
//! clock, which is after it had run out here: a lease begins here at a moment before the confirmation was sent, there after it was read,
//! and the leader adds a margin (see the `followers` module). So a lease that is valid after that is for `E` or more.
//!
//! The lease is looked at first: were the members taken first, a lease that begins between the two would let old members answer.
//!
//! When the lease has run out, the follower also forgets every stage. So nothing that a deletion cut outlives the lease here, however
//! long the leader cannot be reached, and a follower that comes back begins with what is live then. Stages are in memory only (see
//! [`Replica`]).
//!
//! A leader is trusted with what answers, and with nothing else: what it sends is bounded in size and checked, and refused by name.

mod leader;
mod lease;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Gauge;
use s3t_core::{Record, StageKey};
use s3t_engine::{Answer, CheckedPipeline, EngineError, Replica, ServedModels, ServesModels};
use s3t_ledger::Epoch;
use s3t_models::Backbone;

use self::leader::Leader;
use self::lease::{Lease, Moment};
use crate::ServerError;
use crate::life::Life;
use crate::metrics::{Metrics, StoreFigures};
use crate::random::random_name;
use crate::refusal::{Kind, Refusal};
use crate::replication::Confirmation;
use crate::settings::FollowSettings;

/// The longest time that the leader is asked to wait for a new state. The lease is renewed as often.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The longest lease that is believed.
const MAX_LEASE: Duration = Duration::from_secs(86_400);

/// The times between two attempts after a failure: the first, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The time between two looks at whether the server stops.
const LOOK: Duration = Duration::from_millis(50);

/// A follower of a leader.
pub(crate) struct Follower {
    replica: Replica,
    leader: Leader,
    /// The name of this process: two processes never share a lease.
    name: String,
    lease: Lease,
    state: Mutex<State>,
    /// The stage that is being fetched.
    fetching: Mutex<Option<StageKey>>,
    changed: Condvar,
    lag: Gauge,
    left: Gauge,
}

struct State {
    /// The lease that the leader gives.
    lease: Duration,
    erased: Epoch,
    /// The failure of the last turn, and of the last stage.
    problem: Option<String>,
    stage_problem: Option<String>,
    /// The last moment at which nothing was missing that the leader had.
    current: Instant,
    /// `true` if there may be something to fetch.
    is_woken: bool,
    /// `true` if a stage was not what the state says, so that the state is asked for again.
    is_doubtful: bool,
}

/// The models of each token are taken as those of an answer are: the lease is looked at first.
impl ServesModels for Follower {
    fn serving(&self) -> Result<ServedModels, EngineError> {
        if self.lease.left().is_none() {
            return Err(EngineError::NothingServes);
        }
        self.replica.serving()
    }

    fn is_live(&self, stage: &StageKey) -> Result<bool, EngineError> {
        self.replica.is_live(stage)
    }

    fn pipeline(&self) -> &CheckedPipeline {
        self.replica.pipeline()
    }

    fn backbone(&self) -> &Arc<Backbone> {
        self.replica.backbone()
    }
}

impl Follower {
    pub(crate) fn open(replica: Replica, settings: &FollowSettings, metrics: &Metrics) -> Result<Self, ServerError> {
        let state = State {
            lease: Duration::ZERO,
            erased: Epoch::default(),
            problem: None,
            stage_problem: None,
            current: Instant::now(),
            is_woken: false,
            is_doubtful: false,
        };
        Ok(Self {
            replica,
            leader: Leader::open(settings)?,
            name: random_name::<16>()?,
            lease: Lease::default(),
            state: Mutex::new(state),
            fetching: Mutex::default(),
            changed: Condvar::new(),
            lag: metrics.further("s3t_follow_lag_seconds", "Seconds since nothing was missing that the leader had."),
            left: metrics.further("s3t_follow_lease_seconds", "Seconds for which this follower may still answer."),
        })
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(crate) fn leader(&self) -> &str {
        self.leader.url()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetching(&self) -> MutexGuard<'_, Option<StageKey>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for records, from one moment after the call at which there was a lease.
    pub(crate) fn answer(&self, records: &[Record]) -> Result<Answer, Refusal> {
        // Before the members are taken, see the module.
        self.check_lease()?;
        self.replica.answer(records).map_err(Refusal::from)
    }

    /// The models that answer, at a moment at which there was a lease.
    pub(crate) fn serving_models(&self) -> Result<ServedModels, Refusal> {
        // Before the members are taken, see the module.
        self.check_lease()?;
        self.replica.serving().map_err(Refusal::from)
    }

    fn check_lease(&self) -> Result<(), Refusal> {
        if self.lease.left().is_some() {
            return Ok(());
        }
        let why = self.state().problem.clone().unwrap_or_else(|| "it has not answered yet".to_owned());
        let message =
            format!("this follower has no lease of its leader {}, so it may not answer: {why}", self.leader());
        Err(Refusal { retry_after: Some(1), ..Refusal::new(Kind::Unavailable, message) })
    }

    /// Refuses while there is no lease, or no stages to answer with.
    pub(crate) fn readiness(&self) -> Result<(), Refusal> {
        self.check_lease()?;
        let status = self.replica.status();
        if !status.has_caught_up {
            let behind = EngineError::CatchingUp { held: status.held, wanted: status.wanted };
            let mut refusal = Refusal::from(behind);
            if let Some(problem) = &self.state().stage_problem {
                refusal.message = format!("{}; {problem}", refusal.message);
            }
            return Err(refusal);
        }
        if status.shards.iter().all(|(depth, _)| *depth == 0) {
            return Err(EngineError::NothingServes.into());
        }
        Ok(())
    }

    /// Brings the figures up to date.
    pub(crate) fn look(&self, metrics: &Metrics) {
        let status = self.replica.status();
        metrics.store(&StoreFigures {
            epoch: status.epoch,
            shards: status.shards,
            live_stages: status.held,
            planned_stages: status.planned,
        });
        self.lag.set(self.state().current.elapsed().as_secs_f64());
        self.left.set(self.lease.left().unwrap_or_default().as_secs_f64());
    }

    /// Watches the leader until the server stops: takes over its states, confirms them, renews the lease.
    pub(crate) fn watch(&self, life: &Life) {
        let (mut version, mut pause) = (None, FIRST_PAUSE);
        while !life.is_over() {
            match self.turn(&mut version) {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if self.state().problem.take().is_some() {
                        tracing::info!(target: "s3t::follow", "the leader is followed again");
                    }
                }
                Err(problem) => {
                    let known = self.state().problem.replace(problem.clone());
                    if known.as_ref() != Some(&problem) {
                        tracing::warn!(target: "s3t::follow", "{problem}");
                    }
                    rest(life, pause);
                    pause = LAST_PAUSE.min(2 * pause);
                }
            }
        }
    }

    fn turn(&self, version: &mut Option<String>) -> Result<(), String> {
        let is_doubtful = std::mem::take(&mut self.state().is_doubtful);
        if is_doubtful || !self.replica.has_state() {
            *version = None;
        }
        let wait = match version {
            None => Duration::ZERO,
            // Members that a deletion took away go with the answers that have them: the leader is told soon.
            Some(_) if !self.replica.has_forgotten() => LOOK,
            Some(_) => MAX_WAIT.min(self.state().lease / 3),
        };
        let asked = Instant::now();
        if let Some(published) = self.leader.state(version.as_deref(), wait)? {
            self.replica.apply(published.state).map_err(|error| error.to_string())?;
            *version = Some(published.version);
        }
        // A stage that is gone may still be on its way.
        let is_arriving = self.fetching().is_some_and(|key| !self.replica.wants(&key));
        let epoch = self.replica.epoch();
        let erased = {
            let mut state = self.state();
            if !is_arriving && self.replica.has_forgotten() {
                state.erased = epoch;
            }
            state.erased.min(epoch)
        };
        let start = Moment::now();
        let version = version.clone().ok_or("the leader gave no state")?;
        let confirmation = Confirmation { follower: self.name.clone(), version, epoch, erased, leaving: false };
        let confirmed = self.leader.confirm(&confirmation)?;
        let is_complete = self.replica.missing().is_empty();
        let mut state = self.state();
        if confirmed.granted {
            state.lease = Duration::from_millis(confirmed.lease_ms).min(MAX_LEASE);
            self.lease.begin(start, state.lease);
        }
        if is_complete {
            state.current = asked;
        }
        state.is_woken = true;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Fetches the stages that are missing until the server stops.
    pub(crate) fn fetch(&self, life: &Life) {
        let mut pause = FIRST_PAUSE;
        while !life.is_over() {
            let missing = if self.lease.left().is_some() { self.replica.missing() } else { Vec::new() };
            if missing.is_empty() {
                let state = self.state();
                let wait = self.changed.wait_timeout_while(state, MAX_WAIT, |state| !state.is_woken);
                wait.unwrap_or_else(PoisonError::into_inner).0.is_woken = false;
                continue;
            }
            let mut failed = None;
            for (key, bytes) in missing {
                if life.is_over() {
                    return;
                }
                let fetched = self.fetch_stage(&key, bytes);
                failed = fetched.err().filter(|_| self.replica.wants(&key)).or(failed);
            }
            let known = {
                let mut state = self.state();
                state.is_doubtful = failed.is_some();
                std::mem::replace(&mut state.stage_problem, failed.clone())
            };
            match failed {
                None => pause = FIRST_PAUSE,
                Some(problem) => {
                    if known.as_ref() != Some(&problem) {
                        tracing::warn!(target: "s3t::follow", "{problem}");
                    }
                    rest(life, pause);
                    pause = LAST_PAUSE.min(2 * pause);
                }
            }
        }
    }

    fn fetch_stage(&self, key: &StageKey, bytes: u64) -> Result<(), String> {
        {
            // Whoever confirms what is forgotten looks at this after a state was taken over.
            let mut fetching = self.fetching();
            if !self.replica.wants(key) {
                return Ok(());
            }
            *fetching = Some(*key);
        }
        let content = self.leader.stage(&self.name, key, bytes, &|| self.replica.wants(key));
        let added = content.and_then(|content| match content {
            Some(content) => self.replica.add(key, &content).map(drop).map_err(|error| error.to_string()),
            None => Ok(()),
        });
        *self.fetching() = None;
        added.map_err(
            |problem| if problem.contains(&key.to_string()) { problem } else { format!("stage {key}: {problem}") },
        )
    }

    /// Forgets the stages when the lease has run out, until the server stops.
    pub(crate) fn guard(&self, life: &Life, mut also: impl FnMut()) {
        let mut looked = Instant::now();
        while !life.is_over() {
            self.lease.end(false, || {
                tracing::warn!(target: "s3t::follow", "the lease has run out: nothing is answered until the leader is reached");
                self.replica.clear();
            });
            if looked.elapsed() >= MAX_WAIT {
                looked = Instant::now();
                also();
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Gives the lease back, so that no deletion waits for it. Nothing is answered from then on.
    pub(crate) fn leave(&self) {
        let mut had_one = false;
        self.lease.end(true, || had_one = true);
        if !had_one {
            return;
        }
        let epoch = self.replica.epoch();
        let (follower, version) = (self.name.clone(), String::new());
        let leaving = Confirmation { follower, version, epoch, erased: epoch, leaving: true };
        if let Err(problem) = self.leader.confirm(&leaving) {
            tracing::warn!(target: "s3t::follow", "the lease could not be given back, and runs out by itself: {problem}");
        }
    }
}

/// Waits, but not for long when the server stops.
fn rest(life: &Life, time: Duration) {
    let until = Instant::now() + time;
    while !life.is_over() && Instant::now() < until {
        std::thread::sleep(LOOK.min(time));
    }
}
