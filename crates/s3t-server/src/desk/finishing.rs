//! Requests that the store has accepted: in effect at every follower, and erased.

use std::sync::PoisonError;

use super::Desk;
use crate::clock::now_ms;
use crate::refusal::Refusal;
use crate::requests::{Phase, Row};

/// The problem of names that cannot be erased from the server's own database.
const UNCUT: &str = "another process reads or writes the server's database `server.db`, and names of requests stay in it or in its log until that process ends";

impl Desk {
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

    /// Erases what is in effect, and notes what is erased.
    pub(crate) fn erase(&self) -> Result<(), Refusal> {
        // What failed before is tried again, with nothing left to erase too: the ledger may not be published yet.
        if self.problem().is_some() || !self.service.snapshot()?.unerased().is_empty() {
            let failed = self.service.erase();
            if let Some(error) = &failed {
                tracing::warn!(target: "s3t::erase", "the erasure is not finished: {error}");
            }
            self.set_problem(failed.map(|error| error.to_string()));
        }
        if !self.requests.sweep()? {
            tracing::warn!(target: "s3t::erase", "{UNCUT}");
            self.set_problem(Some(UNCUT.to_owned()));
            return Ok(());
        }
        self.settle()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
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
