//! A frozen base model, as a struct of parts.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor};
use s3t_core::{Digest, PictureInput, Record};
use s3t_peft::{Adapters, BlockShape, Linear, LinearSite, NamedTensors, Weight};

use crate::embedding::{Embedding, PatchEmbedding, TokenEmbedding};
use crate::model_file::ModelFile;
use crate::own_head::{HeadFields, OwnHead};
use crate::pictures::PictureReader;
use crate::pooling::{PooledToken, Pooler, pooled};
use crate::specification::{EmbeddingSpec, ModuleNames, ReaderSpec, Specification};
use crate::text::TextEncoder;
use crate::weights::Loader;
use crate::{
    ChatTemplate, FieldError, HeadLayout, Hidden, Input, Message, ModelError, Norm, Precision, TransformerBlock,
};

/// The reader of records.
enum Reader {
    Texts(Box<TextEncoder>),
    Pictures(PictureReader),
}

/// A frozen base model.
///
/// # Contract
///
/// - Every method is a function of the model and its arguments, and treats each record of a batch the same whatever the
///   other records are and wherever it stands. The number of tokens that they are padded to may change last bits, and on devices
///   other than `flex` the number of records in a batch, where products of other sizes add up in another order; the values of padding may
///   not.
/// - `run(run(h, a..b), b..c)` equals `run(h, a..c)` bit for bit.
/// - Only blocks with an adapter in `adapters` compute anything else than the base model.
///
/// `s3t_testkit::check_model_family` holds every family to it.
pub struct Backbone {
    model_type: &'static str,
    reader: Reader,
    embedding: Box<dyn Embedding>,
    blocks: Vec<TransformerBlock>,
    final_norm: Option<Norm>,
    pooled: PooledToken,
    pooler: Option<Pooler>,
    obstacle: Option<&'static str>,
    /// `[hidden, vocabulary]`.
    language: Option<Weight>,
    head: HeadLayout,
    classifier: Option<NamedTensors>,
    own_head: OwnHead,
    names: &'static [ModuleNames],
    hidden: usize,
    digest: Digest,
    precision: Precision,
}

impl Backbone {
    /// Loads the weights of a folder by a specification.
    pub(crate) fn load(
        file: &ModelFile,
        own: HeadFields,
        model_type: &'static str,
        specification: Specification,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let is_text = matches!(specification.reader, ReaderSpec::Texts { .. });
        if !is_text && file.options().max_tokens.is_some() {
            let problem = "is for models of texts, but this is one of images";
            return Err(file.refuse(FieldError::new("max_tokens", problem)));
        }
        let text = match &specification.reader {
            ReaderSpec::Texts { room, ends } => Some(TextEncoder::load(file, *room, ends.clone())?),
            ReaderSpec::Pictures(_) => None,
        };
        let Specification { prefix, context, unused, head, .. } = specification;
        let mut loader = Loader::open(file.directory(), prefix, context, file.options(), device)?;
        for constant in &specification.constants {
            loader.digest_json(constant);
        }
        if let Some(text) = &text {
            loader.digest_json(&serde_json::json!(text.digest()));
        }
        let mut backbone = Self::assemble(specification, model_type, &mut loader, text)?;
        backbone.classifier = own.take(file, &mut loader, head, backbone.hidden)?;
        backbone.own_head = own.into_own();
        if let Some(obstacle) = backbone.obstacle.filter(|_| backbone.classifier.is_some()) {
            let problem = format!("the weights hold a head, `{}`, but {obstacle}", head.output);
            return Err(ModelError::Config { path: file.directory().join("config.json"), problem });
        }
        backbone.digest = loader.finish(unused)?;
        Ok(backbone)
    }

    /// Builds a model on flat tensors by their names in a file, which may be tracked for gradients: for pre-training.
    ///
    /// Its digest names the constants only. Write the trained tensors to a folder and [`load`](crate::load) it to get a model
    /// that stages can be built on.
    ///
    /// # Errors
    ///
    /// [`ModelError::MissingTensors`] naming the first missing tensor.
    ///
    /// # Panics
    ///
    /// For a model of texts: its tokenizer is read from a folder only.
    pub fn in_memory(
        specification: Specification,
        tensors: &BTreeMap<String, Tensor<1>>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut loader = Loader::in_memory(tensors, specification.context, device);
        for constant in &specification.constants {
            loader.digest_json(constant);
        }
        Self::assemble(specification, "", &mut loader, None)
    }

    /// Takes every part out of the weights, without a classification head.
    fn assemble(
        specification: Specification,
        model_type: &'static str,
        loader: &mut Loader<'_>,
        text: Option<TextEncoder>,
    ) -> Result<Self, ModelError> {
        let Specification { names, prefix, reader, embedding, blocks, language, .. } = specification;
        let hidden = blocks.hidden;
        let head = match &language {
            Some(language) => language.take(loader, &embedding, hidden)?,
            None => None,
        };
        let embedding: Box<dyn Embedding> = match embedding {
            EmbeddingSpec::Tokens(spec) => Box::new(TokenEmbedding::load(spec, loader)?),
            EmbeddingSpec::Patches(spec) => Box::new(PatchEmbedding::load(spec, loader)?),
            EmbeddingSpec::Own(load) => load(loader)?,
        };
        let list = names[0].blocks.strip_prefix(prefix).unwrap_or(names[0].blocks);
        let blocks = blocks.load(loader, list, names[0].linears)?;
        let final_norm = match specification.final_norm {
            Some(norm) => Some(loader.norm(norm.module, norm, hidden)?),
            None => None,
        };
        let (mut pooler, mut obstacle) = (None, None);
        if let Some(spec) = specification.pooler {
            if loader.has(&format!("{}.weight", spec.module)) {
                let linear = loader.linear(spec.module, hidden, hidden, true)?;
                pooler = Some(Pooler { module: spec.whole, linear });
            } else {
                obstacle = Some(spec.obstacle);
            }
        }
        let language = match &language {
            Some(language) => language.finish(loader, head, &*embedding, hidden).map(|head| loader.frozen(head)),
            None => None,
        };
        let reader = match (reader, text) {
            (ReaderSpec::Pictures(pictures), _) => Reader::Pictures(pictures),
            (ReaderSpec::Texts { .. }, Some(text)) => Reader::Texts(Box::new(text)),
            (ReaderSpec::Texts { .. }, None) => unreachable!("a model of texts is loaded with its tokenizer"),
        };
        Ok(Self {
            model_type,
            reader,
            embedding,
            blocks,
            final_norm,
            pooled: specification.pooled,
            pooler,
            obstacle,
            language,
            head: specification.head,
            classifier: None,
            own_head: OwnHead::default(),
            names,
            hidden,
            digest: loader.digest(),
            precision: loader.precision(),
        })
    }

    /// The `model_type` of its `config.json`.
    pub fn model_type(&self) -> &str {
        self.model_type
    }

    /// The transformer blocks, from the input up; all of one shape.
    pub fn transformer_blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    /// The number of transformer blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The width of the residual stream.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The largest number of tokens of a record's residual stream.
    pub fn max_tokens(&self) -> usize {
        match &self.reader {
            Reader::Texts(text) => text.max_tokens(),
            Reader::Pictures(pictures) => pictures.tokens(),
        }
    }

    /// The shape of a block; all blocks have the same.
    ///
    /// # Panics
    ///
    /// Never: a model has at least one block.
    pub fn block_shape(&self) -> BlockShape {
        self.blocks[0].shape()
    }

    /// A linear layer of a block; `None` if the block is not there or has no layer at this site.
    pub fn linear(&self, block: usize, site: LinearSite) -> Option<&Linear> {
        self.blocks.get(block)?.linear(site)
    }

    /// Pictures as the model takes them, with the steps of its own processor; `None` if it takes no pictures.
    pub fn image_input(&self) -> Option<&PictureInput> {
        match &self.reader {
            Reader::Pictures(pictures) => Some(pictures.input()),
            Reader::Texts(_) => None,
        }
    }

    /// The digest of weights, configuration, tokenizer and preprocessing constants: all that results depend on.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The layout of a stage's head.
    pub fn head(&self) -> HeadLayout {
        self.head
    }

    /// The reason why `transformers` would not compute what this model with a head of a stage computes; `None` if it would.
    pub fn head_obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// The precision of the frozen linear layers; of the language head alone where the others are kept in 8-bit integers.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The classification head that came with the model, in the names of [`HeadLayout::parameters`].
    pub fn classifier(&self) -> Option<&NamedTensors> {
        self.classifier.as_ref()
    }

    /// The head that came with the model, by its configuration.
    pub fn own_head(&self) -> &OwnHead {
        &self.own_head
    }

    /// The names of the blocks and their linear layers in Hugging Face's library: first as in the files of models, then as in
    /// later versions, the newest last.
    pub fn module_names(&self) -> &'static [ModuleNames] {
        self.names
    }

    /// Checks that the model can take a record and prepares it.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongInput`] naming the record, its kind and the kind that the model takes.
    pub fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, ModelError> {
        match &self.reader {
            Reader::Texts(text) => text.prepare(record),
            Reader::Pictures(pictures) => pictures.prepare(record),
        }
    }

    /// Prepares a record whose target is scored as the continuation of its text: both are cut into tokens as one text, blanks at the
    /// end of the text belong to the continuation, and no end token follows. ([`prepare`](Self::prepare) cuts them apart, as in
    /// training.) An empty text stands for the token that starts a text.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongInput`] as [`prepare`](Self::prepare), and for texts that the model has not enough positions for.
    pub fn prepare_continuation<'a>(&self, record: &'a Record) -> Result<Input<'a>, ModelError> {
        match &self.reader {
            Reader::Texts(text) => text.prepare_continuation(record),
            Reader::Pictures(_) => Err(ModelError::WrongInput {
                record: record.id.to_string(),
                found: record.payload.describe(),
                expected: "a model of texts, to continue one".into(),
            }),
        }
    }

    /// The input of block 0: `[inputs, tokens, hidden]`, padded to `tokens`, which no input may exceed.
    pub fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        self.embedding.embed(inputs, tokens)
    }

    /// The inputs of block 0 for tokens of any texts, `[tokens, hidden]`; `None` for a model that cannot continue texts token by token:
    /// without a language head, with tokens that see those behind them, or whose embeddings depend on positions.
    pub fn embed_tokens(&self, ids: &[u32]) -> Option<Tensor<2>> {
        let causal = self.blocks.iter().all(|block| block.attention.visibility.is_causal());
        if causal && self.has_language_head() { self.embedding.embed_tokens(ids) } else { None }
    }

    /// The number of tokens that have an embedding; 0 for a model without a vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.embedding.words().map_or(0, |words| words.dims()[0])
    }

    /// Runs the blocks `range` on their input, with the adapters among them switched on.
    ///
    /// # Panics
    ///
    /// If the range ends behind the last block.
    pub fn run(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let blocks = &self.blocks[range.clone()];
        blocks.iter().zip(range).fold(hidden, |hidden, (block, index)| block.forward(hidden, adapters.get(index)))
    }

    /// The token of each record that [`pool`](Self::pool) reads.
    pub fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize> {
        self.pooled.positions(hidden)
    }

    /// Runs the blocks `range` up to the last for the rows that [`pool`](Self::pool) reads: in the last block one token of each
    /// record goes through everything behind the keys and values, as nothing else is read of its output.
    ///
    /// # Panics
    ///
    /// If the range ends behind the last block.
    pub fn run_to_pool(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let Some(last) = range.clone().next_back() else { return hidden };
        let hidden = self.run(hidden, range.start..last, adapters);
        let tokens = self.pooled_tokens(&hidden);
        self.blocks[last].forward_only(hidden, adapters.get(last), &tokens)
    }

    /// The input of the head from the last block's output: `[batch, hidden]`.
    pub fn pool(&self, hidden: Hidden) -> Tensor<2> {
        let rows = self.pooled_rows(hidden);
        match &self.pooler {
            Some(pooler) => pooled(rows, &pooler.linear),
            None => rows,
        }
    }

    /// The linear layer between the last block and the head, with its module's name; `None` if the model has no such layer.
    pub fn pooler(&self) -> Option<(&'static str, &Linear)> {
        self.pooler.as_ref().map(|pooler| (pooler.module, &pooler.linear))
    }

    /// As [`pool`](Self::pool), with another layer in place of [`pooler`](Self::pooler).
    pub fn pool_with(&self, hidden: Hidden, pooler: &Linear) -> Tensor<2> {
        pooled(self.pooled_rows(hidden), pooler)
    }

    /// The row of each record's pooled token, normalised. Normalisation works row by row, so normalising one row of each record
    /// gives the same numbers as normalising all.
    fn pooled_rows(&self, hidden: Hidden) -> Tensor<2> {
        let rows = self.pooled.rows(hidden);
        match &self.final_norm {
            Some(norm) => norm.forward(rows),
            None => rows,
        }
    }

    /// True if the model has a language head, so that it can predict tokens.
    pub fn has_language_head(&self) -> bool {
        self.language.is_some()
    }

    /// The logits of the next token from rows of the last block's output, `[rows, hidden]` to `[rows, vocabulary]`; `None`
    /// if the model has no language head.
    pub fn next_token_logits(&self, rows: Tensor<2>) -> Option<Tensor<2>> {
        let language = self.language.clone()?;
        let rows = match &self.final_norm {
            Some(norm) => norm.forward(rows),
            None => rows,
        };
        Some(s3t_kernels::linear(rows, &language, None))
    }

    /// As [`next_token_logits`](Self::next_token_logits), with bits of a row that do not depend on how many rows there are.
    pub fn next_token_logits_by_row(&self, rows: Tensor<2>) -> Option<Tensor<2>> {
        let language = self.language.as_ref()?;
        let rows = match &self.final_norm {
            Some(norm) => norm.forward(rows),
            None => rows,
        };
        Some(s3t_kernels::linear_by_row(&rows, language, None, &[None]))
    }

    /// The text of tokens; `None` if the model takes no texts.
    pub fn decode(&self, ids: &[u32]) -> Option<String> {
        match &self.reader {
            Reader::Texts(text) => Some(text.decode(ids)),
            Reader::Pictures(_) => None,
        }
    }

    /// The tokens of a text that a completion is to follow, as those of a record's text.
    ///
    /// # Errors
    ///
    /// [`ModelError::Prompt`] for a text that leaves no room for a response or cannot be used.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.texts()?.encode_prompt(text)
    }

    /// The tokens of a chat that the model's next message is to follow, by its chat template.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoChatTemplate`] for a model without one, [`ModelError::ChatTemplate`] if the template cannot be used or
    /// refuses the messages, [`ModelError::Prompt`] for a chat that leaves no room for a response.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, ModelError> {
        self.texts()?.encode_chat(messages)
    }

    /// The model's chat template.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoChatTemplate`] for a model without one, [`ModelError::ChatTemplate`] for one that cannot be used.
    pub fn chat_template(&self) -> Result<&ChatTemplate, ModelError> {
        self.texts()?.chat_template()
    }

    fn texts(&self) -> Result<&TextEncoder, ModelError> {
        match &self.reader {
            Reader::Texts(text) => Ok(text),
            Reader::Pictures(_) => Err(ModelError::Prompt { problem: "the model takes pictures, not texts".into() }),
        }
    }

    /// The number of a special token by its text. Special tokens leave nothing in [`decode`](Self::decode)d text.
    pub fn special_token(&self, text: &str) -> Option<u32> {
        self.texts().ok()?.special_token(text)
    }

    /// The tokens that a completion ends before, in causal language modelling.
    pub fn end_tokens(&self) -> &[u32] {
        match &self.reader {
            Reader::Texts(text) => text.stops(),
            Reader::Pictures(_) => &[],
        }
    }
}
