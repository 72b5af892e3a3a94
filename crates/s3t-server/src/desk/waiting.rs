//! Requests that wait: for their batch, or because a shard has too little left.

use std::sync::PoisonError;

use s3t_engine::EngineError;
use s3t_ledger::Epoch;
use s3t_store::{DeletionRequest, StoreError};

use super::brake::Brake;
use super::{Desk, MARGIN_MS, request_of};
use crate::clock::now_ms;
use crate::refusal::{Kind, Refusal};
use crate::requests::{Names, Phase, Row};

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
}
