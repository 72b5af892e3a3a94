//! A text that is being continued, and what happens to it.

use std::sync::Arc;

use crate::cache::Page;
use crate::sampling::{Sampler, TokenScore};
use crate::settings::Sampling;
use crate::stream::TextStream;

/// A text to continue.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The choice of the tokens behind it.
    pub sampling: Sampling,
}

/// A token that was made, or one of the prompt of which the log-probability is told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    /// The token.
    pub id: u32,
    /// The text that is given out with it: that of earlier tokens perhaps, or nothing yet.
    pub text: String,
    /// Its log-probability, if it was asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, if they were asked for.
    pub top: Vec<TokenScore>,
}

/// The reason why a text has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A token or a text to end before.
    Stop,
    /// As many tokens as were asked for, or as the model takes.
    Length,
}

/// News of a text.
#[derive(Debug)]
pub struct Event {
    /// The text's number.
    pub text: u64,
    /// The news.
    pub kind: EventKind,
}

/// The kinds of news.
#[derive(Debug)]
pub enum EventKind {
    /// The prompt's tokens, the first without a score, if these were asked for; before all others.
    Prompt(Vec<NewToken>),
    /// A token.
    Token(NewToken),
    /// The end, with the text that was kept back, and the tokens of the prompt and behind it.
    End(EndReason, String, (usize, usize)),
    /// The text cannot go on; with the tokens of the prompt and behind it.
    Failed(crate::GenerateError, (usize, usize)),
}

/// A text that is being continued.
#[derive(Debug)]
pub struct Text {
    pub(crate) number: u64,
    /// The prompt and the made tokens.
    pub(crate) ids: Vec<u32>,
    pub(crate) prompt: usize,
    /// The largest number of tokens, with the prompt.
    pub(crate) max: usize,
    /// Tokens whose keys and values are remembered.
    pub(crate) cached: usize,
    pub(crate) pages: Vec<Arc<Page>>,
    /// The node of the remembered beginnings that the text's whole pages so far lead to.
    pub(crate) node: u64,
    pub(crate) sampler: Sampler,
    pub(crate) sampling: Sampling,
    pub(crate) stream: TextStream,
    /// The scores of the prompt's tokens so far, where they are asked for.
    pub(crate) prompt_scores: Option<Vec<NewToken>>,
}

impl Text {
    pub(crate) fn new(number: u64, prompt: Prompt, max: usize) -> Self {
        let Prompt { ids, sampling } = prompt;
        Self {
            number,
            prompt: ids.len(),
            max,
            cached: 0,
            pages: Vec::new(),
            node: 0,
            sampler: Sampler::new(sampling.clone(), &ids),
            stream: TextStream::new(&ids, sampling.stop.clone()),
            prompt_scores: sampling.prompt_logprobs.then(Vec::new),
            ids,
            sampling,
        }
    }

    /// The number by which its news are told apart.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The tokens of the prompt, and behind it.
    pub fn counts(&self) -> (usize, usize) {
        (self.prompt, self.ids.len() - self.prompt)
    }

    /// Forgets all keys and values, and the scores of the prompt that were not told yet: other models are to go on. Scores that were told stay
    /// told.
    pub(crate) fn forget(&mut self) {
        let is_told = self.ids.len() > self.prompt;
        self.prompt_scores = self.prompt_scores.take().filter(|_| !is_told).map(|_| Vec::new());
        self.pages.clear();
        self.cached = 0;
        self.node = 0;
    }
}
