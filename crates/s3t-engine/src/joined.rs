//! Answers for several callers in one pass.
//!
//! # Proof note
//!
//! *Before*: each caller brings records of its own. *After*: each gets the answers for its records and nothing else, of the system as it was
//! at some moment after the call. *Why*: a group is answered by one [`System::predict`], which looks at the catalogue after the
//! group is complete, so no answer uses a stage that was dead when any of its calls began; answers are handed out by
//! position. A record's scores do not depend on its neighbours' content; its last bits may depend on their number.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Record;

use crate::{EngineError, Prediction, System};

/// A system that answers the records of several callers together, as a server has them.
///
/// A call waits for others for a bounded time, and for the group before it to be answered; it needs no thread of its own.
pub struct JoinedSystem {
    system: Arc<System>,
    wait: Duration,
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// The group that calls join now, and whether the one before it is being answered.
#[derive(Default)]
struct State {
    records: Vec<Record>,
    group: Arc<Group>,
    is_answering: bool,
}

/// The answers of a group.
#[derive(Default)]
struct Group(Mutex<Outcome>);

#[derive(Default)]
enum Outcome {
    #[default]
    Waiting,
    Answered(Vec<Prediction>),
    /// There are none: each call has to ask for itself.
    Failed,
}

impl JoinedSystem {
    /// Joins calls that come within `wait` of the first, up to `most` records; a call with more goes alone.
    pub fn new(system: Arc<System>, wait: Duration, most: usize) -> Self {
        Self { system, wait, most: most.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    /// The system.
    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Answers for records, in their order.
    ///
    /// # Errors
    ///
    /// As [`System::predict`]; a record that cannot be answered fails its own call only.
    pub fn predict(&self, records: &[Record]) -> Result<Vec<Prediction>, EngineError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        // What the model cannot take is refused before it joins others.
        self.system.prepare(records)?;
        let mut state = self.lock();
        while !state.records.is_empty() && state.records.len() + records.len() > self.most {
            state = self.wait(state);
        }
        let (group, first) = (Arc::clone(&state.group), state.records.len());
        state.records.extend_from_slice(records);
        if first == 0 {
            self.answer(state, &group);
        } else {
            self.changed.notify_all();
            while matches!(*group.lock(), Outcome::Waiting) {
                state = self.wait(state);
            }
        }
        let found = match &*group.lock() {
            Outcome::Answered(answers) => Some(answers[first..first + records.len()].to_vec()),
            _ => None,
        };
        // Why there is no answer is told to each caller by its own attempt.
        found.map_or_else(|| self.system.predict(records), Ok)
    }

    /// Answers the group that this call has begun, when it is complete and the group before it is answered.
    fn answer(&self, mut state: MutexGuard<'_, State>, group: &Group) {
        let until = Instant::now() + self.wait;
        while state.is_answering {
            state = self.wait(state);
        }
        while state.records.len() < self.most {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let records = std::mem::take(&mut state.records);
        state.group = Arc::default();
        state.is_answering = true;
        drop(state);
        // The next group may form meanwhile.
        self.changed.notify_all();
        // Whoever waits is told, also if answering panics.
        let answered = Answered { joined: self, group };
        let outcome = self.system.predict(&records).map_or(Outcome::Failed, Outcome::Answered);
        *answered.group.lock() = outcome;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in single steps, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Answered<'a> {
    joined: &'a JoinedSystem,
    group: &'a Group,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        let mut outcome = self.group.lock();
        if matches!(*outcome, Outcome::Waiting) {
            *outcome = Outcome::Failed;
        }
        drop(outcome);
        self.joined.lock().is_answering = false;
        self.joined.changed.notify_all();
    }
}
