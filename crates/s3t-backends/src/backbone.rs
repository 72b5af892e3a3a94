//! What a base model can do.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_core::{Digest, PictureInput, Record, RecordId};
use s3t_peft::{Adapters, BlockShape, Linear, LinearSite, NamedTensors};

use crate::{BackendError, HeadLayout, TransformerBlock};

/// The residual stream between two blocks.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// `[batch, tokens, hidden]`. What stands behind a record's own tokens is padding and may be anything finite.
    pub states: Tensor<3>,
    /// How many tokens of each record are its own, from the first.
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
    /// How many of `ids` belong to the record's text; those behind it are the target's, in causal language modelling.
    pub prompt: usize,
    /// The types of a text's tokens, for models that have an embedding for each: 0, and 1 in the second text of a pair. Empty
    /// where all are 0.
    pub types: Vec<u32>,
    /// The tokens that a limit of the user cut off.
    pub cut: usize,
    /// The tokens of its residual stream.
    pub tokens: usize,
    /// Its length in [`Hidden::lengths`]: `tokens`, but for a causal model without the padding tokens that end the text, as
    /// a head reads the last token before them.
    pub length: usize,
    /// `tokens` with padding, as many as [`Backbone::embed`] is asked for where a record's bits must not depend on what it
    /// is batched with: a function of `tokens`, with few values.
    pub padded: usize,
}

impl Input<'_> {
    /// The record's id.
    pub fn id(&self) -> &RecordId {
        &self.record.id
    }

    /// How many of its tokens are learnt, in causal language modelling.
    pub fn learnt(&self) -> usize {
        self.ids.len() - self.prompt
    }
}

/// What Hugging Face calls the blocks of a model and the linear layers inside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleNames {
    /// The list of blocks, with what a model for a task puts before it: `bert.encoder.layer`.
    pub blocks: &'static str,
    /// Each linear layer inside a block: `attention.self.query`.
    pub linears: &'static [(LinearSite, &'static str)],
}

/// The head that came with a model, by its `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnHead {
    /// The names of its outputs, in order; empty if they have no names but their numbers (`LABEL_0`).
    pub labels: Vec<String>,
    /// The kind of problem: `regression`, `single_label_classification` or `multi_label_classification`.
    pub problem: Option<String>,
    /// The classes of Python that the file was saved from, if their head is of another task and left aside.
    pub left_aside: Option<String>,
}

/// A frozen base model.
///
/// # Contract
///
/// - Every method is a function of the model and its arguments, and treats each record of a batch the same whatever the
///   others are and wherever it stands. How many records a batch holds and how many tokens they are padded to may change
///   last bits, because products of other sizes add up in another order; what padding holds may not.
/// - `run(run(h, a..b), b..c)` equals `run(h, a..c)` bit for bit.
/// - Only blocks with an adapter in `adapters` compute anything else than the base model.
pub trait Backbone: Send + Sync {
    /// The `model_type` of its `config.json`.
    fn model_type(&self) -> &str;

    /// The transformer blocks, from the input up; all of one shape.
    fn transformer_blocks(&self) -> &[TransformerBlock];

    /// The number of transformer blocks.
    fn blocks(&self) -> usize {
        self.transformer_blocks().len()
    }

    /// The width of the residual stream.
    fn hidden(&self) -> usize;

    /// The most tokens of a record's residual stream.
    fn max_tokens(&self) -> usize;

    /// The shape of a block; all blocks have the same.
    fn block_shape(&self) -> BlockShape {
        self.transformer_blocks()[0].shape()
    }

    /// A linear layer of a block; `None` if the blocks have none of this kind.
    fn linear(&self, block: usize, site: LinearSite) -> Option<&Linear> {
        self.transformer_blocks().get(block)?.linear(site)
    }

    /// Pictures as the model takes them, with the steps of its own processor; `None` if it takes no images.
    fn image_input(&self) -> Option<&PictureInput> {
        None
    }

    /// The digest of weights, configuration, tokenizer and preprocessing constants: all that results depend on.
    fn digest(&self) -> Digest;

    /// What a stage's head looks like.
    fn head(&self) -> HeadLayout;

    /// Why `transformers` would not compute what this model with a head of a stage computes; `None` if it would.
    fn head_obstacle(&self) -> Option<&'static str> {
        None
    }

    /// The classification head that came with the model, in the names of [`HeadLayout::parameters`].
    fn classifier(&self) -> Option<&NamedTensors>;

    /// The head that came with the model, by its configuration.
    fn own_head(&self) -> &OwnHead;

    /// What Hugging Face calls the blocks and their linear layers: first as in the files of models, then as in other
    /// versions of `transformers`, the newest last.
    fn module_names(&self) -> &'static [ModuleNames];

    /// Checks that the model can take a record and prepares it.
    ///
    /// # Errors
    ///
    /// [`BackendError::WrongInput`] naming the record, what it is and what the model takes.
    fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, BackendError>;

    /// The input of block 0: `[inputs, tokens, hidden]`, padded to `tokens`, which no input may exceed.
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden;

    /// Runs the blocks `range` on their input, with the adapters among them switched on.
    fn run(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let blocks = &self.transformer_blocks()[range.clone()];
        blocks.iter().zip(range).fold(hidden, |hidden, (block, index)| block.forward(hidden, adapters.get(index)))
    }

    /// The token of each record that [`pool`](Self::pool) reads.
    fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize>;

    /// Runs the blocks `range` up to the last for what [`pool`](Self::pool) reads: in the last block one token of each record
    /// goes through everything behind the keys and values, as nothing else is read of its output.
    fn run_to_pool(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let Some(last) = range.clone().next_back() else { return hidden };
        let hidden = self.run(hidden, range.start..last, adapters);
        let tokens = self.pooled_tokens(&hidden);
        self.transformer_blocks()[last].forward_only(hidden, adapters.get(last), &tokens)
    }

    /// What the head sees of the last block's output: `[batch, hidden]`.
    fn pool(&self, hidden: Hidden) -> Tensor<2>;

    /// The linear layer between the last block and the head, with its module's name; `None` if there is none.
    fn pooler(&self) -> Option<(&'static str, &Linear)> {
        None
    }

    /// As [`pool`](Self::pool), with another layer in place of [`pooler`](Self::pooler), which the model must have.
    fn pool_with(&self, hidden: Hidden, _pooler: &Linear) -> Tensor<2> {
        self.pool(hidden)
    }

    /// Whether the model has a language head, so that it can predict tokens.
    fn has_language_head(&self) -> bool {
        false
    }

    /// The logits of the next token from rows of the last block's output, `[rows, hidden]` to `[rows, vocabulary]`; `None`
    /// if the model has no language head.
    fn next_token_logits(&self, _rows: Tensor<2>) -> Option<Tensor<2>> {
        None
    }

    /// The text of tokens; `None` if the model takes no texts.
    fn decode(&self, _ids: &[u32]) -> Option<String> {
        None
    }

    /// The tokens that a completion ends before, in causal language modelling.
    fn end_tokens(&self) -> &[u32] {
        &[]
    }
}
