//! BERT (Devlin et al. 2019, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692), which differ in how they
//! count positions and in the head of a classification model. DistilRoBERTa and MiniLM are models of these types.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use s3t_core::{Digest, Record};
use s3t_peft::{Linear, LinearSite, NamedTensors};
use serde::{Deserialize, Serialize};

use crate::block::{BlockDesign, Norm, activation_from_name};
use crate::huggingface::{check_epsilon, check_sizes, check_vocabulary};
use crate::text::{TextEncoder, padded_ids};
use crate::weights::Loader;
use crate::{Backbone, BackendError, HeadLayout, Hidden, Input, LoadOptions, ModuleNames, TransformerBlock};

/// The part of a `config.json` that decides what the model computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BertConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn epsilon() -> f64 {
    1e-12
}

impl BertConfig {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            let kind = self.position_embedding_type.as_deref().unwrap_or_default();
            return Err(format!("`position_embedding_type` is `{kind}`; supported: absolute"));
        }
        let positions = self.max_position_embeddings.saturating_sub(self.first_position());
        check_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        check_vocabulary(self.vocab_size, &[("pad_token_id", self.pad_token_id)])?;
        if positions < 4 {
            return Err(format!(
                "`max_position_embeddings` {} leaves {positions} positions for texts; at least 4 are needed",
                self.max_position_embeddings
            ));
        }
        activation_from_name(&self.hidden_act).map(drop)
    }

    fn is_roberta(&self) -> bool {
        self.model_type == "roberta"
    }

    fn head(&self) -> HeadLayout {
        if self.is_roberta() {
            HeadLayout { dense: Some("classifier.dense"), output: "classifier.out_proj", bias: true }
        } else {
            HeadLayout { dense: None, output: "classifier", bias: true }
        }
    }

    /// The position of the first token: RoBERTa counts from behind the id of its padding token.
    fn first_position(&self) -> usize {
        if self.is_roberta() { self.pad_token_id.unwrap_or(1) as usize + 1 } else { 0 }
    }
}

const MODULES: [(LinearSite, &str); 6] = [
    (LinearSite::Query, "attention.self.query"),
    (LinearSite::Key, "attention.self.key"),
    (LinearSite::Value, "attention.self.value"),
    (LinearSite::Output, "attention.output.dense"),
    (LinearSite::Up, "intermediate.dense"),
    (LinearSite::Down, "output.dense"),
];

/// A frozen BERT or RoBERTa.
pub(crate) struct Bert {
    config: BertConfig,
    text: TextEncoder,
    digest: Digest,
    /// `[vocabulary, hidden]`.
    words: Tensor<2>,
    /// `[positions, hidden]`, with the embedding of the first token type added.
    positions: Tensor<2>,
    embedding_norm: Norm,
    blocks: Vec<TransformerBlock>,
    /// BERT's layer with tanh between the first token and the head.
    pooler: Option<Linear>,
    classifier: Option<NamedTensors>,
    device: Device,
}

impl Bert {
    pub(crate) fn load(
        directory: &Path,
        config: serde_json::Value,
        options: LoadOptions,
        device: &Device,
    ) -> Result<Self, BackendError> {
        let refuse = |problem: String| BackendError::Config { path: directory.join("config.json"), problem };
        let config: BertConfig = serde_json::from_value(config).map_err(|error| refuse(error.to_string()))?;
        config.check().map_err(refuse)?;
        let BertConfig { hidden_size: hidden, intermediate_size: inner, max_position_embeddings: positions, .. } =
            config;
        let text = TextEncoder::load(directory, config.vocab_size, positions - config.first_position(), options, &[])?;
        let prefix = if config.is_roberta() { "roberta." } else { "bert." };
        let mut loader = Loader::open(directory, prefix, "bert", &options.limits, device)?;
        loader.digest_json(&serde_json::to_value(&config).unwrap_or_default());
        loader.digest_json(&serde_json::json!(text.digest()));
        let words = loader.matrix("embeddings.word_embeddings.weight", config.vocab_size, hidden)?;
        let rows = loader.matrix("embeddings.position_embeddings.weight", positions, hidden)?;
        let types = loader.matrix("embeddings.token_type_embeddings.weight", config.type_vocab_size, hidden)?;
        let embedding_norm = loader.layer_norm("embeddings.LayerNorm", hidden, config.layer_norm_eps)?;
        let heads = config.num_attention_heads;
        let design = Arc::new(BlockDesign {
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            post_norm: true,
            activation: activation_from_name(&config.hidden_act).map_err(refuse)?,
            causal: false,
            rotary: None,
            modules: &MODULES,
        });
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let mut linear = |site: usize, inputs: usize, outputs: usize| {
                loader.linear(&name(MODULES[site].1), inputs, outputs, true)
            };
            blocks.push(TransformerBlock {
                query: linear(0, hidden, hidden)?,
                key: linear(1, hidden, hidden)?,
                value: linear(2, hidden, hidden)?,
                output: linear(3, hidden, hidden)?,
                gate: None,
                up: linear(4, hidden, inner)?,
                down: linear(5, inner, hidden)?,
                attention_norm: loader.layer_norm(
                    &name("attention.output.LayerNorm"),
                    hidden,
                    config.layer_norm_eps,
                )?,
                feed_forward_norm: loader.layer_norm(&name("output.LayerNorm"), hidden, config.layer_norm_eps)?,
                design: Arc::clone(&design),
            });
        }
        let pooler = if !config.is_roberta() && loader.has("pooler.dense.weight") {
            Some(loader.linear("pooler.dense", hidden, hidden, true)?)
        } else {
            None
        };
        let classifier = loader.classifier(&config.head().names())?;
        // Heads of other tasks, and what older versions of the library wrote beside the weights.
        let digest = loader.finish(&[
            "classifier.",
            "cls.",
            "lm_head.",
            "qa_outputs.",
            "pooler.",
            "roberta.pooler.",
            "embeddings.position_ids",
            "bert.embeddings.position_ids",
            "roberta.embeddings.position_ids",
        ])?;
        Ok(Self {
            text,
            digest,
            words,
            positions: rows + types.slice([0..1, 0..hidden]),
            embedding_norm,
            blocks,
            pooler,
            classifier,
            device: device.clone(),
            config,
        })
    }
}

impl Backbone for Bert {
    fn model_type(&self) -> &str {
        &self.config.model_type
    }

    fn transformer_blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    fn max_tokens(&self) -> usize {
        self.text.max_tokens()
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn head(&self) -> HeadLayout {
        self.config.head()
    }

    fn head_obstacle(&self) -> Option<&'static str> {
        let lacks_pooler = !self.config.is_roberta() && self.pooler.is_none();
        lacks_pooler.then_some("the model has no `pooler.dense`, which transformers would fill with random numbers")
    }

    fn classifier(&self) -> Option<&NamedTensors> {
        self.classifier.as_ref()
    }

    fn module_names(&self) -> &'static [ModuleNames] {
        const BERT: [ModuleNames; 1] = [ModuleNames { blocks: "bert.encoder.layer", linears: &MODULES }];
        const ROBERTA: [ModuleNames; 1] = [ModuleNames { blocks: "roberta.encoder.layer", linears: &MODULES }];
        if self.config.is_roberta() { &ROBERTA } else { &BERT }
    }

    fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, BackendError> {
        self.text.prepare(record)
    }

    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let (batch, hidden) = (inputs.len(), self.config.hidden_size);
        let ids = padded_ids(inputs, tokens, self.config.pad_token_id.unwrap_or(0));
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [batch * tokens]), &self.device);
        // Padding may stand beyond the last position; what it holds is never seen.
        let first = self.config.first_position();
        let last = self.config.max_position_embeddings - 1;
        let positions: Vec<i32> = (0..tokens).map(|token| (first + token).min(last) as i32).collect();
        let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [tokens]), &self.device);
        let words = self.words.clone().select(0, ids).reshape([batch, tokens, hidden]);
        let sum = words + self.positions.clone().select(0, positions).unsqueeze::<3>();
        let states = self.embedding_norm.forward(sum.reshape([batch * tokens, hidden]));
        let lengths: Vec<usize> = inputs.iter().map(|input| input.tokens).collect();
        Hidden::new(states.reshape([batch, tokens, hidden]), lengths)
    }

    fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize> {
        vec![0; hidden.lengths.len()]
    }

    fn pool(&self, hidden: Hidden) -> Tensor<2> {
        let [batch, _, width] = hidden.states.dims();
        let first = hidden.states.slice([0..batch, 0..1, 0..width]).reshape([batch, width]);
        match &self.pooler {
            Some(pooler) => activation::tanh(pooler.forward(first)),
            None => first,
        }
    }
}
