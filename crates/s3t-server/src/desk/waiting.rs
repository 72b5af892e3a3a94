//! Requests that wait: for their batch, or because a shard has too little left.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use s3t_engine::EngineError;
use s3t_ledger::Epoch;
use s3t_store::{DeletionRequest, StoreError};

use super::brake::Brake;
use super::{Desk, MARGIN_MS, request_of};
use crate::clock::now_ms;
use crate::refusal::{Kind, Refusal};
use crate::requests::{Names, Phase, Row};

/// The epoch of a deletion, if there was anything to delete, and the number of its records.
type Done = (Option<Epoch>, Option<u64>);

impl Desk {
    /// `true` if a deletion has to wait because a shard would have too little left.
    pub(super) fn is_held(&self, brake: Brake, request: &DeletionRequest, due: Option<i64>) -> Result<bool, Refusal> {
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
    pub(super) fn execute(&self, id: &str, brake: Brake) -> Result<Row, Refusal> {
        let done = self.try_to_execute(id, brake);
        if done.is_err() {
            // The store may have accepted it all the same.
            self.unsettled.store(true, Ordering::Relaxed);
        }
        done
    }

    fn try_to_execute(&self, id: &str, brake: Brake) -> Result<Row, Refusal> {
        let _doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let start = std::time::Instant::now();
        let mut row = self.requests.row(id)?.ok_or_else(|| Refusal::not_found("no deletion request of this id"))?;
        if !row.phase.waits() {
            return Ok(row);
        }
        let names = self.requests.names(&row.id)?.unwrap_or_default();
        if let Some(done) = self.accepted_before(&row.id, &names)? {
            (row.epoch, row.records) = done;
        } else {
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

    /// The epoch and the number of records of a request that waits, if the store has accepted it: before a crash, or from another process
    /// for the same names. An id that it has for other names is a conflict.
    fn accepted_before(&self, id: &str, names: &Names) -> Result<Option<Done>, Refusal> {
        if !self.service.knows_request(id)? {
            return Ok(None);
        }
        let effect = self.service.accept(&request_of(id, names))?.effect;
        Ok(Some((Some(effect.epoch), Some(effect.records))))
    }

    /// Has the store accept the names that it knows: the epoch and the number of records, if there are any.
    fn accept_known(&self, id: &str, names: &Names) -> Result<Done, Refusal> {
        loop {
            let known = self.service.known_names(&request_of(id, names))?;
            if known.is_empty() {
                return Ok((None, Some(0)));
            }
            if known != *names {
                // The store knows the request by these names, after a crash too.
                self.requests.narrow(id, &known)?;
            }
            let known = request_of(id, &known);
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

    /// Takes a request back while it waits.
    pub(crate) fn cancel(&self, id: &str) -> Result<Row, Refusal> {
        let _doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let row = self.requests.row(id)?.ok_or_else(|| Refusal::not_found("no deletion request of this id"))?;
        if !row.phase.waits() {
            let message = format!("request `{}` is {} already, so it cannot be cancelled", row.id, row.phase.name());
            return Err(Refusal::new(Kind::Conflict, message));
        }
        let names = self.requests.names(id)?.unwrap_or_default();
        match self.accepted_before(id, &names) {
            Ok(None) => {}
            // The store has the id for other names: these are as they were.
            Err(refusal) if refusal.kind == Kind::Conflict => {}
            Err(refusal) => return Err(refusal),
            Ok(Some(_)) => {
                self.unsettled.store(true, Ordering::Relaxed);
                self.tell();
                let message = format!("request `{id}` was done already, so it cannot be cancelled");
                return Err(Refusal::new(Kind::Conflict, message));
            }
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
        self.requests.in_phase(Phase::Queued)?.into_iter().try_for_each(|row| self.execute_or_fail(row))
    }

    /// Does a request that waits, by the weakest shard, whatever the request names: an unknown name must not be done sooner than a known one.
    fn execute_or_fail(&self, row: Row) -> Result<(), Refusal> {
        match self.execute(&row.id, Brake::Weakest) {
            Ok(_) => Ok(()),
            // The store has the id for other names: that will not change.
            Err(refusal) if refusal.kind == Kind::Conflict => self.advance(&Row { phase: Phase::Failed, ..row }),
            Err(refusal) => Err(refusal),
        }
    }

    /// Notes what the store has accepted of the requests that wait: before a crash, or before this database failed. They are done,
    /// whenever they would have been.
    pub(crate) fn recover(&self) -> Result<(), Refusal> {
        if !self.unsettled.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let recovered = [Phase::Queued, Phase::Held].into_iter().try_for_each(|phase| {
            self.requests.in_phase(phase)?.into_iter().try_for_each(|row| {
                if self.service.knows_request(&row.id)? { self.execute_or_fail(row) } else { Ok(()) }
            })
        });
        if recovered.is_err() {
            self.unsettled.store(true, Ordering::Relaxed);
        }
        recovered
    }

    /// Does the requests that are held and need not wait any more: the shards have more left, or they are due.
    pub(crate) fn run_held(&self) -> Result<(), Refusal> {
        self.requests.in_phase(Phase::Held)?.into_iter().try_for_each(|row| self.execute_or_fail(row))
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
}
