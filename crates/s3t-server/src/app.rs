//! The state that all requests share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use s3t_core::{Record, ShardId};
use s3t_engine::Answer;
use s3t_ledger::Epoch;

use crate::ServerSettings;
use crate::audits::Audits;
use crate::clock::now_ms;
use crate::desk::Desk;
use crate::metrics::{Metrics, StoreFigures};
use crate::opendsr::OpenDsr;
use crate::queue::Queue;
use crate::refusal::{Kind, Refusal};
use crate::repairs::Repairs;
use crate::requests::Depth;
use crate::service::Service;
use crate::sessions::Sessions;
use crate::tokens::{Caller, Tokens};
use crate::witness::Witnesses;

/// The state that all requests share.
pub(crate) struct App {
    pub(crate) settings: ServerSettings,
    pub(crate) service: Service,
    pub(crate) queue: Queue,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) desk: Desk,
    pub(crate) audits: Audits,
    pub(crate) repairs: Repairs,
    pub(crate) witnesses: Witnesses,
    pub(crate) opendsr: Option<Arc<OpenDsr>>,
    pub(crate) life: Life,
    /// The answers under way, by the epoch at which they were asked for.
    pub(crate) answering: Mutex<BTreeMap<Epoch, usize>>,
    /// The places of pages that follow what happens.
    pub(crate) followers: Arc<tokio::sync::Semaphore>,
}

/// The phase of a server's life.
#[derive(Default)]
pub(crate) struct Life(AtomicU8);

impl Life {
    /// New requests are refused soon; those that came are answered.
    pub(crate) fn stopping(&self) {
        self.0.fetch_max(1, Ordering::SeqCst);
    }

    /// Nothing goes on any more.
    pub(crate) fn over(&self) {
        self.0.fetch_max(2, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}

impl App {
    /// Answers for records, in the caller's turn and before the deadline.
    pub(crate) async fn ask(&self, caller: &Caller, records: Vec<Record>) -> Result<Answer, Refusal> {
        let max = self.settings.request_records;
        if records.len() > max {
            let message = format!("the request has {} records, and at most {max} are taken", records.len());
            return Err(Refusal::new(Kind::TooLarge, message));
        }
        if self.service.task() == s3t_core::Task::CausalLm {
            let message = "this pipeline completes texts; answers over HTTP are for classes and numbers";
            return Err(Refusal::new(Kind::Unprocessable, message));
        }
        let count = records.len();
        let under_way = UnderWay::new(&self.answering, self.service.epoch()?);
        let answer = self.queue.ask(&caller.id, records, self.settings.deadline()).await?;
        drop(under_way);
        self.metrics.answered(count);
        Ok(answer)
    }

    /// Refuses while no answers can be given.
    pub(crate) fn readiness(&self) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::new(Kind::Unavailable, why));
        if self.life.is_stopping() {
            return refuse("the server stops");
        }
        let snapshot = self.service.snapshot()?;
        let availability = snapshot.availability();
        let shards = 0..availability.shards() as u32;
        if shards.map(ShardId).all(|shard| availability.serving(shard).is_none()) {
            return refuse("no shard can answer; run `s3t repair`");
        }
        Ok(())
    }

    /// Brings the figures up to date.
    pub(crate) fn look(&self) -> Result<(), Refusal> {
        let snapshot = self.service.snapshot()?;
        let availability = snapshot.availability();
        let of_shard = |shard| {
            let depth = availability.serving(shard).map_or(0, |serving| serving.depth);
            (depth, availability.adversarial_budget(shard))
        };
        self.metrics.store(&StoreFigures {
            epoch: snapshot.epoch(),
            shards: (0..availability.shards() as u32).map(ShardId).map(of_shard).collect(),
            live_stages: snapshot.stages().len(),
            planned_stages: snapshot.plan().stages().len(),
        });
        let shards = snapshot.plan().shards();
        let planned = |shard: &s3t_core::ShardPlan| shard.sequences.iter().map(|of| of.keys.len()).max().unwrap_or(0);
        let served = shards.iter().filter_map(|shard| availability.serving(shard.shard)).map(|of| of.depth);
        self.desk.requests().note_depth(Depth {
            hour: now_ms() / 3_600_000,
            served: served.sum::<usize>() as u64,
            planned: shards.iter().map(planned).sum::<usize>() as u64,
        })?;
        let counts = self.desk.requests().counts()?;
        for (phase, number) in [
            ("queued", counts.queued),
            ("held", counts.held),
            ("in-effect", counts.in_effect),
            ("erased", counts.erased),
            ("cancelled", counts.cancelled),
            ("failed", counts.failed),
        ] {
            self.metrics.deletions.with_label_values(&[phase]).set(number as i64);
        }
        self.metrics.callbacks.set(counts.callbacks as i64);
        let answering = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = answering.get(&snapshot.epoch()).copied().unwrap_or_default();
        self.metrics.answering(newest, answering.values().sum::<usize>() - newest);
        Ok(())
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
