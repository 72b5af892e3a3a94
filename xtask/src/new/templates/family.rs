//! A family of models. The guide docs/guide/writing-a-model-family.md writes one step by step.

use s3t_models::fields::{self, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderConfig, DecoderSpec, FieldError, ModelError, ModelFamily, ModelFile, Specification, Visibility,
    constant, model_family,
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
    classes: Classes {
        heads: &["NewPluginForSequenceClassification"],
        others: &["NewPluginModel", "NewPluginForCausalLM"],
    },
    specify,
};

model_family!(FAMILY);

/// The fields of the family's own that decide what the model computes.
#[derive(Debug, Serialize, Deserialize)]
struct OwnConfig {
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Option<u32>,
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let (shared, own): (DecoderConfig, OwnConfig) = (file.parse()?, file.parse()?);
    let refuse = |error: FieldError| file.refuse(error);
    let spec = DecoderSpec {
        context: "new-plugin",
        visibility: vec![Visibility::Causal; shared.blocks().map_err(refuse)?],
        shared,
        own: constant(&own).map_err(refuse)?,
        kv_heads: own.num_key_value_heads,
        head_dim: None,
        eos_token_id: &own.eos_token_id,
        padding: own.pad_token_id,
        biases: Vec::new(),
    };
    spec.specify(file)
}
