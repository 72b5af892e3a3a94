//! Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama with heads of a width of their own and attention in a sliding window.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderSpec, FieldError, ModelError, ModelFamily, ModelFile, Specification, Visibility, constant,
    model_family,
};
use serde::{Deserialize, Serialize};

/// Mistral.
pub static MISTRAL: ModelFamily = ModelFamily {
    model_type: "mistral",
    documentation: "Mistral: Llama with heads of a width of their own and attention in a sliding window.",
    fields: FieldTable::of_config(
        "mistral",
        "MistralConfig of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::TRAINING,
            fields::TEXT,
            fields::DECODER,
            &[
                fields::size("head_dim"),
                Field::honoured("sliding_window", "the tokens that a token sees; null for all before it"),
                Field::only("use_sliding_window", &["null"], "`sliding_window` says it in this family"),
                Field::only("layer_types", &["null"], "layers of several types are not supported for this family"),
                Field::only("attention_bias", &["null"], "layers of this family have no bias"),
                Field::only("mlp_bias", &["null"], "layers of this family have no bias"),
            ],
        ],
    ),
    classes: Classes {
        heads: &["MistralForSequenceClassification"],
        others: &["MistralModel", "MistralForCausalLM", "MistralForQuestionAnswering", "MistralForTokenClassification"],
    },
    specify,
};

model_family!(MISTRAL);

/// The part of a `config.json` that decides what the model computes, beside the rotary positions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MistralConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default = "kv_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default = "window")]
    sliding_window: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "end")]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Option<u32>,
}

/// The defaults of the class in Python.
#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn kv_heads() -> Option<usize> {
    Some(8)
}

#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn window() -> Option<usize> {
    Some(4096)
}

fn end() -> Value {
    Value::from(2)
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let config: MistralConfig = file.parse()?;
    let refuse = |error: FieldError| file.refuse(error);
    let visibility = match config.sliding_window {
        None => Visibility::Causal,
        Some(0) => {
            let error = FieldError::new("sliding_window", "is 0; it takes 1 or more tokens, or null");
            return Err(refuse(error));
        }
        Some(window) => Visibility::Window(window),
    };
    let spec = DecoderSpec {
        context: "mistral",
        config: constant(&config).map_err(refuse)?,
        vocabulary: config.vocab_size,
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: config.head_dim.unwrap_or(config.hidden_size / config.num_attention_heads.max(1)),
        activation: &config.hidden_act,
        epsilon: config.rms_norm_eps,
        positions: config.max_position_embeddings,
        tied: config.tie_word_embeddings,
        eos_token_id: &config.eos_token_id,
        padding: config.pad_token_id,
        biases: Vec::new(),
        visibility: vec![visibility; config.num_hidden_layers],
    };
    spec.specify(file)
}
