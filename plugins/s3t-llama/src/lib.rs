//! Llama (Touvron et al. 2023, arXiv 2302.13971; 2307.09288). For classification it answers from a text's last token; its
//! language head stays frozen.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderConfig, DecoderSpec, FieldError, LinearSite, ModelError, ModelFamily, ModelFile, Specification,
    Visibility, constant, model_family,
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

/// The fields of the family's own that decide what the model computes.
#[derive(Debug, Serialize, Deserialize)]
struct LlamaConfig {
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "end")]
    eos_token_id: Value,
    // Read after the digest was defined: it is added where it is there.
    #[serde(default, skip_serializing)]
    pad_token_id: Option<u32>,
}

/// The default of the class in Python.
fn end() -> Value {
    Value::from(2)
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    use LinearSite::{Down, Gate, Key, Output, Query, Up, Value};

    let (shared, own): (DecoderConfig, LlamaConfig) = (file.parse()?, file.parse()?);
    let refuse = |error: FieldError| file.refuse(error);
    let mut biases = Vec::new();
    if own.attention_bias {
        biases.extend([Query, Key, Value, Output]);
    }
    if own.mlp_bias {
        biases.extend([Gate, Up, Down]);
    }
    let spec = DecoderSpec {
        context: "llama",
        visibility: vec![Visibility::Causal; shared.blocks().map_err(refuse)?],
        shared,
        own: constant(&own).map_err(refuse)?,
        kv_heads: own.num_key_value_heads,
        head_dim: own.head_dim,
        eos_token_id: &own.eos_token_id,
        padding: own.pad_token_id,
        biases,
    };
    spec.specify(file)
}
