//! Texts that several callers have continued at a time, while deletions go on.
//!
//! # Proof note
//!
//! *Before*: a caller hands in a prompt. *After*: every token of its text comes from models that were live when the step that made it began,
//! so a text that begins after a deletion is acknowledged uses no stage that saw the records; and a text says which deletions its first
//! and its last token know of. *Why*: each step looks at the catalogue first. Texts whose models are all live go on with these, to
//! their ends. A text of which a model has died ends there, or goes on with the models that are live, which run it anew from its
//! first token: nothing that a dead model computed is used but the tokens that the caller has already been given.

mod group;
mod listener;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use s3t_core::StageKey;
use s3t_generate::{Batch, BatchLimits, EventKind, GenerateError, Lanes, Prompt, PromptRoom, Text};
use s3t_ledger::{Epoch, ShardServes};
use s3t_models::Backbone;
use s3t_train::on_threads;

use self::group::{Group, Waiter};
pub use self::listener::{FinishReason, Finished, GeneratorFigures, Listener};
use crate::EngineError;
use crate::checked::CheckedPipeline;
use crate::ensemble::Member;
use crate::settings::{GenerationSettings, OnDeletion};

/// The models that answer at a moment.
#[derive(Clone)]
pub struct ServedModels {
    /// The number of deletions that they know of.
    pub epoch: Epoch,
    /// The members.
    pub members: Arc<Vec<Arc<Member>>>,
    /// Each member: its shard, with the last of its stages.
    pub stages: Arc<[ShardServes]>,
}

/// A source of the models that answer now: a system with a store, or one that follows a leader.
pub trait ServesModels: Send + Sync {
    /// The models that answer now.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if no model can answer.
    fn serving(&self) -> Result<ServedModels, EngineError>;

    /// `true` if a stage may still answer.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if that cannot be told.
    fn is_live(&self, stage: &StageKey) -> Result<bool, EngineError>;

    /// The pipeline.
    fn pipeline(&self) -> &CheckedPipeline;

    /// The base model.
    fn backbone(&self) -> &Arc<Backbone>;
}

/// Continues texts for several callers.
///
/// One thread calls [`run`](Self::run); others hand prompts in by [`submit`](Self::submit).
pub struct Generator {
    source: Arc<dyn ServesModels>,
    settings: GenerationSettings,
    /// The room of the newest models, by which prompts are checked: not the models, which may die.
    room: Mutex<PromptRoom>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Prompt, Box<dyn Listener>)>,
    figures: GeneratorFigures,
    is_closed: bool,
}

/// The bytes of a megabyte.
const MEGABYTE: usize = 1_000_000;

/// The longest time between two looks for texts that nobody waits for, and for models that have died.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

impl Generator {
    /// A generator with the settings of the source's pipeline.
    ///
    /// # Errors
    ///
    /// [`EngineError::Generate`] for a base model that does not continue texts; the errors of the source.
    pub fn new(source: Arc<dyn ServesModels>) -> Result<Self, EngineError> {
        let settings = source.pipeline().serving.generation;
        let room = Mutex::new(batch(&source.serving()?, source.backbone(), settings)?.room());
        Ok(Self { source, settings, room, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The settings.
    pub fn settings(&self) -> GenerationSettings {
        self.settings
    }

    fn room(&self) -> MutexGuard<'_, PromptRoom> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that a prompt can be continued, if not now.
    ///
    /// # Errors
    ///
    /// [`EngineError::Generate`] for a prompt or a setting that the model cannot take, or that the memory never holds.
    pub fn check(&self, prompt: &Prompt) -> Result<(), EngineError> {
        self.room().check(prompt)?;
        Ok(())
    }

    /// Hands a prompt in.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); [`EngineError::Busy`] if too many wait already, or the generator was closed.
    pub fn submit(&self, prompt: Prompt, listener: Box<dyn Listener>) -> Result<(), EngineError> {
        self.check(&prompt)?;
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() >= self.settings.max_waiting {
            return Err(EngineError::Busy { waiting: state.waiting.len() });
        }
        state.waiting.push_back((prompt, listener));
        state.figures.waiting = state.waiting.len();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes no more texts, and ends those that are there.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// The figures of this moment.
    pub fn figures(&self) -> GeneratorFigures {
        self.lock().figures
    }

    /// Continues texts until the generator is closed.
    pub fn run(&self) {
        let mut groups: Vec<Group> = Vec::new();
        while !self.lock().is_closed {
            self.turn(&mut groups);
            self.note(&groups);
            let mut state = self.lock();
            // Where nothing runs, what waits has no room, or no models. Models that die are let go soon, whether somebody asks or not.
            if groups.iter().all(|group| group.batch.texts().is_empty()) && !state.is_closed {
                let wait = if state.waiting.is_empty() && groups.is_empty() { std::time::Duration::MAX } else { LOOK };
                state = match wait {
                    std::time::Duration::MAX => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    wait => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                };
            }
            drop(state);
        }
        let waiting = std::mem::take(&mut self.lock().waiting);
        for (prompt, mut listener) in waiting {
            listener.end(Finished::without_tokens(prompt.ids.len(), FinishReason::Cancelled));
        }
        for mut group in groups {
            group.end_all(&FinishReason::Cancelled);
        }
        self.note(&[]);
    }

    /// One step of every text.
    fn turn(&self, groups: &mut Vec<Group>) {
        match self.source.serving() {
            Ok(serving) => self.follow(groups, &serving),
            // No model can answer: what runs has died, or may not answer for now, and what waits is told so.
            Err(error) => {
                let reason = FinishReason::Failed(error.to_string());
                for mut group in groups.drain(..) {
                    let has_died = !self.is_live(&group);
                    group.end_all(if has_died { &FinishReason::Deletion } else { &reason });
                }
                for (prompt, mut listener) in std::mem::take(&mut self.lock().waiting) {
                    listener.end(Finished::without_tokens(prompt.ids.len(), reason.clone()));
                }
                return;
            }
        }
        groups.iter_mut().for_each(Group::leave);
        self.leave_queue();
        if let Some((newest, older)) = groups.split_last_mut() {
            // All groups together hold what the settings allow.
            older.iter_mut().for_each(|group| group.batch.shrink());
            let taken = |group: &Group| {
                let [reserved, held, _] = group.batch.memory();
                reserved.max(held)
            };
            let taken: usize = older.iter().map(taken).sum();
            newest.batch.limit((self.settings.cache_mb * MEGABYTE).saturating_sub(taken));
            self.admit(newest);
        }
        let aggregator = &*self.source.pipeline().serving.aggregator;
        let threads = self.source.pipeline().resources.job_count();
        for group in groups.iter_mut().filter(|group| !group.batch.texts().is_empty()) {
            let stepped = on_threads(threads, || group.batch.step(aggregator));
            match stepped {
                Ok(Ok(events)) => {
                    let made = events.iter().filter(|event| matches!(event.kind, EventKind::Token(_))).count();
                    self.lock().figures.tokens += made as u64;
                    events.into_iter().for_each(|event| group.tell(event));
                }
                Ok(Err(error)) => group.end_all(&FinishReason::Failed(error.to_string())),
                Err(error) => group.end_all(&FinishReason::Failed(error.to_string())),
            }
        }
        // Older models go when their last text has ended; the newest stay for texts to come.
        let newest = groups.len().saturating_sub(1);
        let mut index = 0;
        groups.retain(|group| {
            index += 1;
            index > newest || !group.batch.texts().is_empty()
        });
    }

    /// Makes the models that answer now the newest group, and takes the texts of dead models out of the others.
    fn follow(&self, groups: &mut Vec<Group>, serving: &ServedModels) {
        let same = |group: &Group| {
            let (old, new) = (&group.serving.members, &serving.members);
            old.len() == new.len() && old.iter().zip(&**new).all(|(old, new)| Arc::ptr_eq(old, new))
        };
        let mut homeless: Vec<(Text, Waiter)> = Vec::new();
        if !groups.last().is_some_and(same) {
            match batch(serving, self.source.backbone(), self.settings) {
                Ok(batch) => {
                    *self.room() = batch.room();
                    groups.push(Group { serving: serving.clone(), batch, listeners: HashMap::new() });
                }
                Err(error) => {
                    let reason = FinishReason::Failed(error.to_string());
                    groups.drain(..).for_each(|mut group| group.end_all(&reason));
                    return;
                }
            }
        }
        let newest = groups.len() - 1;
        groups[newest].serving.epoch = serving.epoch;
        groups[newest].serving.stages = Arc::clone(&serving.stages);
        let mut index = 0;
        groups.retain_mut(|group| {
            index += 1;
            if index > newest || self.is_live(group) {
                return true;
            }
            match self.settings.on_deletion {
                OnDeletion::Stop => group.end_all(&FinishReason::Deletion),
                OnDeletion::Continue => homeless.extend(group.take_all()),
            }
            false
        });
        let Some(group) = groups.last_mut() else { return };
        for (text, mut waiter) in homeless {
            match group.batch.adopt(text) {
                Ok(number) => {
                    group.listeners.insert(number, waiter);
                }
                // More models alive than before take more memory: the newest text has no room any more.
                Err(text) => waiter.listener.end(group.finished(
                    text.counts(),
                    waiter.began,
                    FinishReason::Deletion,
                    String::new(),
                )),
            }
        }
    }

    /// `true` if every stage that a group's models come from may still answer.
    fn is_live(&self, group: &Group) -> bool {
        let mut keys = group.serving.members.iter().filter_map(|member| member.key);
        keys.all(|key| self.source.is_live(&key).unwrap_or(false))
    }

    /// Lets texts that wait join, in their order, as long as there is room.
    fn admit(&self, group: &mut Group) {
        loop {
            let Some((prompt, mut listener)) = self.lock().waiting.pop_front() else { return };
            let tokens = prompt.ids.len();
            match group.batch.add(prompt) {
                Ok(Ok(number)) => {
                    group.listeners.insert(number, Waiter { listener, began: group.serving.epoch });
                }
                Ok(Err(prompt)) => {
                    self.lock().waiting.push_front((prompt, listener));
                    return;
                }
                Err(error) => listener.end(Finished::without_tokens(tokens, FinishReason::Failed(error.to_string()))),
            }
        }
    }

    /// Takes texts out of the queue that nobody waits for, so that they keep no place.
    fn leave_queue(&self) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting).into_iter();
        let (there, gone): (VecDeque<_>, VecDeque<_>) = waiting.partition(|(_, listener)| listener.is_there());
        state.waiting = there;
        drop(state);
        for (prompt, mut listener) in gone {
            listener.end(Finished::without_tokens(prompt.ids.len(), FinishReason::Cancelled));
        }
    }

    fn note(&self, groups: &[Group]) {
        let mut state = self.lock();
        let memory = |index: usize| groups.iter().map(|group| group.batch.memory()[index]).sum();
        state.figures = GeneratorFigures {
            running: groups.iter().map(|group| group.batch.texts().len()).sum(),
            waiting: state.waiting.len(),
            reserved_bytes: memory(0),
            held_bytes: memory(1),
            max_bytes: self.room().max_bytes(),
            tokens: state.figures.tokens,
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in single steps, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch of these models.
pub(crate) fn batch(
    serving: &ServedModels,
    backbone: &Arc<Backbone>,
    settings: GenerationSettings,
) -> Result<Batch, GenerateError> {
    let models = serving.members.iter().map(|member| (member.place(), Arc::clone(&member.model))).collect();
    let lanes = Lanes::new(Arc::clone(backbone), models)?;
    Ok(Batch::new(lanes, BatchLimits { texts: settings.max_texts, cache_bytes: settings.cache_mb * MEGABYTE }))
}
