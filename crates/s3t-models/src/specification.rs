//! The description of a model that a family makes of its `config.json`.

use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_kernels::Activation;
use s3t_peft::tensors::{to_device, to_host};
use s3t_peft::{HostTensor, LinearSite};
use serde_json::Value;

use crate::attention::{Attention, Visibility};
use crate::block::{BlockDesign, NormPlace, TransformerBlock};
use crate::embedding::{Embedding, PatchSpec, TokenEmbeddingSpec};
use crate::norm::NormSpec;
use crate::pictures::PictureReader;
use crate::pooling::PooledToken;
use crate::rotary::Rotary;
use crate::text::{Ends, Room};
use crate::weights::Loader;
use crate::{FeedForward, HeadLayout, ModelError};

/// The names that one version of Hugging Face's library gives the blocks of a model and the linear layers inside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleNames {
    /// The list of blocks, with the name of the base model in a model for a task before it: `bert.encoder.layer`.
    pub blocks: &'static str,
    /// Each linear layer inside a block: `attention.self.query`.
    pub linears: &'static [(LinearSite, &'static str)],
}

/// The reader that turns records into inputs.
#[derive(Debug, Clone)]
pub enum ReaderSpec {
    /// Texts, by the `tokenizer.json` of the folder.
    Texts {
        /// The room of the model.
        room: Room,
        /// The tokens with a meaning at the end of a text.
        ends: Ends,
    },
    /// Pictures, by the image processor of the folder.
    Pictures(PictureReader),
}

/// A function that takes an embedding of the family's own out of the weights.
pub type LoadEmbedding = Box<dyn FnOnce(&mut Loader<'_>) -> Result<Box<dyn Embedding>, ModelError>>;

/// The embedding that makes the input of the first block.
pub enum EmbeddingSpec {
    /// The embeddings of tokens.
    Tokens(TokenEmbeddingSpec),
    /// The patches of pictures.
    Patches(PatchSpec),
    /// An embedding of the family's own.
    Own(LoadEmbedding),
}

/// The blocks.
#[derive(Debug, Clone)]
pub struct BlockSpec {
    /// The tokens that a token sees in each block, one entry for each block.
    pub visibility: Vec<Visibility>,
    /// The width of the residual stream.
    pub hidden: usize,
    /// The width of the feed-forward layer.
    pub inner: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The rotation of queries and keys.
    pub rotary: Option<Rotary>,
    /// The place of the normalisations.
    pub norms: NormPlace,
    /// The normalisation of attention, named inside the block.
    pub attention_norm: NormSpec,
    /// The normalisation of the feed-forward layer, named inside the block.
    pub feed_forward_norm: NormSpec,
    /// The activation of the feed-forward layer, which has a gate if the modules name one.
    pub activation: Activation,
    /// The linear layers that have a bias.
    pub biases: Vec<LinearSite>,
}

/// A pooler with tanh, which the weights may lack.
#[derive(Debug, Clone, Copy)]
pub struct PoolerSpec {
    /// Its module in the file, without the prefix: `pooler.dense`.
    pub module: &'static str,
    /// Its module in a model for a task: `bert.pooler.dense`.
    pub whole: &'static str,
    /// The reason why the model cannot have a head without it.
    pub obstacle: &'static str,
}

/// A language head.
#[derive(Debug, Clone, Copy)]
pub struct LanguageSpec {
    /// Its module, from the root of the file: `lm_head`.
    pub module: &'static str,
    /// The number of tokens that it predicts.
    pub vocabulary: usize,
    /// True if it shares the embeddings of the tokens.
    pub tied: bool,
}

/// A model, described by its family.
pub struct Specification {
    /// The constants that results depend on beside the weights and the reader: they enter the digest in this order.
    pub constants: Vec<Value>,
    /// The word that the digest starts from: the name of the family of models that share the layout of their digests.
    pub context: &'static str,
    /// The name of the base model in a model for a task, with a dot, as files may have it before every name: `bert.`.
    pub prefix: &'static str,
    /// The names of modules: first as in the files of models, then as in later versions of the library, the newest last.
    pub names: &'static [ModuleNames],
    /// The reader.
    pub reader: ReaderSpec,
    /// The embedding.
    pub embedding: EmbeddingSpec,
    /// The blocks.
    pub blocks: BlockSpec,
    /// The normalisation behind the last block, if the model has one.
    pub final_norm: Option<NormSpec>,
    /// The token that a head reads.
    pub pooled: PooledToken,
    /// The pooler, if the model has one.
    pub pooler: Option<PoolerSpec>,
    /// The language head, if the model may have one.
    pub language: Option<LanguageSpec>,
    /// The layout of a classification head.
    pub head: HeadLayout,
    /// The prefixes of tensors that the file may hold and the model has no use for: heads of other tasks, constants.
    pub unused: &'static [&'static str],
}

impl BlockSpec {
    /// Takes the blocks out of the weights; `list` is the name of their list in the file.
    pub(crate) fn load(
        &self,
        loader: &mut Loader<'_>,
        list: &str,
        modules: &'static [(LinearSite, &'static str)],
    ) -> Result<Vec<TransformerBlock>, ModelError> {
        let rotary = self.rotary.clone().map(Arc::new);
        let mut blocks = Vec::with_capacity(self.visibility.len());
        for (index, visibility) in self.visibility.iter().enumerate() {
            blocks.push(self.load_block(loader, &format!("{list}.{index}"), modules, *visibility, rotary.clone())?);
        }
        Ok(blocks)
    }

    fn load_block(
        &self,
        loader: &mut Loader<'_>,
        root: &str,
        modules: &'static [(LinearSite, &'static str)],
        visibility: Visibility,
        rotary: Option<Arc<Rotary>>,
    ) -> Result<TransformerBlock, ModelError> {
        let Self { hidden, inner, heads, kv_heads, head_dim, activation, .. } = *self;
        let module = |site: LinearSite| modules.iter().find(|(named, _)| *named == site).map(|(_, module)| *module);
        let mut linear = |site: LinearSite, inputs: usize, outputs: usize| {
            let name = format!("{root}.{}", module(site).unwrap_or(site.name()));
            loader.linear(&name, inputs, outputs, self.biases.contains(&site))
        };
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let attention = Attention {
            query: linear(LinearSite::Query, hidden, queries)?,
            key: linear(LinearSite::Key, hidden, keys)?,
            value: linear(LinearSite::Value, hidden, keys)?,
            output: linear(LinearSite::Output, queries, hidden)?,
            heads,
            kv_heads,
            head_dim,
            visibility,
            rotary,
        };
        let gate = match module(LinearSite::Gate) {
            Some(_) => Some(linear(LinearSite::Gate, hidden, inner)?),
            None => None,
        };
        let (up, down) = (linear(LinearSite::Up, hidden, inner)?, linear(LinearSite::Down, inner, hidden)?);
        let feed_forward = match gate {
            Some(gate) => FeedForward::Gated { gate, up, down, activation },
            None => FeedForward::Plain { up, down, activation },
        };
        let mut norm = |spec: NormSpec| loader.norm(&format!("{root}.{}", spec.module), spec, hidden);
        Ok(TransformerBlock {
            attention,
            feed_forward,
            attention_norm: norm(self.attention_norm)?,
            feed_forward_norm: norm(self.feed_forward_norm)?,
            design: BlockDesign { norms: self.norms, modules },
        })
    }
}

impl LanguageSpec {
    /// Takes a head of its own out of the file. A tied model may have been saved with its head in place of the embeddings: then
    /// the head stands in for them.
    pub(crate) fn take(
        &self,
        loader: &mut Loader<'_>,
        embedding: &EmbeddingSpec,
        hidden: usize,
    ) -> Result<Option<HostTensor>, ModelError> {
        let head = loader.take_optional(&format!("{}.weight", self.module), &[self.vocabulary, hidden])?;
        let EmbeddingSpec::Tokens(words) = embedding else { return Ok(head) };
        let name = format!("{}.weight", words.words);
        match head {
            Some(head) if self.tied && !loader.has(&name) => {
                loader.stand_in(&name, head);
                Ok(None)
            }
            head => Ok(head),
        }
    }

    /// The head, `[hidden, vocabulary]`: its own, or of a tied model the embeddings. Where a tied model has a head with other
    /// numbers than the embeddings, the two are not tied in Python either.
    pub(crate) fn finish(
        &self,
        loader: &mut Loader<'_>,
        head: Option<HostTensor>,
        embedding: &dyn Embedding,
        hidden: usize,
    ) -> Option<Tensor<2>> {
        let words = embedding.words().filter(|_| self.tied);
        let is_tied = |head: &HostTensor| words.is_some_and(|words| to_host(words.clone()) == head.values);
        match head.filter(|head| !is_tied(head)) {
            Some(head) => {
                loader.digest_tensor(&format!("{}.weight", self.module), &head);
                Some(to_device(&head, loader.device()).reshape([self.vocabulary, hidden]).transpose())
            }
            None => words.map(|words| words.clone().transpose()),
        }
    }
}
