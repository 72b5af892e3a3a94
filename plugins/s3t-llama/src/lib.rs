//! Llama (Touvron et al. 2023, arXiv 2302.13971; 2307.09288). For classification it answers from a text's last token; its
//! language head stays frozen.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderSpec, LinearSite, ModelError, ModelFamily, ModelFile, Specification, Visibility, constant,
    model_family,
};
use serde::{Deserialize, Serialize};

/// Llama.
pub static LLAMA: ModelFamily = ModelFamily {
    model_type: "llama",
    documentation: "Llama: texts, causal attention with grouped heads and rotary positions, the last token goes to the head.",
    fields: FieldTable::of_config(
        "llama",
        "LlamaConfig of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::NO_WINDOWS,
            fields::TRAINING,
            fields::TEXT,
            fields::DECODER,
            &[
                fields::size("head_dim"),
                Field::honoured("attention_bias", "compared with the tensors"),
                Field::honoured("mlp_bias", "compared with the tensors"),
                Field::harmless("pretraining_tp", "the same products, computed in parts"),
            ],
        ],
    ),
    classes: Classes {
        heads: &["LlamaForSequenceClassification"],
        others: &[
            "LlamaModel",
            "LLaMAForCausalLM",
            "LlamaForCausalLM",
            "LlamaForQuestionAnswering",
            "LlamaForTokenClassification",
        ],
    },
    specify,
};

model_family!(LLAMA);

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

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    use LinearSite::{Down, Gate, Key, Output, Query, Up, Value};

    let config: LlamaConfig = file.parse()?;
    let mut biases = Vec::new();
    if config.attention_bias {
        biases.extend([Query, Key, Value, Output]);
    }
    if config.mlp_bias {
        biases.extend([Gate, Up, Down]);
    }
    let spec = DecoderSpec {
        context: "llama",
        config: constant(&config).map_err(|error| file.refuse(error))?,
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
        biases,
        visibility: vec![Visibility::Causal; config.num_hidden_layers],
    };
    spec.specify(file)
}
