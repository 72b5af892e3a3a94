//! The audits of a server: the newest reports are kept in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3t_engine::AuditReport;

use crate::clock::now_ms;
use crate::random::random_name;
use crate::refusal::{Kind, Refusal};

/// The most audits that are remembered.
const MAX_KEPT: usize = 20;

/// The audits of a server.
#[derive(Default)]
pub(crate) struct Audits(Mutex<VecDeque<Audit>>);

/// An audit.
#[derive(Clone)]
pub(crate) struct Audit {
    pub(crate) id: String,
    pub(crate) started: i64,
    pub(crate) outcome: Outcome,
}

/// The state of an audit.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// It goes on; the stages that were trained again so far.
    Running(usize),
    /// It is done.
    Done(Arc<AuditReport>),
    /// It could not be made.
    Failed(String),
}

impl Audits {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Audit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The audits, newest first.
    pub(crate) fn all(&self) -> Vec<Audit> {
        self.lock().iter().rev().cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Audit> {
        self.lock().iter().find(|audit| audit.id == id).cloned()
    }

    /// Adds an audit that starts now: refused while another goes on.
    pub(crate) fn begin(&self) -> Result<Audit, Refusal> {
        let audit = Audit { id: random_name::<6>()?, started: now_ms(), outcome: Outcome::Running(0) };
        let mut audits = self.lock();
        if let Some(running) = audits.iter().find(|audit| matches!(audit.outcome, Outcome::Running(_))) {
            let message = format!("audit {} goes on; ask for another when it is done", running.id);
            return Err(Refusal::new(Kind::Conflict, message));
        }
        audits.push_back(audit.clone());
        while audits.len() > MAX_KEPT {
            audits.pop_front();
        }
        Ok(audit)
    }

    /// Sets the state of an audit.
    pub(crate) fn set(&self, id: &str, outcome: Outcome) {
        if let Some(audit) = self.lock().iter_mut().find(|audit| audit.id == id) {
            audit.outcome = outcome;
        }
    }
}
