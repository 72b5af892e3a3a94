//! Llama (Touvron et al. 2023, arXiv 2302.13971; 2307.09288): RMS normalisation, rotary positions, grouped-query attention,
//! a gated feed-forward layer. For classification it answers from a text's last token; its language head stays frozen.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use s3t_core::{Digest, Record};
use s3t_peft::tensors::{to_device, to_host};
use s3t_peft::{HostTensor, LinearSite, NamedTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::block::{BlockDesign, Norm, activation_from_name};
use crate::huggingface::{ModelFile, check_epsilon, check_sizes, check_vocabulary, read_json};
use crate::rotary::Rotary;
use crate::text::{Ends, Room, TextEncoder, padded_ids};
use crate::weights::Loader;
use crate::{Backbone, BackendError, HeadLayout, Hidden, Input, ModuleNames, OwnHead, TransformerBlock, fields};

/// The part of a `config.json` that decides what the model computes, beside the rotary positions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LlamaConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    eos_token_id: Value,
    // Read after the digest was defined: it is added where it is there.
    #[serde(default, skip_serializing)]
    pad_token_id: Option<u32>,
}

impl LlamaConfig {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("head_dim", self.head_dim()),
            ("intermediate_size", self.intermediate_size),
        ])?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            return Err(format!(
                "`num_attention_heads` {} is not a multiple of `num_key_value_heads` {}",
                self.num_attention_heads,
                self.kv_heads()
            ));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(format!("heads of width {} cannot be rotated; it must be even", self.head_dim()));
        }
        check_epsilon("rms_norm_eps", self.rms_norm_eps)?;
        let ends = token_ids("eos_token_id", &self.eos_token_id)?;
        let mut tokens: Vec<_> = ends.into_iter().map(|id| ("eos_token_id", Some(id))).collect();
        tokens.push(("pad_token_id", self.pad_token_id));
        check_vocabulary(self.vocab_size, &tokens)?;
        // Positions are computed, not stored: their number is bound by what an index can hold.
        if !(4..=1 << 24).contains(&self.max_position_embeddings) {
            return Err(format!(
                "`max_position_embeddings` is {}; it takes 4 to {}",
                self.max_position_embeddings,
                1 << 24
            ));
        }
        activation_from_name(&self.hidden_act).map(drop)
    }

    fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }
}

/// The tokens that a field names, one or several.
fn token_ids(field: &str, value: &Value) -> Result<Vec<u32>, String> {
    let ids = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(ids) => ids.clone(),
        one => vec![one.clone()],
    };
    let id = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("`{field}` is {value}; it takes a token's number or several"))
    };
    ids.iter().map(id).collect()
}

/// The tokens that a completion ends before: those of `generation_config.json` where there is one, as in `generate`.
fn stops(file: &ModelFile, of_model: &[u32]) -> Result<Vec<u32>, BackendError> {
    let path = file.directory.join(fields::GENERATION.file);
    if !path.exists() {
        return Ok(of_model.to_vec());
    }
    let generation: Map<String, Value> = read_json(&path, &file.options.limits)?;
    let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
    fields::GENERATION.check(&generation, &file.options.accept_fields).map_err(refuse)?;
    token_ids("eos_token_id", generation.get("eos_token_id").unwrap_or(&Value::Null)).map_err(refuse)
}

const MODULES: [(LinearSite, &str); 7] = [
    (LinearSite::Query, "self_attn.q_proj"),
    (LinearSite::Key, "self_attn.k_proj"),
    (LinearSite::Value, "self_attn.v_proj"),
    (LinearSite::Output, "self_attn.o_proj"),
    (LinearSite::Gate, "mlp.gate_proj"),
    (LinearSite::Up, "mlp.up_proj"),
    (LinearSite::Down, "mlp.down_proj"),
];

const HEAD: HeadLayout = HeadLayout { dense: None, output: "score", bias: false };

/// A frozen Llama.
pub(crate) struct Llama {
    config: LlamaConfig,
    text: TextEncoder,
    digest: Digest,
    /// `[vocabulary, hidden]`.
    words: Tensor<2>,
    blocks: Vec<TransformerBlock>,
    norm: Norm,
    /// `[hidden, vocabulary]`; `None` in a model that was saved without.
    language: Option<Tensor<2>>,
    classifier: Option<NamedTensors>,
    own_head: OwnHead,
    device: Device,
}

impl Llama {
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self, BackendError> {
        let refuse = |problem: String| file.refuse(problem);
        let fields = &file.fields;
        let config: LlamaConfig = file.parse()?;
        config.check().map_err(refuse)?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads, head_dim) = (config.num_attention_heads, config.kv_heads(), config.head_dim());
        let rotary = Rotary::from_config(fields, head_dim).map_err(refuse)?;
        let ends = token_ids("eos_token_id", &config.eos_token_id).map_err(refuse)?;
        let ends = Ends { stops: stops(file, &ends)?, learnt: ends.first().copied(), padding: config.pad_token_id };
        let room = Room { vocabulary: config.vocab_size, positions: config.max_position_embeddings, types: None };
        let text = TextEncoder::load(file, room, ends)?;
        let mut loader = Loader::open(&file.directory, "model.", "llama", &file.options.limits, device)?;
        loader.digest_json(&serde_json::to_value(&config).unwrap_or_default());
        loader.digest_json(&serde_json::json!(
            ["rope_theta", "rope_scaling", "rope_parameters"].map(|key| fields.get(key))
        ));
        if let Some(padding) = config.pad_token_id {
            loader.digest_json(&serde_json::json!({ "pad_token_id": padding }));
        }
        if let Some(original) = fields.get("original_max_position_embeddings") {
            loader.digest_json(&serde_json::json!({ "original_max_position_embeddings": original }));
        }
        loader.digest_json(&serde_json::json!(text.digest()));
        let tied = config.tie_word_embeddings;
        let vocabulary = [config.vocab_size, hidden];
        let head = loader.take_optional("lm_head.weight", &vocabulary)?;
        // A tied model may have been saved with its language head in place of the embeddings.
        let (words, head) = match head {
            Some(head) if tied && !loader.has("embed_tokens.weight") => {
                loader.digest_tensor("embed_tokens.weight", &head);
                (to_device(&head, device), None)
            }
            head => (loader.tensor("embed_tokens.weight", &vocabulary)?, head),
        };
        let words = words.reshape(vocabulary);
        let design = Arc::new(BlockDesign {
            heads,
            kv_heads,
            head_dim,
            post_norm: false,
            activation: activation_from_name(&config.hidden_act).map_err(refuse)?,
            causal: true,
            rotary: Some(rotary),
            modules: &MODULES,
        });
        let (query, keys) = (heads * head_dim, kv_heads * head_dim);
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("layers.{index}.{part}");
            let mut linear = |site: usize, inputs: usize, outputs: usize| {
                let bias = if site < 4 { config.attention_bias } else { config.mlp_bias };
                loader.linear(&name(MODULES[site].1), inputs, outputs, bias)
            };
            blocks.push(TransformerBlock {
                query: linear(0, hidden, query)?,
                key: linear(1, hidden, keys)?,
                value: linear(2, hidden, keys)?,
                output: linear(3, query, hidden)?,
                gate: Some(linear(4, hidden, inner)?),
                up: linear(5, hidden, inner)?,
                down: linear(6, inner, hidden)?,
                attention_norm: loader.rms_norm(&name("input_layernorm"), hidden, config.rms_norm_eps)?,
                feed_forward_norm: loader.rms_norm(&name("post_attention_layernorm"), hidden, config.rms_norm_eps)?,
                design: Arc::clone(&design),
            });
        }
        let norm = loader.rms_norm("norm", hidden, config.rms_norm_eps)?;
        // Where a tied model has a head with other numbers than the embeddings, the two are not tied in Python either.
        let is_tied = |head: &HostTensor| tied && to_host(words.clone()) == head.values;
        let language = match head.filter(|head| !is_tied(head)) {
            Some(head) => {
                loader.digest_tensor("lm_head.weight", &head);
                Some(to_device(&head, device).reshape(vocabulary).transpose())
            }
            None => tied.then(|| words.clone().transpose()),
        };
        let classifier = file.head(&mut loader, HEAD, hidden)?;
        let digest = loader.finish(&["score.", "qa_outputs."])?;
        let (own_head, device) = (file.own_head.clone(), device.clone());
        Ok(Self { config, text, digest, words, blocks, norm, language, classifier, own_head, device })
    }
}

impl Backbone for Llama {
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
        HEAD
    }

    fn classifier(&self) -> Option<&NamedTensors> {
        self.classifier.as_ref()
    }

    fn own_head(&self) -> &OwnHead {
        &self.own_head
    }

    fn module_names(&self) -> &'static [ModuleNames] {
        const { &[ModuleNames { blocks: "model.layers", linears: &MODULES }] }
    }

    fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, BackendError> {
        self.text.prepare(record)
    }

    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let (batch, hidden) = (inputs.len(), self.config.hidden_size);
        let ids = padded_ids(inputs, tokens, 0);
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [batch * tokens]), &self.device);
        let lengths: Vec<usize> = inputs.iter().map(|input| input.length).collect();
        Hidden::new(self.words.clone().select(0, ids).reshape([batch, tokens, hidden]), lengths)
    }

    fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize> {
        hidden.lengths.iter().map(|length| length - 1).collect()
    }

    fn pool(&self, hidden: Hidden) -> Tensor<2> {
        let [batch, tokens, width] = hidden.states.dims();
        let last: Vec<i32> =
            hidden.lengths.iter().enumerate().map(|(row, length)| (row * tokens + length - 1) as i32).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [batch]), &self.device);
        self.norm.forward(hidden.states.reshape([batch * tokens, width]).select(0, last))
    }

    fn has_language_head(&self) -> bool {
        self.language.is_some()
    }

    fn next_token_logits(&self, rows: Tensor<2>) -> Option<Tensor<2>> {
        let language = self.language.clone()?;
        Some(self.norm.forward(rows).matmul(language))
    }

    fn decode(&self, ids: &[u32]) -> Option<String> {
        Some(self.text.decode(ids))
    }

    fn end_tokens(&self) -> &[u32] {
        self.text.stops()
    }
}
