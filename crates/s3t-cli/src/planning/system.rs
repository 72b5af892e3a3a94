//! A system described by a pipeline file, by flags, or by both.

use std::path::{Path, PathBuf};

use clap::Args;
use s3t::api::{GivenPrior, ModelSize, SystemRequest};
use s3t::core::limits::shown;

use crate::exit::{Failure, REFUSED};

/// A system: a pipeline file, flags, or a pipeline file with flags in place of what it says.
#[derive(Args)]
pub(crate) struct SystemArgs {
    /// The pipeline file. May be left out: then --shards and --slices say what is planned.
    pipeline: Option<PathBuf>,
    /// Shards m: models of the ensemble.
    #[arg(long)]
    shards: Option<u32>,
    /// Slices of a shard L.
    #[arg(long)]
    slices: Option<u32>,
    /// Sequences of a shard B; without a pipeline file, 1.
    #[arg(long)]
    budget: Option<usize>,
    /// The sequence strategy: a plugin's name, or a table, as in '{ type = "bms", t = 20 }'.
    #[arg(long)]
    strategy: Option<String>,
    /// The probability that a request hits each slice of a shard: `uniform`, or numbers as in 0.4,0.3,0.2,0.1.
    #[arg(long)]
    prior: Option<String>,
    /// The seed of everything that is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// Independent request streams, where figures are estimated.
    #[arg(long)]
    trials: Option<usize>,
    /// Refuse what takes more than about so many elementary steps: a billion take some ten seconds.
    #[arg(long, default_value_t = 1e9)]
    max_work: f64,
    #[command(flatten)]
    model: ModelArgs,
}

/// The model and the records, where no pipeline file says them. The defaults are those of a ViT-Base on 50,000 images.
#[derive(Args)]
#[command(next_help_heading = "Model and records, without a pipeline file")]
struct ModelArgs {
    /// Training records N.
    #[arg(long, default_value_t = 50_000, conflicts_with = "pipeline")]
    records: u64,
    /// Passes of a stage over its records.
    #[arg(long, default_value_t = 15, conflicts_with = "pipeline")]
    epochs: u64,
    /// Transformer blocks.
    #[arg(long, default_value_t = 12, conflicts_with = "pipeline")]
    blocks: usize,
    /// Blocks of each slice's layer group; all blocks are spread if it is left out.
    #[arg(long, conflicts_with = "pipeline")]
    blocks_per_slice: Option<usize>,
    /// The width of the residual stream.
    #[arg(long, default_value_t = 768, conflicts_with = "pipeline")]
    hidden: u64,
    /// The width of the feed-forward layer.
    #[arg(long, default_value_t = 3072, conflicts_with = "pipeline")]
    intermediate: u64,
    /// Tokens of a record.
    #[arg(long, default_value_t = 197, conflicts_with = "pipeline")]
    tokens: u64,
    /// The rank of LoRA on query and value.
    #[arg(long, default_value_t = 16, conflicts_with = "pipeline")]
    rank: u64,
    /// Classes.
    #[arg(long, default_value_t = 10, conflicts_with = "pipeline")]
    classes: u64,
}

impl SystemArgs {
    /// The pipeline file, if there is one.
    pub(crate) fn pipeline(&self) -> Option<&Path> {
        self.pipeline.as_deref()
    }

    /// The system of a request.
    pub(crate) fn request(&self) -> Result<SystemRequest, Failure> {
        let ModelArgs { records, epochs, blocks, blocks_per_slice, hidden, intermediate, tokens, rank, classes } =
            self.model;
        let model =
            ModelSize { records, epochs, blocks, blocks_per_slice, hidden, intermediate, tokens, rank, classes };
        Ok(SystemRequest {
            pipeline: self.pipeline.clone(),
            shards: self.shards,
            slices: self.slices,
            budget: self.budget,
            strategy: self.strategy.clone(),
            prior: self.prior.as_deref().map(parse_prior).transpose()?,
            seed: self.seed,
            trials: self.trials,
            max_work: self.max_work,
            model,
        })
    }
}

/// `uniform`, or numbers with commas between them.
fn parse_prior(text: &str) -> Result<GivenPrior, Failure> {
    if text == "uniform" { Ok(GivenPrior::Uniform) } else { numbers(text, "prior").map(GivenPrior::PerSlice) }
}

/// Numbers with commas between them.
pub(crate) fn numbers(text: &str, flag: &str) -> Result<Vec<f64>, Failure> {
    let number = |part: &str| {
        part.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
            Failure::new(
                REFUSED,
                format!("--{flag}: `{}` is not a number; write numbers as in 0.4,0.3,0.2", shown(part)),
            )
        })
    };
    text.split(',').map(number).collect()
}
