//! The state that all requests of a leader share.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRef;
use s3t_core::ShardId;

use crate::answers::{AnswerState, Answers};
use crate::audits::Audits;
use crate::clock::now_ms;
use crate::desk::Desk;
use crate::followers::Followers;
use crate::metrics::StoreFigures;
use crate::opendsr::OpenDsr;
use crate::refusal::Refusal;
use crate::repairs::Repairs;
use crate::requests::Depth;
use crate::service::Service;
use crate::witness::Witnesses;

/// The state that all requests of a server with a store share.
pub(crate) struct App {
    pub(crate) answers: Answers,
    pub(crate) service: Service,
    pub(crate) desk: Desk,
    pub(crate) audits: Audits,
    pub(crate) repairs: Repairs,
    pub(crate) witnesses: Witnesses,
    pub(crate) opendsr: Option<Arc<OpenDsr>>,
    pub(crate) followers: Arc<Followers>,
    /// The depth that was noted last.
    pub(crate) noted: Mutex<Option<Depth>>,
    /// The places of pages that watch what happens.
    pub(crate) watchers: Arc<tokio::sync::Semaphore>,
}

impl Deref for App {
    type Target = AnswerState;

    fn deref(&self) -> &AnswerState {
        &self.answers
    }
}

impl FromRef<Arc<App>> for Answers {
    fn from_ref(app: &Arc<App>) -> Self {
        app.answers.clone()
    }
}

impl App {
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
        self.note_depth(Depth {
            hour: now_ms() / 3_600_000,
            served: served.sum::<usize>() as u64,
            planned: shards.iter().map(planned).sum::<usize>() as u64,
        })?;
        let counts = self.desk.requests().counts()?;
        for (phase, number) in [
            ("queued", counts.queued),
            ("held", counts.held),
            ("accepted", counts.accepted),
            ("in-effect", counts.in_effect),
            ("erased", counts.erased),
            ("cancelled", counts.cancelled),
            ("failed", counts.failed),
        ] {
            self.metrics.deletions.with_label_values(&[phase]).set(number as i64);
        }
        self.metrics.callbacks.set(counts.callbacks as i64);
        self.metrics.followers.set(self.followers.number()? as i64);
        self.count_answering(snapshot.epoch());
        Ok(())
    }

    /// Notes the depth of the system if it is not what was noted last: whoever writes makes requests wait.
    fn note_depth(&self, depth: Depth) -> Result<(), Refusal> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted != Some(depth) {
            self.desk.requests().note_depth(depth)?;
            *noted = Some(depth);
        }
        Ok(())
    }
}
