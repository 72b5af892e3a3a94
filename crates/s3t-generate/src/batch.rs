//! Texts that are continued together: they join and leave token by token.

use std::sync::Arc;

use rayon::prelude::*;
use s3t_core::{Aggregator, MemberInfo};
use s3t_kernels::PAGE;
use s3t_models::Backbone;

use crate::cache::Cache;
use crate::pass::{self, Logits, Part};
use crate::sampling::{likeliest, log_softmax};
use crate::text::{EndReason, Event, EventKind, NewToken, Prompt, Text};
use crate::{Chosen, GenerateError, Lanes, Sampling};

/// Tokens of prompts that go through the models in one step, beside a token of each text that is being continued.
const PROMPT_ROWS: usize = 256;

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest number of texts.
    pub texts: usize,
    /// The bytes for keys and values.
    pub cache_bytes: usize,
}

/// Texts that are continued by one set of models.
pub struct Batch {
    lanes: Lanes,
    cache: Cache,
    max_texts: usize,
    texts: Vec<Text>,
    next: u64,
}

/// The room of a batch for prompts, without its models: it may outlive them.
pub struct PromptRoom {
    backbone: Arc<Backbone>,
    /// The numbers of a page, over all models.
    page_values: usize,
    /// The pages that may be held.
    pages: usize,
}

impl PromptRoom {
    /// The bytes of keys and values that may be held.
    pub fn max_bytes(&self) -> usize {
        self.pages * self.page_values * size_of::<f32>()
    }

    /// Checks that a prompt can be continued, if not now: the largest number of its tokens with those behind.
    ///
    /// # Errors
    ///
    /// [`GenerateError`] for a prompt or a setting that the model cannot take, or that the memory never holds.
    pub fn check(&self, prompt: &Prompt) -> Result<usize, GenerateError> {
        prompt.sampling.check()?;
        let backbone = &self.backbone;
        let (tokens, max) = (prompt.ids.len(), backbone.max_tokens());
        if tokens == 0 {
            return Err(GenerateError::Empty);
        }
        if tokens > max || (tokens == max && prompt.sampling.max_tokens > 0) {
            return Err(GenerateError::TooLong { tokens, max: max.saturating_sub(1) });
        }
        let known = backbone.vocabulary();
        if let Some(token) = prompt.ids.iter().find(|id| **id as usize >= known) {
            return Err(GenerateError::UnknownToken { token: *token, max: known.saturating_sub(1) });
        }
        let all = tokens.saturating_add(prompt.sampling.max_tokens).min(max);
        if all.div_ceil(PAGE) > self.pages {
            let mb = |pages: usize| (pages * self.page_values * size_of::<f32>()).div_ceil(1_000_000);
            let (needed_mb, total_mb) = (mb(all.div_ceil(PAGE)), mb(self.pages));
            return Err(GenerateError::NeverFits { tokens: all, needed_mb, total_mb });
        }
        Ok(all)
    }
}

impl Batch {
    /// A batch without texts.
    pub fn new(lanes: Lanes, limits: BatchLimits) -> Self {
        let page = lanes.page_values();
        let pages = limits.cache_bytes / (page * size_of::<f32>()).max(1);
        Self { cache: Cache::new(page, pages), lanes, max_texts: limits.texts, texts: Vec::new(), next: 0 }
    }

    /// The models.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The texts that are being continued.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// The bytes of keys and values that texts have reserved, that are held, and that may be held.
    pub fn memory(&self) -> [usize; 3] {
        let bytes = self.lanes.page_values() * size_of::<f32>();
        [self.cache.reserved(), self.cache.held(), self.cache.max()].map(|pages| pages * bytes)
    }

    /// Holds at most so many bytes of keys and values from now on, if they are fewer than [`BatchLimits::cache_bytes`]. Texts that are there
    /// keep what they have reserved.
    pub fn limit(&mut self, bytes: usize) {
        self.cache.limit(bytes / (self.lanes.page_values() * size_of::<f32>()).max(1));
    }

    /// Gives back the memory of keys and values that no text uses.
    pub fn shrink(&mut self) {
        self.cache.shrink();
    }

    /// The room that prompts are checked by.
    pub fn room(&self) -> PromptRoom {
        PromptRoom {
            backbone: Arc::clone(self.lanes.backbone()),
            page_values: self.lanes.page_values(),
            pages: self.cache.max(),
        }
    }

    /// Checks that a prompt can be continued, if not now: the largest number of its tokens with those behind.
    ///
    /// # Errors
    ///
    /// As [`PromptRoom::check`].
    pub fn check(&self, prompt: &Prompt) -> Result<usize, GenerateError> {
        self.room().check(prompt)
    }

    /// Adds a text if there is room for it now: its number, or the prompt back.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn add(&mut self, prompt: Prompt) -> Result<Result<u64, Prompt>, GenerateError> {
        let max = self.check(&prompt)?;
        if self.texts.len() >= self.max_texts || !self.cache.reserve(max.div_ceil(PAGE)) {
            return Ok(Err(prompt));
        }
        let number = self.next;
        self.next += 1;
        let mut prompt = prompt;
        // Special tokens leave no text that could be searched.
        let backbone = self.lanes.backbone();
        let Sampling { stop, stop_token_ids, .. } = &mut prompt.sampling;
        stop_token_ids.extend(stop.iter().filter_map(|stop| backbone.special_token(stop)));
        let mut text = Text::new(number, prompt, max);
        self.begin(&mut text);
        self.texts.push(text);
        Ok(Ok(number))
    }

    /// Takes over a text that other models have begun, if there is room for it now: the number that it has from now on.
    ///
    /// # Errors
    ///
    /// The text, if there is no room.
    pub fn adopt(&mut self, mut text: Text) -> Result<u64, Box<Text>> {
        if self.texts.len() >= self.max_texts || !self.cache.reserve(text.max.div_ceil(PAGE)) {
            return Err(Box::new(text));
        }
        text.number = self.next;
        self.next += 1;
        text.forget();
        self.begin(&mut text);
        let number = text.number;
        self.texts.push(text);
        Ok(number)
    }

    /// Takes over the pages of a beginning that is remembered.
    fn begin(&mut self, text: &mut Text) {
        // Where each text runs alone the bits depend on how it is cut; and scores of a prompt are made by running it.
        if !self.lanes.are_low_rank() || text.prompt_scores.is_some() {
            return;
        }
        // The last token runs in any case: the logits behind it are needed.
        (text.pages, text.node) = self.cache.look_up(&text.ids[..text.ids.len() - 1]);
        text.cached = text.pages.len() * PAGE;
    }

    /// Takes a text out, as it is.
    pub fn remove(&mut self, number: u64) -> Option<Text> {
        let place = self.texts.iter().position(|text| text.number == number)?;
        let mut text = self.texts.remove(place);
        text.pages.drain(..).for_each(|page| self.cache.put_back(page));
        self.cache.release(text.max.div_ceil(PAGE));
        Some(text)
    }

    /// Runs the models once and gives the news of the texts. A text that has ended has left.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Model`] for a base model that cannot continue texts.
    pub fn step(&mut self, aggregator: &dyn Aggregator) -> Result<Vec<Event>, GenerateError> {
        if self.texts.is_empty() {
            return Ok(Vec::new());
        }
        let counts = self.next_counts();
        for (text, count) in self.texts.iter_mut().zip(&counts) {
            while text.pages.len() * PAGE < text.cached + count {
                text.pages.push(self.cache.page());
            }
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut running: Vec<usize> = Vec::new();
        for (index, (text, count)) in
            self.texts.iter_mut().zip(&counts).enumerate().filter(|(_, (_, count))| **count > 0)
        {
            let next = text.cached..text.cached + count;
            let is_last = next.end == text.ids.len();
            let wanted = if text.prompt_scores.is_some() && next.start < text.prompt {
                (0..*count).collect()
            } else {
                is_last.then_some(count - 1).into_iter().collect()
            };
            running.push(index);
            parts.push(Part { ids: &text.ids[next.clone()], first: next.start, pages: &mut text.pages, wanted });
        }
        let counted: Vec<usize> = parts.iter().map(|part| part.wanted.len()).collect();
        // The scores behind each wanted token of the texts that run.
        let combined: Vec<Vec<Vec<f32>>> = if self.lanes.are_low_rank() {
            let logits = pass::run(&self.lanes, &mut parts)?;
            combined(aggregator, self.lanes.members(), &logits, &counted)
        } else {
            let mut all = Vec::with_capacity(parts.len());
            for (part, count) in parts.iter_mut().zip(counted) {
                let logits = pass::run(&self.lanes, std::slice::from_mut(part))?;
                all.extend(combined(aggregator, self.lanes.members(), &logits, &[count]));
            }
            all
        };
        drop(parts);
        for (index, count) in running.iter().map(|index| (*index, counts[*index])) {
            let text = &mut self.texts[index];
            remember(&mut self.cache, text, count, self.lanes.are_low_rank());
        }
        let backbone = Arc::clone(self.lanes.backbone());
        let events = self.news(&running, combined, &backbone);
        for event in &events {
            if matches!(event.kind, EventKind::End(..) | EventKind::Failed(..)) {
                self.remove(event.text);
            }
        }
        Ok(events)
    }

    /// The number of tokens of each text that run in the next step.
    fn next_counts(&self) -> Vec<usize> {
        let mut left = PROMPT_ROWS;
        let of_text = |text: &Text| {
            let open = text.ids.len() - text.cached;
            if open <= 1 {
                return open;
            }
            // Where each text runs alone its parts are of one size, whatever runs beside it.
            let room = if self.lanes.are_low_rank() { left } else { left / PROMPT_ROWS * PROMPT_ROWS };
            let count = open.min(room);
            left -= if self.lanes.are_low_rank() { count } else { room };
            count
        };
        self.texts.iter().map(of_text).collect()
    }

    /// The tokens that follow, chosen side by side.
    fn news(&mut self, running: &[usize], combined: Vec<Vec<Vec<f32>>>, backbone: &Backbone) -> Vec<Event> {
        let mut logits: Vec<Option<Vec<Vec<f32>>>> = (0..self.texts.len()).map(|_| None).collect();
        for (index, rows) in running.iter().zip(combined) {
            logits[*index] = Some(rows);
        }
        let ends = backbone.end_tokens();
        let decode = |ids: &[u32]| backbone.decode(ids).unwrap_or_default();
        let of_text = |(text, rows): (&mut Text, Option<Vec<Vec<f32>>>)| match rows {
            Some(rows) if !rows.is_empty() => next_token(text, &rows, ends, &decode),
            _ => Vec::new(),
        };
        self.texts.par_iter_mut().zip(logits).flat_map_iter(of_text).collect()
    }
}

/// The ensemble's logits from those of its members, for so many wanted tokens of each text. Where the aggregator gives shares, their
/// logarithms stand for logits.
fn combined(
    aggregator: &dyn Aggregator,
    members: &[MemberInfo],
    logits: &Logits,
    counts: &[usize],
) -> Vec<Vec<Vec<f32>>> {
    let is_logits = aggregator.keeps_scale();
    let all: usize = counts.iter().sum();
    let of_token = |wanted: usize| {
        let mut scores = aggregator.combine_placed(&logits.of(wanted), members);
        if !is_logits {
            scores.iter_mut().for_each(|share| *share = libm::logf(*share));
        }
        scores
    };
    let mut rows = (0..all).into_par_iter().map(of_token).collect::<Vec<_>>().into_iter();
    counts.iter().map(|count| rows.by_ref().take(*count).collect()).collect()
}

/// Notes that so many tokens more are remembered.
fn remember(cache: &mut Cache, text: &mut Text, count: usize, are_shared: bool) {
    let before = text.cached / PAGE;
    text.cached += count;
    if are_shared {
        for page in before..text.cached / PAGE {
            let tokens = text.ids[page * PAGE..].first_chunk::<PAGE>();
            if let Some(tokens) = tokens {
                text.node = cache.remember(text.node, tokens, &text.pages[page]);
            }
        }
    }
}

/// The news of a text whose last tokens have run; `rows` are the logits behind those that were wanted.
fn next_token(
    text: &mut Text,
    rows: &[Vec<f32>],
    ends: &[u32],
    decode: &(dyn Fn(&[u32]) -> String + Sync),
) -> Vec<Event> {
    let number = text.number;
    let event = |kind| Event { text: number, kind };
    let mut events = Vec::new();
    if text.prompt_scores.is_some() && text.ids.len() == text.prompt {
        let first = text.cached - rows.len();
        let told = text.sampling.logprobs.unwrap_or(0);
        let scores = rows.par_iter().enumerate().filter_map(|(row, logits)| {
            let id = *text.ids.get(first + row + 1)?;
            let logprobs = log_softmax(logits);
            let logprob = Some(logprobs[id as usize]);
            Some(NewToken { id, text: decode(&[id]), logprob, top: likeliest(&logprobs, told) })
        });
        let scores: Vec<NewToken> = scores.collect();
        let so_far = text.prompt_scores.get_or_insert_default();
        if so_far.is_empty() {
            let id = text.ids[0];
            so_far.push(NewToken { id, text: decode(&[id]), logprob: None, top: Vec::new() });
        }
        so_far.extend(scores);
        if text.cached < text.prompt {
            return events;
        }
        events.push(event(EventKind::Prompt(std::mem::take(so_far))));
    }
    if text.ids.len() >= text.max {
        events.push(event(EventKind::End(EndReason::Length, String::new(), text.counts())));
        return events;
    }
    let Some(logits) = rows.last() else { return events };
    let Chosen { id, logprob, top } = match text.sampler.choose(logits) {
        Ok(chosen) => chosen,
        Err(error) => {
            events.push(event(EventKind::Failed(error, text.counts())));
            return events;
        }
    };
    if (ends.contains(&id) && !text.sampling.ignore_eos) || text.sampling.stop_token_ids.contains(&id) {
        events.push(event(EventKind::End(EndReason::Stop, text.stream.finish(decode), text.counts())));
        return events;
    }
    text.ids.push(id);
    let (new, is_stopped) = text.stream.push(id, decode);
    events.push(event(EventKind::Token(NewToken { id, text: new, logprob, top })));
    if is_stopped {
        events.push(event(EventKind::End(EndReason::Stop, String::new(), text.counts())));
    } else if text.ids.len() >= text.max {
        events.push(event(EventKind::End(EndReason::Length, text.stream.finish(decode), text.counts())));
    }
    events
}
