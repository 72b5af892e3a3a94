//! Qwen2 (Yang et al. 2024, arXiv 2407.10671): Llama with biases on queries, keys and values, and windows in the upper blocks
//! where the configuration asks for them.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::serde_json::Value;
use s3t_models::{
    Classes, DecoderConfig, DecoderSpec, FieldError, LinearSite, ModelError, ModelFamily, ModelFile, Specification,
    Visibility, constant, model_family,
};
use serde::{Deserialize, Serialize};

/// Qwen2.
pub static QWEN2: ModelFamily = ModelFamily {
    model_type: "qwen2",
    documentation: "Qwen2 and Qwen2.5: Llama with biases on queries, keys and values; windows in upper blocks if asked for.",
    fields: FieldTable::of_config(
        "qwen2",
        "Qwen2Config of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::TRAINING,
            fields::TEXT,
            fields::DECODER,
            &[
                Field::honoured("use_sliding_window", "true if blocks from `max_window_layers` on see a window"),
                Field::honoured("sliding_window", "the tokens of the window, with `use_sliding_window`"),
                Field::honoured("max_window_layers", "the first block that sees a window, without `layer_types`"),
                Field::honoured("layer_types", "`full_attention` or `sliding_attention` for each block"),
                Field::only(
                    "head_dim",
                    &["null"],
                    "heads of this family are `hidden_size` / `num_attention_heads` wide",
                ),
                Field::only("attention_bias", &["null"], "biases of this family are fixed"),
                Field::only("mlp_bias", &["null"], "biases of this family are fixed"),
            ],
        ],
    ),
    classes: Classes {
        heads: &["Qwen2ForSequenceClassification"],
        others: &["Qwen2Model", "Qwen2ForCausalLM", "Qwen2ForQuestionAnswering", "Qwen2ForTokenClassification"],
    },
    specify,
};

model_family!(QWEN2);

/// The fields of the family's own that decide what the model computes.
#[derive(Debug, Serialize, Deserialize)]
struct Qwen2Config {
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "window")]
    sliding_window: Option<usize>,
    #[serde(default = "window_layers")]
    max_window_layers: usize,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Option<u32>,
}

/// The defaults of the class in Python.
#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn window() -> Option<usize> {
    Some(4096)
}

fn window_layers() -> usize {
    28
}

impl Qwen2Config {
    /// The tokens that a token sees in each of so many blocks.
    fn visibility(&self, blocks: usize) -> Result<Vec<Visibility>, FieldError> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        if window == Some(0) {
            return Err(FieldError::new("sliding_window", "is 0; it takes 1 or more tokens, or null"));
        }
        let sliding = window.map_or(Visibility::Causal, Visibility::Window);
        let Some(types) = &self.layer_types else {
            let of_block = |block| if block >= self.max_window_layers { sliding } else { Visibility::Causal };
            return Ok((0..blocks).map(of_block).collect());
        };
        if types.len() != blocks {
            let problem = format!("has {} entries, but `num_hidden_layers` is {}", types.len(), blocks);
            return Err(FieldError::new("layer_types", problem));
        }
        let of_type = |name: &String| match (name.as_str(), window) {
            ("full_attention", _) => Ok(Visibility::Causal),
            ("sliding_attention", Some(window)) => Ok(Visibility::Window(window)),
            ("sliding_attention", None) => Err(FieldError::new(
                "layer_types",
                "has `sliding_attention`, which needs `use_sliding_window` and a `sliding_window`",
            )),
            (other, _) => Err(FieldError::new(
                "layer_types",
                format!("has `{other}`; supported: full_attention, sliding_attention"),
            )),
        };
        types.iter().map(of_type).collect()
    }
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let (shared, own): (DecoderConfig, Qwen2Config) = (file.parse()?, file.parse()?);
    let refuse = |error: FieldError| file.refuse(error);
    let spec = DecoderSpec {
        context: "qwen2",
        visibility: own.visibility(shared.blocks().map_err(refuse)?).map_err(refuse)?,
        shared,
        own: constant(&own).map_err(refuse)?,
        kv_heads: own.num_key_value_heads,
        head_dim: None,
        eos_token_id: &own.eos_token_id,
        padding: own.pad_token_id,
        biases: vec![LinearSite::Query, LinearSite::Key, LinearSite::Value],
    };
    spec.specify(file)
}
