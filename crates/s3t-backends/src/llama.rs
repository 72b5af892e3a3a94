//! Llama (Touvron et al. 2023, arXiv 2302.13971; 2307.09288): RMS normalisation, rotary positions, grouped-query attention,
//! a gated feed-forward layer. For classification it answers from a text's last token; its language head stays frozen.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use s3t_core::{Digest, Record};
use s3t_peft::{LinearSite, NamedTensors};
use serde::{Deserialize, Serialize};

use crate::block::{BlockDesign, Norm, activation_from_name};
use crate::huggingface::{check_epsilon, check_sizes, check_vocabulary};
use crate::rotary::Rotary;
use crate::text::{TextEncoder, padded_ids};
use crate::weights::Loader;
use crate::{Backbone, BackendError, HeadLayout, Hidden, Input, LoadOptions, ModuleNames, TransformerBlock};

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
    eos_token_id: serde_json::Value,
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
        let ends: Vec<_> = self.ends()?.into_iter().map(|id| ("eos_token_id", Some(id))).collect();
        check_vocabulary(self.vocab_size, &ends)?;
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

    /// The tokens that end a text; training puts the first behind a response.
    fn ends(&self) -> Result<Vec<u32>, String> {
        let ids = match &self.eos_token_id {
            serde_json::Value::Null => return Ok(Vec::new()),
            serde_json::Value::Array(ids) => ids.clone(),
            one => vec![one.clone()],
        };
        let id = |id: &serde_json::Value| {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| format!("`eos_token_id` is {}; it takes a token's number or several", self.eos_token_id))
        };
        ids.iter().map(id).collect()
    }
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
    device: Device,
}

impl Llama {
    pub(crate) fn load(
        directory: &Path,
        config: serde_json::Value,
        options: LoadOptions,
        device: &Device,
    ) -> Result<Self, BackendError> {
        let refuse = |problem: String| BackendError::Config { path: directory.join("config.json"), problem };
        let fields = config.as_object().cloned().unwrap_or_default();
        let config: LlamaConfig = serde_json::from_value(config).map_err(|error| refuse(error.to_string()))?;
        config.check().map_err(refuse)?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads, head_dim) = (config.num_attention_heads, config.kv_heads(), config.head_dim());
        let rotary = Rotary::from_config(&fields, head_dim).map_err(refuse)?;
        let positions = config.max_position_embeddings;
        let ends = config.ends().map_err(refuse)?;
        let text = TextEncoder::load(directory, config.vocab_size, positions, options, &ends)?;
        let mut loader = Loader::open(directory, "model.", "llama", &options.limits, device)?;
        loader.digest_json(&serde_json::to_value(&config).unwrap_or_default());
        loader.digest_json(&serde_json::json!(
            ["rope_theta", "rope_scaling", "rope_parameters"].map(|key| fields.get(key))
        ));
        loader.digest_json(&serde_json::json!(text.digest()));
        let words = loader.matrix("embed_tokens.weight", config.vocab_size, hidden)?;
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
        let own = loader.classifier(&[("language", "lm_head.weight".into())])?;
        // A tied model has no head of its own, whatever an older version of the library saved beside it.
        let language =
            match own.filter(|_| !config.tie_word_embeddings).and_then(|mut tensors| tensors.remove("language")) {
                Some(tensor) if tensor.shape == [config.vocab_size, hidden] => {
                    loader.digest_tensor("lm_head.weight", &tensor);
                    Some(tensor.to_device(device).reshape([config.vocab_size, hidden]).transpose())
                }
                Some(tensor) => {
                    return Err(BackendError::WrongTensor {
                        path: directory.join("model.safetensors"),
                        name: "lm_head.weight".into(),
                        found: format!("{:?}", tensor.shape),
                        expected: format!("{:?}", [config.vocab_size, hidden]),
                    });
                }
                None => config.tie_word_embeddings.then(|| words.clone().transpose()),
            };
        let classifier = loader.classifier(&HEAD.names())?;
        let digest = loader.finish(&["score."])?;
        Ok(Self { config, text, digest, words, blocks, norm, language, classifier, device: device.clone() })
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
        let lengths: Vec<usize> = inputs.iter().map(|input| input.tokens).collect();
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
        self.text.ends()
    }
}
