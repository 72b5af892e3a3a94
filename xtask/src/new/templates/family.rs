//! A family of models. The guide docs/guide/writing-a-model-family.md writes one step by step.

use s3t_models::fields::{self, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderSpec, FieldError, ModelError, ModelFamily, ModelFile, Specification, Visibility, constant, model_family,
};
use serde::{Deserialize, Serialize};

/// A decoder with causal attention, rotary positions and no biases.
///
/// # Proof note
///
/// *Before*: the fields of `config.json` were checked by the table. *After*: the model is a function of its files. *Why*: the parts
/// are those of `s3t-models`; state here what the family adds.
pub static FAMILY: ModelFamily = ModelFamily {
    model_type: "new-plugin",
    documentation: "A decoder with causal attention, rotary positions and no biases.",
    fields: FieldTable::of_config(
        "new-plugin",
        "the configuration class of the family in transformers",
        // First step: read the class in Python and give each field its rule. A field that is not here is refused.
        &[fields::COMMON, fields::SIZES, fields::TRAINING, fields::TEXT, fields::DECODER],
    ),
    // The classes of the family in Python; the first of `others` is the bare model.
    classes: Classes { heads: &["NewPluginForSequenceClassification"], others: &["NewPluginModel", "NewPluginForCausalLM"] },
    specify,
};

model_family!(FAMILY);

/// The part of a `config.json` that decides what the model computes, beside the rotary positions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Option<u32>,
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let config: Config = file.parse()?;
    let refuse = |error: FieldError| file.refuse(error);
    let spec = DecoderSpec {
        context: "new-plugin",
        config: constant(&config).map_err(refuse)?,
        vocabulary: config.vocab_size,
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: config.hidden_size / config.num_attention_heads.max(1),
        activation: &config.hidden_act,
        epsilon: config.rms_norm_eps,
        positions: config.max_position_embeddings,
        tied: config.tie_word_embeddings,
        eos_token_id: &config.eos_token_id,
        padding: config.pad_token_id,
        biases: Vec::new(),
        visibility: vec![Visibility::Causal; config.num_hidden_layers],
    };
    spec.specify(file)
}
