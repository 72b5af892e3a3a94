//! BERT (Devlin et al. 2019, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692), which differ in how they
//! count positions and in the head of a classification model. DistilRoBERTa and MiniLM are models of these types.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use s3t_core::{Digest, Record};
use s3t_peft::{Linear, LinearSite, NamedTensors};
use serde::{Deserialize, Serialize};

use crate::block::{BlockDesign, Norm, activation_from_name};
use crate::huggingface::{ModelFile, check_epsilon, check_sizes, check_vocabulary};
use crate::text::{Ends, Room, TextEncoder, padded_ids};
use crate::weights::Loader;
use crate::{Backbone, BackendError, HeadLayout, Hidden, Input, ModuleNames, OwnHead, TransformerBlock};

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
    // Part of the digests of stores that are there.
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

const NO_POOLER: &str = "the model has no `pooler.dense`, which transformers would fill with random numbers";

/// A frozen BERT or RoBERTa.
pub(crate) struct Bert {
    config: BertConfig,
    text: TextEncoder,
    digest: Digest,
    /// `[vocabulary, hidden]`.
    words: Tensor<2>,
    /// `[types * positions, hidden]`: the embeddings of positions with that of a token type added, type by type.
    positions: Tensor<2>,
    embedding_norm: Norm,
    blocks: Vec<TransformerBlock>,
    /// BERT's layer with tanh between the first token and the head.
    pooler: Option<Linear>,
    classifier: Option<NamedTensors>,
    own_head: OwnHead,
    device: Device,
}

impl Bert {
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self, BackendError> {
        let refuse = |problem: String| file.refuse(problem);
        let config: BertConfig = file.parse()?;
        config.check().map_err(refuse)?;
        if config.is_roberta() && file.fields.get("pad_token_id").is_some_and(serde_json::Value::is_null) {
            return Err(file.refuse("`pad_token_id` is null, but RoBERTa counts positions from behind it"));
        }
        let BertConfig { hidden_size: hidden, intermediate_size: inner, max_position_embeddings: positions, .. } =
            config;
        // RoBERTa's texts have tokens of one type, whatever its tokenizer says.
        let types = (!config.is_roberta()).then_some(config.type_vocab_size);
        let room = Room { vocabulary: config.vocab_size, positions: positions - config.first_position(), types };
        let text = TextEncoder::load(file, room, Ends::default())?;
        let prefix = if config.is_roberta() { "roberta." } else { "bert." };
        let mut loader = Loader::open(&file.directory, prefix, "bert", &file.options.limits, device)?;
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
        let classifier = file.head(&mut loader, config.head(), hidden)?;
        if classifier.is_some() && !config.is_roberta() && pooler.is_none() {
            return Err(file.refuse(format!("the weights hold a head, `{}`, but {NO_POOLER}", config.head().output)));
        }
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
            positions: with_types(&rows, &types, if config.is_roberta() { 1 } else { config.type_vocab_size }),
            embedding_norm,
            blocks,
            pooler,
            classifier,
            own_head: file.own_head.clone(),
            device: device.clone(),
            config,
        })
    }

    /// The row of `positions` of each token of some inputs, padded to `tokens`, where these are others than the places in the
    /// text: in the second text of a pair, and where a text of RoBERTa holds the padding token.
    fn places(&self, inputs: &[&Input<'_>], tokens: usize) -> Option<Vec<i32>> {
        let padding = self.config.pad_token_id.unwrap_or(1);
        let roberta = self.config.is_roberta();
        let plain = |input: &&Input<'_>| input.types.is_empty() && !(roberta && input.ids.contains(&padding));
        if inputs.iter().all(plain) {
            return None;
        }
        let (first, positions) = (self.config.first_position(), self.config.max_position_embeddings);
        let mut places = Vec::with_capacity(inputs.len() * tokens);
        for input in inputs {
            let mut next = first;
            for token in 0..tokens {
                let kind = input.types.get(token).map_or(0, |kind| *kind as usize);
                let place = if roberta && input.ids.get(token) == Some(&padding) {
                    padding as usize
                } else {
                    next += 1;
                    (next - 1).min(positions - 1)
                };
                places.push((kind * positions + place) as i32);
            }
        }
        Some(places)
    }
}

/// The embeddings of positions with that of each token type added, type by type: `[types * positions, hidden]`.
fn with_types(positions: &Tensor<2>, types: &Tensor<2>, count: usize) -> Tensor<2> {
    let width = positions.dims()[1];
    let of_type = |kind: usize| positions.clone() + types.clone().slice([kind..kind + 1, 0..width]);
    Tensor::cat((0..count).map(of_type).collect(), 0)
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
        lacks_pooler.then_some(NO_POOLER)
    }

    fn classifier(&self) -> Option<&NamedTensors> {
        self.classifier.as_ref()
    }

    fn own_head(&self) -> &OwnHead {
        &self.own_head
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
        let words = self.words.clone().select(0, ids).reshape([batch, tokens, hidden]);
        let sum = match self.places(inputs, tokens) {
            Some(places) => {
                let places = Tensor::<1, Int>::from_data(TensorData::new(places, [batch * tokens]), &self.device);
                words + self.positions.clone().select(0, places).reshape([batch, tokens, hidden])
            }
            None => {
                // Padding may stand beyond the last position; what it holds is never seen.
                let first = self.config.first_position();
                let last = self.config.max_position_embeddings - 1;
                let positions: Vec<i32> = (0..tokens).map(|token| (first + token).min(last) as i32).collect();
                let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [tokens]), &self.device);
                words + self.positions.clone().select(0, positions).unsqueeze::<3>()
            }
        };
        let states = self.embedding_norm.forward(sum.reshape([batch * tokens, hidden]));
        let lengths: Vec<usize> = inputs.iter().map(|input| input.length).collect();
        Hidden::new(states.reshape([batch, tokens, hidden]), lengths)
    }

    fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize> {
        vec![0; hidden.lengths.len()]
    }

    fn pool(&self, hidden: Hidden) -> Tensor<2> {
        let first = first_tokens(hidden);
        match &self.pooler {
            Some(pooler) => activation::tanh(pooler.forward(first)),
            None => first,
        }
    }

    fn pooler(&self) -> Option<(&'static str, &Linear)> {
        self.pooler.as_ref().map(|pooler| ("bert.pooler.dense", pooler))
    }

    fn pool_with(&self, hidden: Hidden, pooler: &Linear) -> Tensor<2> {
        activation::tanh(pooler.forward(first_tokens(hidden)))
    }
}

/// The first token of each record, `[batch, hidden]`.
fn first_tokens(hidden: Hidden) -> Tensor<2> {
    let [batch, _, width] = hidden.states.dims();
    hidden.states.slice([0..batch, 0..1, 0..width]).reshape([batch, width])
}
