//! Whoever waits for a text, and what it is told.

use std::sync::Arc;

use s3t_generate::NewToken;
use s3t_ledger::{Epoch, ShardServes};

/// The one who waits for a text.
pub trait Listener: Send {
    /// `false` if nobody waits any more: then the text ends.
    fn is_there(&self) -> bool;

    /// The tokens of the prompt with their log-probabilities, if these were asked for; once, before the first token.
    fn prompt(&mut self, _tokens: Vec<NewToken>) {}

    /// A token.
    fn token(&mut self, token: NewToken);

    /// The end.
    fn end(&mut self, finished: Finished);
}

/// The reason why a text has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// A token or a text to end before.
    Stop,
    /// As many tokens as were asked for, or as the model takes.
    Length,
    /// A deletion has switched off a stage that the text came from.
    Deletion,
    /// Nobody waits for it any more, or the generator was closed.
    Cancelled,
    /// The models could not go on, for this reason.
    Failed(String),
}

/// The end of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The reason.
    pub reason: FinishReason,
    /// The text that was kept back until the end.
    pub text: String,
    /// The number of deletions that its first token knows of.
    pub began: Epoch,
    /// The number of deletions that its last token knows of.
    pub epoch: Epoch,
    /// Each member that its last token came from: its shard, with the last of its stages.
    pub stages: Arc<[ShardServes]>,
    /// The tokens of the prompt.
    pub prompt_tokens: usize,
    /// The tokens behind it.
    pub new_tokens: usize,
}

/// The figures of a generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GeneratorFigures {
    /// Texts that are being continued.
    pub running: usize,
    /// Texts that wait for their turn.
    pub waiting: usize,
    /// Bytes of keys and values that texts have reserved.
    pub reserved_bytes: usize,
    /// Bytes of keys and values that are held, in use or for texts to come.
    pub held_bytes: usize,
    /// Bytes of keys and values that may be held by the newest models.
    pub max_bytes: usize,
    /// Tokens that were made since the start.
    pub tokens: u64,
}

impl Finished {
    /// The end of a text that never began.
    pub(super) fn without_tokens(prompt_tokens: usize, reason: FinishReason) -> Self {
        Self {
            reason,
            text: String::new(),
            began: Epoch::default(),
            epoch: Epoch::default(),
            stages: Arc::new([]),
            prompt_tokens,
            new_tokens: 0,
        }
    }
}
