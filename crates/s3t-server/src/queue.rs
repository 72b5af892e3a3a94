//! Questions that wait for an answer, and the thread that answers them.
//!
//! # Proof note
//!
//! *Before*: a caller hands in records. *After* it gets an answer: the answer is for its records and nothing else, from one moment of
//! the store after the call. *Why*: a batch is answered by one call of the engine, which looks at the catalogue after the batch is
//! complete; answers are handed out by position.
//!
//! *Fairness*: the next request is taken from each caller in turn, and a caller may have as many records in the queue as are free in
//! it (the dynamic threshold of Choudhury and Hahne). So a caller alone may fill half of the queue, and room is left for the next.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_core::Record;
use s3t_engine::Answer;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::refusal::{Kind, Refusal};

/// A request that waits.
struct Waiting {
    records: Vec<Record>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

#[derive(Default)]
struct Inner {
    /// The requests of each caller that has any, oldest first.
    waiting: HashMap<Arc<str>, VecDeque<Waiting>>,
    /// The callers that have any, the next one first.
    turns: VecDeque<Arc<str>>,
    /// The records that wait, of each caller and of all.
    of_caller: HashMap<Arc<str>, usize>,
    records: usize,
    is_closed: bool,
    /// The records answered in a second, as of the last batches.
    rate: f64,
}

/// The questions that wait.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    max_records: usize,
    max_batch: usize,
    metrics: Arc<Metrics>,
}

/// Whatever answers a batch.
pub(crate) trait Answering {
    fn answer(&self, records: &[Record]) -> Result<Answer, Refusal>;
}

impl Queue {
    pub(crate) fn new(max_records: usize, max_batch: usize, metrics: Arc<Metrics>) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), max_records, max_batch: max_batch.max(1), metrics }
    }

    /// Hands in records and waits for their answer, until the deadline.
    pub(crate) async fn ask(&self, caller: &Arc<str>, records: Vec<Record>, time: Duration) -> Result<Answer, Refusal> {
        let answer = self.enter(caller, records, Instant::now() + time)?;
        let late = || Refusal::new(Kind::Deadline, format!("no answer within {} ms", time.as_millis()));
        let gone = || Refusal::new(Kind::Unavailable, "the server stops; ask another");
        tokio::time::timeout(time, answer).await.map_err(|_| late())?.map_err(|_| gone())?
    }

    /// Refuses a caller who has no room for one record more. Asked before a request is read, so that refusing it costs little.
    pub(crate) fn check_room(&self, caller: &Arc<str>) -> Result<(), Refusal> {
        self.room(&self.lock(), caller, 1)
    }

    fn room(&self, inner: &Inner, caller: &Arc<str>, records: usize) -> Result<(), Refusal> {
        let own = inner.of_caller.get(caller).copied().unwrap_or_default();
        let free = self.max_records.saturating_sub(inner.records);
        if own + records <= free {
            return Ok(());
        }
        self.metrics.refused.inc();
        let seconds = (inner.records as f64 / inner.rate.max(1.0)).ceil().clamp(1.0, 60.0) as u64;
        let message = format!("{} records wait for an answer, {own} of them of this caller", inner.records);
        Err(Refusal::overloaded(message, seconds))
    }

    fn enter(
        &self,
        caller: &Arc<str>,
        records: Vec<Record>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(Refusal::new(Kind::Unavailable, "the server stops; ask another"));
        }
        self.room(&inner, caller, records.len())?;
        inner.records += records.len();
        *inner.of_caller.entry(Arc::clone(caller)).or_default() += records.len();
        self.metrics.queued.set(inner.records as i64);
        let of_caller = inner.waiting.entry(Arc::clone(caller)).or_default();
        let is_first = of_caller.is_empty();
        of_caller.push_back(Waiting { records, deadline, reply });
        if is_first {
            inner.turns.push_back(Arc::clone(caller));
        }
        drop(inner);
        self.changed.notify_one();
        Ok(answer)
    }

    /// Answers until the queue is closed and empty.
    pub(crate) fn work(&self, model: &dyn Answering) {
        while let Some(batch) = self.take() {
            let start = Instant::now();
            let count: usize = batch.iter().map(|waiting| waiting.records.len()).sum();
            self.metrics.batch.observe(count as f64);
            answer_batch(model, batch);
            let rate = count as f64 / start.elapsed().as_secs_f64().max(1e-6);
            let mut inner = self.lock();
            inner.rate = if inner.rate > 0.0 { 0.8f64.mul_add(inner.rate, 0.2 * rate) } else { rate };
        }
    }

    /// The next requests, one of each caller in turn, as many as fit into a batch; waits for the first. `None` when the queue is
    /// closed and empty.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut inner = self.lock();
        loop {
            let batch = self.next_batch(&mut inner);
            if !batch.is_empty() {
                return Some(batch);
            }
            if inner.is_closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn next_batch(&self, inner: &mut Inner) -> Vec<Waiting> {
        let (mut batch, mut count, now) = (Vec::new(), 0, Instant::now());
        while let Some(caller) = inner.turns.pop_front() {
            let Some(of_caller) = inner.waiting.get_mut(&caller) else { continue };
            // A request larger than a batch is one of its own.
            let fits = |next: &mut Waiting| count == 0 || count + next.records.len() <= self.max_batch;
            let Some(next) = of_caller.pop_front_if(fits) else {
                inner.turns.push_front(caller);
                break;
            };
            let is_last = of_caller.is_empty();
            inner.records -= next.records.len();
            let own = inner.of_caller.entry(Arc::clone(&caller)).or_default();
            *own -= next.records.len();
            if is_last {
                inner.waiting.remove(&caller);
                inner.of_caller.remove(&caller);
            } else {
                inner.turns.push_back(caller);
            }
            // Nobody waits any more for what is late or was given up.
            if next.deadline > now && !next.reply.is_closed() {
                count += next.records.len();
                batch.push(next);
            }
        }
        self.metrics.queued.set(inner.records as i64);
        batch
    }

    /// Takes no more; what waits is still answered.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// The records that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().records
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a batch. Where it cannot be answered as a whole each request is answered alone, so that one fails for itself only.
fn answer_batch(model: &dyn Answering, mut batch: Vec<Waiting>) {
    if let [_] = &batch[..] {
        for Waiting { records, reply, .. } in batch {
            let _ = reply.send(answered(model, &records));
        }
        return;
    }
    let records: Vec<Record> = batch.iter().flat_map(|waiting| waiting.records.iter().cloned()).collect();
    match answered(model, &records) {
        Ok(answer) => {
            let mut predictions = answer.predictions.into_iter();
            for Waiting { records, reply, .. } in batch.drain(..) {
                let predictions = predictions.by_ref().take(records.len()).collect();
                let of_caller = Answer { epoch: answer.epoch, stages: Arc::clone(&answer.stages), predictions };
                let _ = reply.send(Ok(of_caller));
            }
        }
        Err(_) => {
            for Waiting { records, reply, .. } in batch.drain(..) {
                let _ = reply.send(answered(model, &records));
            }
        }
    }
}

fn answered(model: &dyn Answering, records: &[Record]) -> Result<Answer, Refusal> {
    let answer = catch_unwind(AssertUnwindSafe(|| model.answer(records)));
    let panicked = |_| Refusal::new(Kind::Failed, "the answer could not be computed; the log says why");
    answer.map_err(panicked)?
}

#[cfg(test)]
mod tests {
    use s3t_core::{Payload, RecordId, Target};
    use s3t_engine::{EngineError, Prediction};
    use s3t_ledger::Epoch;

    use super::*;

    /// Answers with the records' ids; a record named `bad` cannot be answered, one named `panic` panics.
    struct Echo;

    impl Answering for Echo {
        fn answer(&self, records: &[Record]) -> Result<Answer, Refusal> {
            let id = |record: &Record| record.id.as_str().to_owned();
            assert!(!records.iter().any(|record| record.id.as_str() == "panic"), "as asked");
            if records.iter().any(|record| record.id.as_str() == "bad") {
                return Err(EngineError::NothingServes.into());
            }
            let of = |record: &Record| Prediction { id: id(record), label: None, scores: vec![], members: vec![] };
            Ok(Answer { epoch: Epoch(7), stages: Arc::new([]), predictions: records.iter().map(of).collect() })
        }
    }

    fn records(ids: &[&str]) -> Vec<Record> {
        let record = |id: &&str| Record {
            id: RecordId::new(*id).unwrap(),
            subject: None,
            target: Target::None,
            ordinal: 0,
            payload: Payload::Text(String::new()),
        };
        ids.iter().map(record).collect()
    }

    fn queue(max_records: usize, max_batch: usize) -> Queue {
        Queue::new(max_records, max_batch, Arc::new(Metrics::new()))
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn ids(batch: &[Waiting]) -> Vec<&str> {
        batch.iter().flat_map(|waiting| waiting.records.iter().map(|record| record.id.as_str())).collect()
    }

    #[test]
    fn callers_take_turns_and_leave_room_for_each_other() {
        let queue = queue(12, 4);
        let (greedy, other) = (Arc::from("greedy"), Arc::from("other"));
        let mut replies = Vec::new();
        let mut taken = 0;
        while let Ok(reply) = queue.enter(&greedy, records(&[&format!("g{taken}")]), later()) {
            replies.push(reply);
            taken += 1;
        }
        assert_eq!(taken, 6, "a caller alone fills half");
        let refused = queue.enter(&greedy, records(&["more"]), later()).unwrap_err();
        assert_eq!((refused.kind, refused.retry_after.is_some()), (Kind::Overloaded, true));
        replies.push(queue.enter(&other, records(&["o0", "o1"]), later()).unwrap());
        // Whoever came last with two records is answered in the first batch.
        assert_eq!(ids(&queue.take().unwrap()), ["g0", "o0", "o1", "g1"]);
        assert_eq!(ids(&queue.take().unwrap()), ["g2", "g3", "g4", "g5"]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn late_and_abandoned_requests_are_dropped_and_a_large_one_goes_alone() {
        let queue = queue(100, 2);
        let caller: Arc<str> = Arc::from("one");
        let _late = queue.enter(&caller, records(&["late"]), Instant::now()).unwrap();
        drop(queue.enter(&caller, records(&["abandoned"]), later()).unwrap());
        let _large = queue.enter(&caller, records(&["a", "b", "c"]), later()).unwrap();
        let _small = queue.enter(&caller, records(&["d"]), later()).unwrap();
        assert_eq!(ids(&queue.take().unwrap()), ["a", "b", "c"]);
        queue.close();
        assert_eq!(ids(&queue.take().unwrap()), ["d"]);
        assert!(queue.take().is_none() && queue.enter(&caller, records(&["e"]), later()).is_err());
    }

    #[test]
    fn each_caller_gets_its_own_answers_and_failures() {
        let queue = queue(100, 64);
        let asked = ["a", "bad", "b", "panic", "c"];
        let enter = |id: &&str| queue.enter(&Arc::from(*id), records(&[id]), later()).unwrap();
        let replies: Vec<_> = asked.iter().map(enter).collect();
        queue.close();
        queue.work(&Echo);
        for (id, reply) in asked.into_iter().zip(replies) {
            match (id, reply.blocking_recv().unwrap()) {
                ("bad", answer) => assert_eq!(answer.unwrap_err().kind, Kind::Unavailable),
                ("panic", answer) => assert_eq!(answer.unwrap_err().kind, Kind::Failed),
                (id, answer) => {
                    let answer = answer.unwrap();
                    assert_eq!((answer.epoch, &*answer.predictions[0].id, answer.predictions.len()), (Epoch(7), id, 1));
                }
            }
        }
    }
}
