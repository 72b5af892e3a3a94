//! The embeddings that make the input of the first block.

mod patches;
mod tokens;

use burn::tensor::Tensor;

use crate::{Hidden, Input};

pub use patches::{PatchEmbedding, PatchSpec};
pub use tokens::{Counting, PositionSpec, TokenEmbedding, TokenEmbeddingSpec, TypeSpec};

/// The frozen layers before the first block.
///
/// # Contract
///
/// The rows of an input are a function of the input and the weights, whatever the other inputs of the batch are and wherever it
/// stands. The lengths of the result are those of the inputs.
pub trait Embedding: Send + Sync {
    /// The input of block 0, `[inputs, tokens, hidden]`, padded to `tokens`, which no input may exceed.
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden;

    /// The inputs of block 0 for tokens of any texts, `[tokens, hidden]`, if they do not depend on the tokens' positions; `None` if they
    /// do, or the model takes no texts.
    fn embed_tokens(&self, _ids: &[u32]) -> Option<Tensor<2>> {
        None
    }

    /// The embeddings of the vocabulary, `[vocabulary, hidden]`, which a tied language head shares; `None` without a vocabulary.
    fn words(&self) -> Option<&Tensor<2>> {
        None
    }
}
