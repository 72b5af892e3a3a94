//! Deletion requests from their arrival to their erasure.
//!
//! # Proof note
//!
//! *Before*: a caller names records and subjects. *After* [`Desk::submit`] gives a row that is in effect: the deletion survives any
//! crash, and no answer that begins from then on uses a stage that saw one of the records. *Why*: the row is given after the store
//! has accepted the deletion, and that is what the store promises of it; where there are followers, after each of them has confirmed it
//! or may not answer any more (see the `followers` module). A crash between the two leaves either a request that
//! waits, which is done when the server starts again, or a deletion that the store knows and finds again by its id and names: what the
//! store is asked for is on disk before it is asked, so that an id which it has for other names is told from one that it has accepted here.
//!
//! A caller that may not know who is among the records gets the same answers for a known name as for an unknown one: unknown names
//! are passed over, and neither counts nor receipts are shown to it.

mod brake;
mod finishing;
mod turns;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use s3t_ledger::Epoch;
use s3t_store::{DeletionRequest, StoreError};

use crate::ServerError;
use crate::clock::now_ms;
use crate::followers::Followers;
use crate::metrics::Metrics;
use crate::opendsr::OpenDsr;
use crate::refusal::{Kind, Refusal};
use crate::requests::{Names, NewRow, Origin, Phase, Put, Requests, Row};
use crate::service::Service;
use crate::tokens::Caller;
use brake::Brake;
use turns::Turns;

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
    arrived: AtomicI64,
    /// Requests are taken in one at a time for each id.
    turns: Turns,
    /// `true` if a request that waits may be one that the store has accepted already.
    unsettled: AtomicBool,
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
            arrived: AtomicI64::new(0),
            turns: Turns::default(),
            // After a crash.
            unsettled: AtomicBool::new(true),
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

    /// Returns `true` if every follower that has a lease has forgotten what the deletions up to this one cut.
    pub(crate) fn followers_have_erased(&self, epoch: Epoch) -> Result<bool, ServerError> {
        Ok(self.followers.erased()?.is_none_or(|erased| epoch <= erased))
    }

    /// Returns `true` if a follower may have a lease.
    pub(crate) fn has_followers(&self) -> Result<bool, ServerError> {
        Ok(self.followers.number()? > 0)
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
        now_ms() - self.arrived.load(Ordering::Relaxed) < PAUSE_MS
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a request in, and does it unless it waits for its batch. Asking for the same again gives the request as it is.
    pub(crate) fn submit(&self, new: NewDeletion, caller: &Caller) -> Result<Row, Refusal> {
        let start = std::time::Instant::now();
        self.arrived.store(now_ms(), Ordering::Relaxed);
        if new.names.is_empty() {
            return Err(StoreError::NothingNamed.into());
        }
        let _turn = self.turns.of(&new.id);
        let taken = || Refusal::from(StoreError::OtherRequest(new.id.clone()));
        match self.requests.look_up(&new.id, &new.names)? {
            // Whoever sends the content of a request again has it; still, a request is its caller's.
            Some(Put::Same(row)) if *row.caller == *caller.id || caller.may_know() => {
                return match row.phase {
                    Phase::Cancelled | Phase::Failed => Err(Refusal::new(
                        Kind::Conflict,
                        format!("request `{}` is {}; ask again under a new id", row.id, row.phase.name()),
                    )),
                    // It could not be done when it came.
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
        // A name that nobody has is refused at once, whenever the rest would be done.
        let check_names = || match row.origin {
            Origin::Api if caller.may_know() => self.service.check_names(&request),
            _ => Ok(()),
        };
        let late = new.due.filter(|due| self.batch_ms > 0 && due - MARGIN_MS > received);
        if let Some(due) = late {
            check_names()?;
            row.phase = Phase::Queued;
            row.run_at = Some((received + self.batch_ms).min(due - MARGIN_MS));
            return self.waits(&row);
        }
        let brake = if caller.may_know() { Brake::Hit } else { Brake::Weakest };
        let all_known = self.service.known_names(&request)? == row.names;
        // What the names do not tell, a request by OpenDSR has to keep with its callbacks, and what is held its names.
        let waits = (!all_known && !caller.may_know())
            || row.origin == Origin::OpenDsr
            || self.is_held(brake, &request, new.due)?;
        if waits {
            check_names()?;
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

    /// The phase of a request that the store has just accepted, and since when it is in effect.
    fn after_acceptance(&self, id: &str, start: std::time::Instant) -> Result<(Phase, Option<i64>), Refusal> {
        if self.followers.accept(id)? {
            return Ok((Phase::Accepted, None));
        }
        self.metrics.phases.with_label_values(&["effect"]).observe(start.elapsed().as_secs_f64());
        Ok((Phase::InEffect, Some(now_ms())))
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
