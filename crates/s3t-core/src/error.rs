/// Everything that can be wrong with an input of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// An id that is empty, too long or holds control characters.
    #[error("invalid {kind} id {id:?}: {reason}; use 1 to 256 bytes without control characters")]
    InvalidId {
        /// `record` or `subject`.
        kind: &'static str,
        /// The id as given.
        id: String,
        /// The problem.
        reason: &'static str,
    },
    /// A text that is not a digest.
    #[error("`{text}` is not a digest: expected 64 hexadecimal digits")]
    InvalidDigest {
        /// The text as given.
        text: String,
    },
    /// Two records with one id.
    #[error("record id `{0}` occurs twice; ids must be unique")]
    DuplicateRecord(String),
    /// Two different ids that a person cannot tell apart, or an id that shows nothing; see `spelling`.
    #[error("{problem}")]
    ConfusableIds {
        /// `record` or `subject`.
        kind: &'static str,
        /// The id.
        id: String,
        /// The earlier id that it looks like; `None` for an id that shows nothing.
        earlier: Option<String>,
        /// The sentence for people, with both ids as they differ.
        problem: String,
    },
    /// A field whose value cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field, as it is written in a pipeline file.
        field: String,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A budget that a strategy cannot fill with distinct sequences.
    #[error("strategy `{strategy}` cannot make {budget} distinct sequences of {slices} slices: {reason}")]
    BudgetOutOfRange {
        /// The strategy's plugin name.
        strategy: String,
        /// The budget B asked for.
        budget: usize,
        /// The number of slices L.
        slices: u32,
        /// The allowed range.
        reason: String,
    },
    /// A strategy that returned something that is not a set of B distinct permutations.
    #[error("strategy `{strategy}` broke its contract: {problem}")]
    BrokenStrategy {
        /// The strategy's plugin name.
        strategy: String,
        /// The problem with the result.
        problem: String,
    },
    /// A list of slices that is not a permutation of `0..L`.
    #[error("{slices:?} is not a permutation of the slices 0 to {}", .expected.saturating_sub(1))]
    NotAPermutation {
        /// The list as given.
        slices: Vec<u32>,
        /// L.
        expected: u32,
    },
    /// Two stages of a chain with parameters of the same block.
    #[error("two stages of a chain hold block {block}; a block belongs to the layer group of one stage")]
    OverlappingBlocks {
        /// The block.
        block: usize,
    },
    /// A tensor of a stage's file that belongs to no part of a model.
    #[error("tensor `{name}` is neither `blocks.NUMBER.NAME` nor `head.NAME`")]
    TensorName {
        /// The name as given.
        name: String,
    },
}

impl CoreError {
    /// A [`CoreError::InvalidField`].
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }
}
