//! The texts of one set of models.

use std::collections::HashMap;
use std::sync::Arc;

use s3t_generate::{Batch, EndReason, Event, EventKind, Text};
use s3t_ledger::Epoch;

use super::ServedModels;
use super::listener::{FinishReason, Finished, Listener};

/// The texts of one set of models.
pub(super) struct Group {
    pub(super) serving: ServedModels,
    pub(super) batch: Batch,
    pub(super) listeners: HashMap<u64, Waiter>,
}

pub(super) struct Waiter {
    pub(super) listener: Box<dyn Listener>,
    pub(super) began: Epoch,
}

impl Group {
    pub(super) fn finished(
        &self,
        counts: (usize, usize),
        began: Epoch,
        reason: FinishReason,
        rest: String,
    ) -> Finished {
        let (prompt_tokens, new_tokens) = counts;
        let ServedModels { epoch, stages, .. } = &self.serving;
        Finished { reason, text: rest, began, epoch: *epoch, stages: Arc::clone(stages), prompt_tokens, new_tokens }
    }

    /// Takes all texts out.
    pub(super) fn take_all(&mut self) -> Vec<(Text, Waiter)> {
        let numbers: Vec<u64> = self.batch.texts().iter().map(Text::number).collect();
        let take = |number| Some((self.batch.remove(number)?, self.listeners.remove(&number)?));
        numbers.into_iter().filter_map(take).collect()
    }

    pub(super) fn end_all(&mut self, reason: &FinishReason) {
        for (text, mut waiter) in self.take_all() {
            waiter.listener.end(self.finished(text.counts(), waiter.began, reason.clone(), String::new()));
        }
    }

    /// Takes texts out that nobody waits for.
    pub(super) fn leave(&mut self) {
        let gone: Vec<u64> = self
            .listeners
            .iter()
            .filter(|(_, waiter)| !waiter.listener.is_there())
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let (Some(text), Some(mut waiter)) = (self.batch.remove(number), self.listeners.remove(&number)) {
                waiter.listener.end(self.finished(text.counts(), waiter.began, FinishReason::Cancelled, String::new()));
            }
        }
    }

    /// Hands news on.
    pub(super) fn tell(&mut self, event: Event) {
        let Some(waiter) = self.listeners.get_mut(&event.text) else { return };
        let (reason, rest, counts) = match event.kind {
            EventKind::Prompt(tokens) => return waiter.listener.prompt(tokens),
            EventKind::Token(token) => return waiter.listener.token(token),
            EventKind::End(EndReason::Stop, rest, counts) => (FinishReason::Stop, rest, counts),
            EventKind::End(EndReason::Length, rest, counts) => (FinishReason::Length, rest, counts),
            EventKind::Failed(error, counts) => (FinishReason::Failed(error.to_string()), String::new(), counts),
        };
        if let Some(mut waiter) = self.listeners.remove(&event.text) {
            waiter.listener.end(self.finished(counts, waiter.began, reason, rest));
        }
    }
}
