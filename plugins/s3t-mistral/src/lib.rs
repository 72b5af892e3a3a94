//! Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama with heads of a width of their own and attention in a sliding window.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderConfig, DecoderSpec, FieldError, ModelError, ModelFamily, ModelFile, Specification, Visibility,
    constant, model_family,
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

/// The fields of the family's own that decide what the model computes.
#[derive(Debug, Serialize, Deserialize)]
struct MistralConfig {
    #[serde(default = "kv_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    #[serde(default = "window")]
    sliding_window: Option<usize>,
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
    let (shared, own): (DecoderConfig, MistralConfig) = (file.parse()?, file.parse()?);
    let refuse = |error: FieldError| file.refuse(error);
    let visibility = match own.sliding_window {
        None => Visibility::Causal,
        Some(0) => {
            let error = FieldError::new("sliding_window", "is 0; it takes 1 or more tokens, or null");
            return Err(refuse(error));
        }
        Some(window) => Visibility::Window(window),
    };
    let spec = DecoderSpec {
        context: "mistral",
        visibility: vec![visibility; shared.blocks().map_err(refuse)?],
        shared,
        own: constant(&own).map_err(refuse)?,
        kv_heads: own.num_key_value_heads,
        head_dim: own.head_dim,
        eos_token_id: &own.eos_token_id,
        padding: own.pad_token_id,
        biases: Vec::new(),
    };
    spec.specify(file)
}
