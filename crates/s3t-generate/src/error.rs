//! Texts that cannot be continued.

/// A text that cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The model cannot continue texts token by token.
    #[error("the model does not continue texts: {0}")]
    Model(&'static str),
    /// The text has no token.
    #[error("the prompt has no token; give at least one")]
    Empty,
    /// The text leaves no room for a token behind it.
    #[error("the prompt has {tokens} tokens; the model takes prompts of 1 to {max}, so that a token fits behind")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The largest number.
        max: usize,
    },
    /// A token that the model does not know.
    #[error("the prompt has the token {token}; the model knows 0 to {max}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// The largest known one.
        max: usize,
    },
    /// The memory does not hold the text, whatever runs beside it.
    #[error(
        "a text of up to {tokens} tokens takes {needed_mb} MB of keys and values, but there are {total_mb} MB for all texts; ask for fewer tokens, or raise the memory"
    )]
    NeverFits {
        /// Tokens of the prompt and behind it.
        tokens: usize,
        /// Megabytes that these take.
        needed_mb: usize,
        /// Megabytes that there are.
        total_mb: usize,
    },
    /// A setting out of its range.
    #[error("`{field}` is {found}; it takes {expected}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// The value.
        found: String,
        /// The values that it takes.
        expected: &'static str,
    },
    /// The model's scores are no numbers.
    #[error("the model's scores of the next token are no numbers; check its weights and adapters")]
    NotFinite,
}
