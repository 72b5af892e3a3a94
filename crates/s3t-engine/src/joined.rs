//! Answers for several callers in one pass.
//!
//! # Proof note
//!
//! *Before*: each caller brings records of its own. *After*: each gets the answers for its records and nothing else, of the system as it was
//! at some moment after the call. *Why*: a group is answered by one [`System::predict`], which looks at the catalogue after the
//! group is complete, so no answer uses a stage that was dead when any of its calls began; answers are handed out by
//! position. A record's scores do not depend on its neighbours' content; its last bits may depend on their number.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Record;

use crate::{Answer, EngineError, Prediction, System};

/// A system that answers the records of several callers together, as a server has them.
///
/// A call joins the last group that waits, if there is room, or begins one. Groups are answered in the order in which they
/// began, each when it is full or its first call has waited long enough, so a call waits for a bounded time and for the groups
/// before it. No thread of its own is needed: the first call of a group answers it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
/// # s3t_testkit::write_tiny_model(&model, 4)?;
/// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
/// # let system = s3t_engine::System::create(pipeline, &records, None)?;
/// # system.train(&s3t_engine::Quiet)?;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use s3t_engine::JoinedSystem;
///
/// let joined = JoinedSystem::new(Arc::new(system), Duration::from_millis(2), 64);
/// let questions = s3t_testkit::toy_records(4, 0, 9);
/// std::thread::scope(|scope| {
///     for question in questions.chunks(1) {
///         let joined = &joined;
///         scope.spawn(move || assert_eq!(joined.predict(question).unwrap().len(), 1));
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JoinedSystem {
    system: Arc<System>,
    wait: Duration,
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The groups that wait for an answer, in their order.
    waiting: VecDeque<Waiting>,
    is_answering: bool,
}

struct Waiting {
    group: Arc<Group>,
    records: Vec<Record>,
    /// `true` if nobody can join any more.
    is_full: bool,
}

/// The answers of a group.
#[derive(Default)]
struct Group(Mutex<Outcome>);

#[derive(Default)]
enum Outcome {
    #[default]
    Waiting,
    Answered(Answer),
    /// The group has no answers: each call has to ask for itself.
    Failed,
}

impl JoinedSystem {
    /// Joins calls that come within `wait` of the first, up to `most` records; a call with more is a group of its own.
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
        Ok(self.answer(records)?.predictions)
    }

    /// Answers for records, in their order, with the deletions they know of and the stages they came from.
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict).
    pub fn answer(&self, records: &[Record]) -> Result<Answer, EngineError> {
        // Nothing to join: two calls would both take themselves for the first of a group.
        if records.is_empty() {
            return self.system.answer(records);
        }
        // A record that the model cannot take is refused before it joins others.
        self.system.prepare(records)?;
        let mut state = self.lock();
        let (group, first) = self.join(&mut state, records);
        if first == 0 {
            self.answer_group(state, &group);
        } else {
            while matches!(*group.lock(), Outcome::Waiting) {
                state = self.wait(state);
            }
            drop(state);
        }
        let found = match &*group.lock() {
            Outcome::Answered(answer) => Some(Answer {
                epoch: answer.epoch,
                stages: Arc::clone(&answer.stages),
                predictions: answer.predictions[first..first + records.len()].to_vec(),
            }),
            _ => None,
        };
        // Why there is no answer is told to each caller by its own attempt.
        found.map_or_else(|| self.system.answer(records), Ok)
    }

    /// Puts records into the last group, or a new one: the group, and their place in it.
    fn join(&self, state: &mut State, records: &[Record]) -> (Arc<Group>, usize) {
        if let Some(last) = state.waiting.back_mut() {
            // A call that does not fit in closes the group: those after it are not to overtake it.
            last.is_full |= last.records.len() + records.len() > self.most;
        }
        if state.waiting.back().is_none_or(|last| last.is_full) {
            state.waiting.push_back(Waiting { group: Arc::default(), records: Vec::new(), is_full: false });
        }
        let last = state.waiting.back_mut().expect("one was put there");
        let first = last.records.len();
        last.records.extend_from_slice(records);
        last.is_full |= last.records.len() >= self.most;
        self.changed.notify_all();
        (Arc::clone(&last.group), first)
    }

    /// Answers the group that this call has begun, when it is its turn and the group is full or has waited.
    fn answer_group(&self, mut state: MutexGuard<'_, State>, group: &Arc<Group>) {
        // A wait without end is one until the group is full.
        let until = Instant::now().checked_add(self.wait);
        let records = loop {
            let is_next =
                !state.is_answering && state.waiting.front().is_some_and(|next| Arc::ptr_eq(&next.group, group));
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let is_ready = |next: &mut Waiting| next.is_full || left == Some(Duration::ZERO);
            if is_next && let Some(next) = state.waiting.pop_front_if(is_ready) {
                state.is_answering = true;
                break next.records;
            }
            state = match left {
                Some(left) if is_next => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                _ => self.wait(state),
            };
        };
        drop(state);
        // Whoever waits is told, also if answering panics.
        let answered = Answered { joined: self, group };
        let outcome = self.system.answer(&records).map_or(Outcome::Failed, Outcome::Answered);
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
