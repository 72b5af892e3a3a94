//! A system as a request describes it: by a pipeline file, by fields, or by a pipeline file with fields in place of its own.

use std::path::PathBuf;

use s3t_core::budget::cost::ModelShape;
use s3t_core::budget::search::Fixed;
use s3t_core::registry::plugin_from_json;
use s3t_core::{PluginKind, Prior, SequenceStrategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ErrorKind};

/// A system: a pipeline file, fields, or a pipeline file with fields in place of its own.
///
/// ```
/// let system: s3t_api::SystemRequest = serde_json::from_str(r#"{"shards": 5, "slices": 4, "prior": [0.4, 0.3, 0.2, 0.1]}"#)?;
/// assert_eq!((system.budget, system.model.records), (None, 50_000));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SystemRequest {
    /// The pipeline file. Without it, `shards` and `slices` say what is planned.
    pub pipeline: Option<PathBuf>,
    /// Shards m: models of the ensemble.
    pub shards: Option<u32>,
    /// Slices of a shard L.
    pub slices: Option<u32>,
    /// Sequences of a shard B; 1 without a pipeline file.
    pub budget: Option<usize>,
    /// The sequence strategy: a plugin's name, or a TOML table as in `{ type = "bms", t = 20 }`.
    pub strategy: Option<String>,
    /// The probability that a request hits each slice of a shard: `uniform`, or a number for each slice.
    pub prior: Option<GivenPrior>,
    /// The seed of everything that is drawn.
    pub seed: Option<u64>,
    /// Independent request streams, where figures are estimated.
    pub trials: Option<usize>,
    /// The largest number of elementary steps that are done for the request, approximately: a billion take some ten seconds.
    pub max_work: f64,
    /// The model and the records, without a pipeline file.
    #[serde(flatten)]
    pub model: ModelSize,
}

impl Default for SystemRequest {
    fn default() -> Self {
        Self {
            pipeline: None,
            shards: None,
            slices: None,
            budget: None,
            strategy: None,
            prior: None,
            seed: None,
            trials: None,
            max_work: 1e9,
            model: ModelSize::default(),
        }
    }
}

/// A prior in a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GivenPrior {
    /// Every slice is as likely as any other.
    Uniform,
    /// The probability that a request hits each slice.
    #[serde(untagged)]
    PerSlice(Vec<f64>),
}

impl From<&GivenPrior> for Prior {
    fn from(prior: &GivenPrior) -> Self {
        match prior {
            GivenPrior::Uniform => Self::Uniform,
            GivenPrior::PerSlice(values) => Self::PerSlice(values.clone()),
        }
    }
}

/// The model and the records, where no pipeline file says them. The defaults are those of a ViT-Base on 50,000 images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelSize {
    /// Training records N.
    pub records: u64,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// Transformer blocks.
    pub blocks: usize,
    /// Blocks of each slice's layer group; all blocks are spread without it.
    pub blocks_per_slice: Option<usize>,
    /// The width of the residual stream.
    pub hidden: u64,
    /// The width of the feed-forward layer.
    pub intermediate: u64,
    /// Tokens of a record.
    pub tokens: u64,
    /// The rank of LoRA on query and value.
    pub rank: u64,
    /// Classes.
    pub classes: u64,
}

impl Default for ModelSize {
    fn default() -> Self {
        Self {
            records: 50_000,
            epochs: 15,
            blocks: 12,
            blocks_per_slice: None,
            hidden: 768,
            intermediate: 3072,
            tokens: 197,
            rank: 16,
            classes: 10,
        }
    }
}

impl ModelSize {
    /// Refuses numbers whose products would be no numbers any more.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        for (field, value, min, max) in [
            ("records", self.records, 0, 1 << 40),
            ("epochs", self.epochs, 1, 1 << 20),
            ("blocks", self.blocks as u64, 1, 1 << 17),
            ("hidden", self.hidden, 1, 1 << 20),
            ("intermediate", self.intermediate, 0, 1 << 22),
            ("tokens", self.tokens, 1, 1 << 24),
            ("rank", self.rank, 0, 1 << 20),
            ("classes", self.classes, 0, 1 << 24),
        ] {
            if value > max {
                return Err(ApiError::field(field, format!("is {value}; it takes up to {max}")));
            }
            if value < min {
                return Err(ApiError::field(field, format!("is {value}; it takes {min} to {max}")));
            }
        }
        Ok(())
    }

    pub(super) fn shape(&self) -> ModelShape {
        ModelShape::transformer(self.blocks, self.hidden, self.intermediate, self.tokens, self.rank, self.classes)
    }
}

impl SystemRequest {
    /// Refuses work that would take minutes or hours, before it starts; `lower` names the fields that make it less.
    pub(super) fn check_work(&self, steps: f64, lower: &str) -> Result<(), ApiError> {
        if steps <= self.max_work {
            return Ok(());
        }
        let message = format!(
            "this takes about {steps:.0e} steps, more than `max_work` {:.0e}; give fewer {lower}, or raise `max_work`",
            self.max_work
        );
        Err(ApiError::new(ErrorKind::Refused, message))
    }

    /// The parts of the shape that a search takes as given.
    pub(super) fn fixed(&self) -> Fixed {
        let Self { shards, slices, budget, model, .. } = self;
        Fixed { shards: *shards, slices: *slices, budget: *budget, blocks_per_slice: model.blocks_per_slice }
    }
}

/// A strategy by name, or as the table that a pipeline file has.
pub(super) fn parse_strategy(text: &str) -> Result<Box<dyn SequenceStrategy>, ApiError> {
    let table = if text.trim_start().starts_with('{') {
        let parsed: Result<toml::Table, _> = toml::from_str(&format!("strategy = {text}"));
        let table =
            parsed.map_err(|error| ApiError::field("strategy", format!("is not a TOML table: {}", error.message())))?;
        // The text may hold more lines: then other keys stand beside the table.
        let strategy = table.get("strategy").filter(|_| table.len() == 1);
        let strategy = strategy.ok_or_else(|| ApiError::field("strategy", "is not one TOML table"))?;
        serde_json::to_value(strategy).map_err(|error| ApiError::field("strategy", format!("is unusable: {error}")))?
    } else {
        serde_json::json!({ "type": text })
    };
    plugin_from_json(PluginKind::SequenceStrategy, &table)
        .map_err(|error| ApiError::new(ErrorKind::Refused, error.message))
}
