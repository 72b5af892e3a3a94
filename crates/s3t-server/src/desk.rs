//! Deletion requests from their arrival to their erasure.
//!
//! # Proof note
//!
//! *Before*: a caller names records and subjects. *After* [`Desk::submit`] gives a row that is in effect: the deletion survives any
//! crash, and no answer that begins from then on uses a stage that saw one of the records. *Why*: the row is given after the store
//! has accepted the deletion, and that is what the store promises of it; where there are followers, after each of them has confirmed it
//! or may not answer any more (see the `followers` module). A crash between the two leaves either a request that
//! waits, which is done when the server starts again, or a deletion that the store knows and finds again by its id.
//!
//! A caller that may not know who is among the records gets the same answers for a known name as for an unknown one: unknown names
//! are passed over, and neither counts nor receipts are shown to it.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use s3t_engine::EngineError;
use s3t_ledger::Epoch;
use s3t_store::{DeletionRequest, StoreError};

use crate::clock::now_ms;
use crate::followers::Followers;
use crate::metrics::Metrics;
use crate::opendsr::OpenDsr;
use crate::refusal::{Kind, Refusal};
use crate::requests::{Names, NewRow, Origin, Phase, Put, Requests, Row};
use crate::service::Service;
use crate::tokens::Caller;

/// The milliseconds before its due time in which a request is done at the latest.
const MARGIN_MS: i64 = 5 * 60 * 1000;

/// The milliseconds without a request after which a stream of them is over.
const PAUSE_MS: i64 = 50;

/// A request to delete, as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct NewDeletion {
    pub(crate) id: String,
    pub(crate) names: Names,
    /// The moment at which it has to be done, in milliseconds since 1970.
    pub(crate) due: Option<i64>,
    pub(crate) origin: Origin,
    pub(crate) callbacks: Vec<String>,
}

/// The rules by which deletions wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeskRules {
    /// The minutes for which deletions with a due time are collected.
    pub(crate) batch_minutes: u64,
    /// The requests that each shard is to survive at worst.
    pub(crate) min_budget: Option<usize>,
}

/// The say that the budget of shards has in a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brake {
    /// Held if a shard that it hits would have too little left.
    Hit,
    /// Held if a shard has so little left that any request may bring it too low, whatever this one names: so nobody learns from
    /// it who is among the records.
    Weakest,
    /// Done all the same: released, or due.
    Released,
}

/// The desk at which deletions arrive.
pub(crate) struct Desk {
    service: Service,
    requests: Arc<Requests>,
    opendsr: Option<Arc<OpenDsr>>,
    followers: Arc<Followers>,
    metrics: Arc<Metrics>,
    batch_ms: i64,
    min_budget: Option<usize>,
    wake: Mutex<Sender<()>>,
    changes: tokio::sync::watch::Sender<u64>,
    /// The failure of the last erasure, if it failed.
    problem: Mutex<Option<String>>,
    /// When the last request arrived, in milliseconds since 1970.
    arrived: std::sync::atomic::AtomicI64,
    /// Held while a request that waits is done or cancelled, so that each is done once.
    doing: Mutex<()>,
}

impl Desk {
    pub(crate) fn new(
        service: Service,
        requests: Arc<Requests>,
        opendsr: Option<Arc<OpenDsr>>,
        followers: Arc<Followers>,
        metrics: Arc<Metrics>,
        rules: DeskRules,
        wake: Sender<()>,
    ) -> Self {
        let batch_ms = (rules.batch_minutes as i64).saturating_mul(60_000);
        let changes = tokio::sync::watch::Sender::new(0);
        Self {
            service,
            requests,
            opendsr,
            followers,
            metrics,
            batch_ms,
            min_budget: rules.min_budget,
            wake: Mutex::new(wake),
            changes,
            problem: Mutex::default(),
            arrived: std::sync::atomic::AtomicI64::new(0),
            doing: Mutex::default(),
        }
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// A number that rises with every change of a request.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells those who watch that something has changed.
    pub(crate) fn tell(&self) {
        self.changes.send_modify(|number| *number += 1);
        self.followers.wake();
        // The keeper is gone when the server stops; whoever starts next finishes.
        let _ = self.wake.lock().unwrap_or_else(PoisonError::into_inner).send(());
    }

    /// `true` while requests arrive one upon the other.
    pub(crate) fn is_busy(&self) -> bool {
        now_ms() - self.arrived.load(std::sync::atomic::Ordering::Relaxed) < PAUSE_MS
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a request in, and does it unless it waits for its batch. Asking for the same again gives the request as it is.
    pub(crate) fn submit(&self, new: NewDeletion, caller: &Caller) -> Result<Row, Refusal> {
        let start = std::time::Instant::now();
        self.arrived.store(now_ms(), std::sync::atomic::Ordering::Relaxed);
        if new.names.records.is_empty() && new.names.subjects.is_empty() {
            return Err(StoreError::NothingNamed.into());
        }
        let taken = || Refusal::from(StoreError::OtherRequest(new.id.clone()));
        match self.requests.look_up(&new.id, &new.names)? {
            // Whoever sends the content of a request again has it; still, a request is its caller's.
            Some(Put::Same(row)) if *row.caller == *caller.id || caller.may_know() => {
                return match row.phase {
                    Phase::Cancelled | Phase::Failed => Err(Refusal::new(
                        Kind::Conflict,
                        format!("request `{}` is {}; ask again under a new id", row.id, row.phase.name()),
                    )),
                    // Another thread is about to do it.
                    Phase::Queued if row.due.is_none() => self.execute(&row.id, Brake::Weakest),
                    _ => Ok(row),
                };
            }
            Some(_) => return Err(taken()),
            None => {}
        }
        let request = request_of(&new.id, &new.names);
        let received = now_ms();
        let mut row = NewRow {
            id: new.id.clone(),
            caller: caller.id.to_string(),
            origin: new.origin,
            due: new.due,
            run_at: None,
            received,
            phase: Phase::InEffect,
            epoch: None,
            records: None,
            effective: None,
            callbacks: new.callbacks,
            names: new.names,
        };
        if self.service.knows_request(&new.id)? {
            // Made by other means, or before a crash: the same names, or refused.
            return self.accepted(row, &request, start);
        }
        let late = new.due.filter(|due| self.batch_ms > 0 && due - MARGIN_MS > received);
        if let Some(due) = late {
            row.phase = Phase::Queued;
            row.run_at = Some((received + self.batch_ms).min(due - MARGIN_MS));
            return self.waits(&row);
        }
        let brake = if caller.may_know() { Brake::Hit } else { Brake::Weakest };
        let known = self.service.known_names(&request)?;
        // What the names do not tell, a request by OpenDSR has to keep with its callbacks, and what is held its names.
        let waits = (!known.all && !caller.may_know())
            || row.origin == Origin::OpenDsr
            || self.is_held(brake, &request, new.due)?;
        if waits {
            row.phase = Phase::Queued;
            row.run_at = Some(received);
            let row = self.waits(&row)?;
            return self.execute(&row.id, brake);
        }
        self.accepted(row, &request, start)
    }

    /// Has the store accept a request, and notes it.
    fn accepted(&self, mut row: NewRow, request: &DeletionRequest, start: std::time::Instant) -> Result<Row, Refusal> {
        let accepted = self.service.accept(request)?;
        row.epoch = Some(accepted.effect.epoch);
        row.records = Some(accepted.effect.records);
        (row.phase, row.effective) = self.after_acceptance(&row.id, start)?;
        let put = self.requests.put(&row, &[])?;
        self.tell();
        match put {
            Put::New(row) | Put::Same(row) => Ok(row),
            Put::Other => Err(StoreError::OtherRequest(row.id).into()),
        }
    }

    /// Puts a request down to wait.
    fn waits(&self, row: &NewRow) -> Result<Row, Refusal> {
        let put = self.requests.put(row, &[])?;
        self.tell();
        match put {
            Put::New(row) | Put::Same(row) => Ok(row),
            Put::Other => Err(StoreError::OtherRequest(row.id.clone()).into()),
        }
    }

    /// `true` if a deletion has to wait because a shard would have too little left.
    fn is_held(&self, brake: Brake, request: &DeletionRequest, due: Option<i64>) -> Result<bool, Refusal> {
        let Some(min) = self.min_budget else { return Ok(false) };
        if brake == Brake::Released || due.is_some_and(|due| due - MARGIN_MS <= now_ms()) {
            return Ok(false);
        }
        Ok(match brake {
            Brake::Hit => self.service.budget_after(request)?.is_some_and(|left| left < min),
            _ => self.service.least_budget()?.is_some_and(|left| left <= min),
        })
    }

    /// Does a request that waits: the names in it that are known are deleted. A request that was done meanwhile is given as it is.
    fn execute(&self, id: &str, brake: Brake) -> Result<Row, Refusal> {
        let _doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let start = std::time::Instant::now();
        let mut row = self.requests.row(id)?.ok_or_else(|| Refusal::not_found("no deletion request of this id"))?;
        if !row.phase.waits() {
            return Ok(row);
        }
        if self.service.knows_request(&row.id)? {
            // The store accepted it before a crash.
            let effect = self.service.receipt(&row.id)?.effect;
            (row.epoch, row.records) = (Some(effect.epoch), Some(effect.records));
        } else {
            let names = self.requests.names(&row.id)?.unwrap_or_default();
            if self.is_held(brake, &request_of(&row.id, &names), row.due)? {
                if row.phase == Phase::Queued {
                    self.requests.hold(&row.id, row.due.map(|due| due - MARGIN_MS))?;
                    row.phase = Phase::Held;
                    self.tell();
                }
                return Ok(row);
            }
            (row.epoch, row.records) = self.accept_known(&row.id, &names)?;
        }
        (row.phase, row.effective) = self.after_acceptance(&row.id, start)?;
        self.advance(&row)?;
        Ok(row)
    }

    /// The phase of a request that the store has just accepted, and since when it is in effect.
    fn after_acceptance(&self, id: &str, start: std::time::Instant) -> Result<(Phase, Option<i64>), Refusal> {
        if self.followers.accept(id)? {
            return Ok((Phase::Accepted, None));
        }
        self.metrics.phases.with_label_values(&["effect"]).observe(start.elapsed().as_secs_f64());
        Ok((Phase::InEffect, Some(now_ms())))
    }

    /// Notes as in effect what was accepted and every follower has confirmed: `true` if anything still waits.
    pub(crate) fn take_effect(&self) -> Result<bool, Refusal> {
        let accepted = self.requests.in_phase(Phase::Accepted)?;
        if accepted.is_empty() {
            return Ok(false);
        }
        let (confirmed, waiting): (Vec<Row>, Vec<Row>) = {
            let confirmed = self.followers.confirmed()?;
            accepted.into_iter().partition(|row| confirmed.has(&row.id, row.epoch))
        };
        for mut row in confirmed {
            let now = now_ms();
            (row.phase, row.effective) = (Phase::InEffect, Some(now));
            let seconds = (now - row.received).max(0) as f64 / 1000.0;
            self.metrics.phases.with_label_values(&["effect"]).observe(seconds);
            self.advance(&row)?;
            self.followers.forget(&row.id);
        }
        Ok(!waiting.is_empty())
    }

    /// Has the store accept the names that it knows: the epoch and the number of records, if there are any.
    fn accept_known(&self, id: &str, names: &Names) -> Result<(Option<Epoch>, Option<u64>), Refusal> {
        loop {
            let known = self.service.known_names(&request_of(id, names))?.request;
            if known.records.is_empty() && known.subjects.is_empty() {
                return Ok((None, Some(0)));
            }
            match self.service.accept(&known) {
                // Another process deleted one of them in the meantime.
                Err(EngineError::Store(
                    StoreError::UnknownRecord(_) | StoreError::UnknownSubject(_) | StoreError::OtherSpelling { .. },
                )) => {}
                accepted => {
                    let effect = accepted?.effect;
                    return Ok((Some(effect.epoch), Some(effect.records)));
                }
            }
        }
    }

    /// Notes a request's new phase, with the callbacks that tell of it.
    fn advance(&self, row: &Row) -> Result<(), Refusal> {
        let outgoing = match &self.opendsr {
            // What waits for followers is still pending to others.
            Some(opendsr) if row.origin == Origin::OpenDsr && row.phase != Phase::Accepted => opendsr.outgoing(row)?,
            _ => Vec::new(),
        };
        self.requests.advance(row, &outgoing, now_ms())?;
        self.tell();
        Ok(())
    }

    /// Takes a request back while it waits.
    pub(crate) fn cancel(&self, id: &str) -> Result<Row, Refusal> {
        let _doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let row = self.requests.row(id)?.ok_or_else(|| Refusal::not_found("no deletion request of this id"))?;
        if !row.phase.waits() {
            let message = format!("request `{}` is {} already, so it cannot be cancelled", row.id, row.phase.name());
            return Err(Refusal::new(Kind::Conflict, message));
        }
        let row = Row { phase: Phase::Cancelled, ..row };
        self.advance(&row)?;
        Ok(row)
    }

    /// Does the requests that wait if the first of them is due: all together, so that they cannot be told apart by time.
    pub(crate) fn run_due(&self) -> Result<(), Refusal> {
        if self.requests.next_run()?.is_none_or(|at| at > now_ms()) {
            return Ok(());
        }
        for row in self.requests.in_phase(Phase::Queued)? {
            match self.execute(&row.id, Brake::Weakest) {
                Ok(_) => {}
                // The store has the id for other names: that will not change.
                Err(refusal) if refusal.kind == Kind::Conflict => {
                    self.advance(&Row { phase: Phase::Failed, ..row })?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Does the requests that are held and need not wait any more: the shards have more left, or they are due.
    pub(crate) fn run_held(&self) -> Result<(), Refusal> {
        for row in self.requests.in_phase(Phase::Held)? {
            // By the weakest shard, whatever the request names: an unknown name must not be done sooner than a known one.
            self.execute(&row.id, Brake::Weakest)?;
        }
        Ok(())
    }

    /// Does a request that is held, whatever the shards have left.
    pub(crate) fn release(&self, id: &str) -> Result<Row, Refusal> {
        let row = self.requests.row(id)?.ok_or_else(|| Refusal::not_found("no deletion request of this id"))?;
        if row.phase != Phase::Held {
            let message = format!("request `{}` is {}, so it cannot be released", row.id, row.phase.name());
            return Err(Refusal::new(Kind::Conflict, message));
        }
        self.execute(id, Brake::Released)
    }

    /// Erases what is in effect, and notes what is erased.
    pub(crate) fn erase(&self) -> Result<(), Refusal> {
        if !self.service.snapshot()?.unerased().is_empty() {
            let failed = self.service.erase();
            if let Some(error) = &failed {
                tracing::warn!(target: "s3t::erase", "the erasure is not finished: {error}");
            }
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = failed.map(|error| error.to_string());
        }
        self.settle()
    }

    /// Notes what is erased.
    fn settle(&self) -> Result<(), Refusal> {
        let rows = self.requests.in_phase(Phase::InEffect)?;
        if rows.is_empty() {
            return Ok(());
        }
        let (snapshot, of_followers) = (self.service.snapshot()?, self.followers.erased()?);
        for mut row in rows {
            let is_held = |epoch| of_followers.is_some_and(|erased| epoch > erased);
            if row.epoch.is_some_and(|epoch| snapshot.unerased().contains(&epoch) || is_held(epoch)) {
                continue;
            }
            (row.phase, row.erased) = (Phase::Erased, Some(now_ms()));
            if let Some(effective) = row.effective {
                let seconds = (now_ms() - effective).max(0) as f64 / 1000.0;
                self.metrics.phases.with_label_values(&["erase"]).observe(seconds);
            }
            self.advance(&row)?;
        }
        Ok(())
    }
}

fn request_of(id: &str, names: &Names) -> DeletionRequest {
    DeletionRequest { id: Some(id.to_owned()), records: names.records.clone(), subjects: names.subjects.clone() }
}

impl From<crate::ServerError> for Refusal {
    fn from(error: crate::ServerError) -> Self {
        tracing::error!(target: "s3t::server", "{error}");
        Self::new(Kind::Failed, "the server's own files failed; its log says why")
    }
}
