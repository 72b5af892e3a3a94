//! Records as a model takes them, and the residual stream between two blocks.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_core::{Record, RecordId};

/// The residual stream between two blocks.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// `[batch, tokens, hidden]`. The rows behind a record's own tokens are padding and may hold any finite values.
    pub states: Tensor<3>,
    /// The number of each record's own tokens, counted from the first.
    pub lengths: Arc<[usize]>,
}

impl Hidden {
    /// The residual stream of records of these lengths.
    pub fn new(states: Tensor<3>, lengths: impl Into<Arc<[usize]>>) -> Self {
        Self { states, lengths: lengths.into() }
    }
}

/// A record as the model takes it: checked, and for texts cut into tokens.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The record.
    pub record: &'a Record,
    /// The ids of a text's tokens; empty for images.
    pub ids: Vec<u32>,
    /// The ranges of `ids` that are learnt in causal language modelling, ascending and apart, none with the first id: the target's ids
    /// behind those of the record's text, or the assistant's turns of a chat.
    pub targets: Vec<Range<usize>>,
    /// The types of a text's tokens, for models that have an embedding for each: 0, and 1 in the second text of a pair. Empty
    /// if all are 0.
    pub types: Vec<u32>,
    /// The tokens that a limit of the user cut off.
    pub cut: usize,
    /// The tokens of its residual stream.
    pub tokens: usize,
    /// Its length in [`Hidden::lengths`]: `tokens`, but for a causal model without the padding tokens that end the text, as
    /// a head reads the last token before them.
    pub length: usize,
    /// `tokens` with padding: the tokens to embed where a record's bits must not depend on the records in its batch. A
    /// function of `tokens`, with few values.
    pub padded: usize,
}

impl Input<'_> {
    /// The record's id.
    pub fn id(&self) -> &RecordId {
        &self.record.id
    }

    /// The number of its tokens that are learnt, in causal language modelling.
    pub fn learnt(&self) -> usize {
        self.targets.iter().map(ExactSizeIterator::len).sum()
    }
}
