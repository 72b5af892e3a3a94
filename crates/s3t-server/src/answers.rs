//! The part of a server's state that answers need. A follower has this part only.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use s3t_core::Record;
use s3t_engine::Answer;
use s3t_ledger::Epoch;
use tokio::sync::Semaphore;

use crate::ServerSettings;
use crate::clock::now_ms;
use crate::generation::Generation;
use crate::life::Life;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::queue::Queue;
use crate::refusal::{Kind, Refusal};
use crate::sessions::Sessions;
use crate::tokens::{Caller, Tokens};

/// The state that requests for answers share.
#[derive(Clone)]
pub(crate) struct Answers(Arc<AnswerState>);

/// The content of [`Answers`].
pub(crate) struct AnswerState {
    pub(crate) settings: ServerSettings,
    pub(crate) model: Model,
    pub(crate) queue: Queue,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Arc<Metrics>,
    /// The time of the start, in seconds since 1970.
    pub(crate) started: i64,
    /// The texts that are continued, for a model that does that.
    generation: Option<Arc<Generation>>,
    pub(crate) life: Life,
    /// The answers under way, by the epoch at which they were asked for.
    answering: Mutex<BTreeMap<Epoch, usize>>,
    /// The turns to read requests for answers. Without it each request that waits to be read would have a thread of its own, with its
    /// memory.
    pub(crate) reading: Semaphore,
}

impl Answers {
    pub(crate) fn new(settings: ServerSettings, model: Model, tokens: Tokens, metrics: Arc<Metrics>) -> Self {
        let started = now_ms() / 1000;
        let continues = model.task() == s3t_core::Task::CausalLm;
        let generation = continues.then(|| Arc::new(Generation::new(model.source(), &metrics)));
        let queue = Queue::new(settings.queue_records, settings.batch_records, Arc::clone(&metrics));
        let (sessions, life, answering) = (Sessions::default(), Life::default(), Mutex::default());
        let reading = Semaphore::new(2 * std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get));
        Self(Arc::new(AnswerState {
            settings,
            model,
            queue,
            tokens,
            sessions,
            metrics,
            started,
            generation,
            life,
            answering,
            reading,
        }))
    }
}

impl Deref for Answers {
    type Target = AnswerState;

    fn deref(&self) -> &AnswerState {
        &self.0
    }
}

impl AnswerState {
    /// Answers for records, in the caller's turn and before the deadline.
    pub(crate) async fn ask(&self, caller: &Caller, records: Vec<Record>) -> Result<Answer, Refusal> {
        let max = self.settings.request_records;
        if records.len() > max {
            let message = format!("the request has {} records, and at most {max} are taken", records.len());
            return Err(Refusal::new(Kind::TooLarge, message));
        }
        if self.model.task() == s3t_core::Task::CausalLm {
            let message = "this pipeline continues texts; ask at `/v1/completions` or `/v1/chat/completions`";
            return Err(Refusal::new(Kind::Unprocessable, message));
        }
        let count = records.len();
        let under_way = UnderWay::new(&self.answering, self.model.epoch()?);
        let answer = self.queue.ask(&caller.id, records, self.settings.deadline()).await?;
        drop(under_way);
        self.metrics.answered(count);
        Ok(answer)
    }

    /// The texts that are continued.
    pub(crate) fn generation(&self) -> Result<&Arc<Generation>, Refusal> {
        let refuse = || Refusal::new(Kind::Unprocessable, "this pipeline continues no texts; ask at `/predict`");
        self.generation.as_ref().ok_or_else(refuse)
    }

    /// Refuses while no answers can be given.
    pub(crate) fn readiness(&self) -> Result<(), Refusal> {
        if self.life.is_stopping() {
            return Err(Refusal::new(Kind::Unavailable, "the server stops"));
        }
        self.model.readiness()
    }

    /// Brings the figures of answers under way up to date.
    pub(crate) fn count_answering(&self, epoch: Epoch) {
        let answering = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = answering.get(&epoch).copied().unwrap_or_default();
        if let Some(generation) = &self.generation {
            generation.look();
        }
        self.metrics.answering(newest, answering.values().sum::<usize>() - newest);
    }
}

/// An answer under way, counted by epoch until it is dropped.
struct UnderWay<'a>(&'a Mutex<BTreeMap<Epoch, usize>>, Epoch);

impl<'a> UnderWay<'a> {
    fn new(answering: &'a Mutex<BTreeMap<Epoch, usize>>, epoch: Epoch) -> Self {
        *answering.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_default() += 1;
        Self(answering, epoch)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut answering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = answering.get_mut(&self.1) {
            *number -= 1;
            if *number == 0 {
                answering.remove(&self.1);
            }
        }
    }
}
