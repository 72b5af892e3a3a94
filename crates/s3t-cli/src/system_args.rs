//! Systems described by a pipeline file, by flags, or by both.

use std::path::{Path, PathBuf};

use clap::Args;
use s3t::core::cost::ModelShape;
use s3t::core::registry::plugin_from_json;
use s3t::core::sequence::{Cyclic, plan_sequences};
use s3t::core::{
    LayerGroups, PartitionShape, Plan, PluginKind, Prior, Sequence, SequenceRequest, SequenceStrategy, ShardId,
};
use s3t::engine::{Pipeline, Preview, PriorSource, System};
use s3t::eval::figures::{PlannedSystem, rates_of_prior};

use crate::exit::{self, Failure};

/// A system: a pipeline file, flags, or a pipeline file with flags in place of what it says.
#[derive(Args)]
pub(crate) struct SystemArgs {
    /// The pipeline file. May be left out: then --shards and --slices say what is planned.
    pub(crate) pipeline: Option<PathBuf>,
    /// Shards m: models of the ensemble.
    #[arg(long)]
    shards: Option<u32>,
    /// Slices of a shard L.
    #[arg(long)]
    slices: Option<u32>,
    /// Sequences of a shard B; without a pipeline file, 1.
    #[arg(long)]
    budget: Option<usize>,
    /// How sequences are chosen: a plugin's name, or a table, as in '{ type = "bms", t = 20 }'.
    #[arg(long)]
    strategy: Option<String>,
    /// How likely each slice of a shard is to be hit: `uniform`, or numbers as in 0.4,0.3,0.2,0.1.
    #[arg(long)]
    prior: Option<String>,
    /// The seed of everything that is drawn.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    model: ModelArgs,
}

/// The model and the records, where no pipeline file says them. The defaults are those of a ViT-Base on 50,000 images.
#[derive(Args)]
#[command(next_help_heading = "Model and records, without a pipeline file")]
struct ModelArgs {
    /// Training records N.
    #[arg(long, default_value_t = 50_000)]
    records: u64,
    /// Passes of a stage over its records.
    #[arg(long, default_value_t = 15)]
    epochs: u64,
    /// Transformer blocks.
    #[arg(long, default_value_t = 12)]
    blocks: usize,
    /// Blocks of each slice's layer group; all blocks are spread if it is left out.
    #[arg(long)]
    blocks_per_slice: Option<usize>,
    /// The width of the residual stream.
    #[arg(long, default_value_t = 768)]
    hidden: u64,
    /// The width of the feed-forward layer.
    #[arg(long, default_value_t = 3072)]
    intermediate: u64,
    /// Tokens of a record.
    #[arg(long, default_value_t = 197)]
    tokens: u64,
    /// The rank of LoRA on query and value.
    #[arg(long, default_value_t = 16)]
    rank: u64,
    /// Classes.
    #[arg(long, default_value_t = 10)]
    classes: u64,
}

/// A system as described.
pub(crate) struct Described {
    pub(crate) system: PlannedSystem,
    pub(crate) budget: usize,
    /// The strategy's plugin name.
    pub(crate) strategy: String,
    /// The prior of shard 0; that of the others is another where it comes from subjects.
    pub(crate) prior: Prior,
    /// Why the strategy chose what it chose.
    pub(crate) reason: Option<String>,
    pub(crate) method: String,
}

/// What a search for a system starts from: the parts of a description that do not depend on its shape.
pub(crate) struct Workload {
    pub(crate) records: u64,
    pub(crate) epochs: u64,
    pub(crate) model: ModelShape,
    pub(crate) prior: Prior,
    pub(crate) strategy: Option<Box<dyn SequenceStrategy>>,
    pub(crate) seed: u64,
}

impl SystemArgs {
    /// The system.
    pub(crate) fn describe(&self) -> Result<Described, Failure> {
        match &self.pipeline {
            Some(path) => self.of_pipeline(path),
            None => self.of_flags(),
        }
    }

    /// What to search a system for.
    pub(crate) fn workload(&self) -> Result<Workload, Failure> {
        let strategy = self.strategy.as_deref().map(parse_strategy).transpose()?;
        if let Some(path) = &self.pipeline {
            let Described { system, prior, .. } = self.of_pipeline(path)?;
            let records = system.slice_sizes.iter().flatten().sum();
            let PlannedSystem { epochs, model, seed, .. } = system;
            // A prior of the pipeline's slices says nothing about other numbers of slices.
            let prior = if self.prior.is_some() { prior } else { Prior::Uniform };
            return Ok(Workload { records, epochs, model, prior, strategy, seed });
        }
        let prior = self.prior.as_deref().map_or(Ok(Prior::Uniform), parse_prior)?;
        let model = self.model.shape();
        let (records, epochs) = (self.model.records, self.model.epochs);
        Ok(Workload { records, epochs, model, prior, strategy, seed: self.seed.unwrap_or(0) })
    }

    fn of_pipeline(&self, path: &Path) -> Result<Described, Failure> {
        let mut pipeline = Pipeline::read(path)?;
        let changed = self.apply(&mut pipeline)?;
        if pipeline.store.exists() && !changed {
            return Described::of_system(&System::open(pipeline)?);
        }
        let Preview { plan, slice_sizes, rates, model } = Preview::new(&pipeline)?;
        Ok(Described::new(&pipeline, &plan, slice_sizes, rates, model))
    }

    fn of_flags(&self) -> Result<Described, Failure> {
        let (Some(shards), Some(slices)) = (self.shards, self.slices) else {
            let message = "give a pipeline file, or --shards and --slices";
            return Err(Failure::new(exit::REFUSED, message));
        };
        let shape = PartitionShape { shards, slices };
        let strategy = self.strategy.as_deref().map_or_else(|| Ok(Box::new(Cyclic {}) as _), parse_strategy)?;
        let prior = self.prior.as_deref().map_or(Ok(Prior::Uniform), parse_prior)?;
        let (budget, seed) = (self.budget.unwrap_or(1), self.seed.unwrap_or(0));
        check_sizes(shape, budget)?;
        let sequences_of = |shard| {
            let request = SequenceRequest { shard: ShardId(shard), slices, budget, prior: &prior, seed };
            plan_sequences(&*strategy, &request)
        };
        let first = sequences_of(0)?;
        // Most strategies treat all shards alike; whether this one does shows with the second.
        let alike = shards == 1 || sequences_of(1)? == first;
        let sequences = if alike { vec![first] } else { (0..shards).map(sequences_of).collect::<Result<_, _>>()? };
        // Figures of deletions need no model: a model that is too small for the slices is not refused for them.
        let blocks = self.model.blocks.max(slices as usize);
        let groups = LayerGroups::from_top(blocks, slices, self.model.blocks_per_slice)?;
        let system = PlannedSystem {
            shape,
            sequences,
            rates: rates_of_prior(&prior, shape),
            slice_sizes: vec![vec![self.model.records / (u64::from(shards) * u64::from(slices)); slices as usize]],
            groups,
            model: ModelShape { blocks, ..self.model.shape() },
            epochs: self.model.epochs,
            seed,
        };
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &prior, seed };
        let (reason, method) = (strategy.reason(&request), format!("lora, rank {}", self.model.rank));
        let strategy = strategy.typetag_name().to_owned();
        Ok(Described { system, budget, strategy, prior, reason, method })
    }

    /// Puts the flags in the place of what the pipeline says; whether there were any.
    fn apply(&self, pipeline: &mut Pipeline) -> Result<bool, Failure> {
        let Self { shards, slices, budget, strategy, prior, seed, .. } = self;
        pipeline.shape.shards = shards.unwrap_or(pipeline.shape.shards);
        pipeline.shape.slices = slices.unwrap_or(pipeline.shape.slices);
        pipeline.budget = budget.unwrap_or(pipeline.budget);
        pipeline.seed = seed.unwrap_or(pipeline.seed);
        if let Some(strategy) = strategy {
            pipeline.strategy = parse_strategy(strategy)?;
        }
        if let Some(prior) = prior {
            pipeline.prior = PriorSource::Given(parse_prior(prior)?);
        }
        check_sizes(pipeline.shape, pipeline.budget)?;
        Ok(shards.is_some()
            || slices.is_some()
            || budget.is_some()
            || strategy.is_some()
            || prior.is_some()
            || seed.is_some())
    }
}

impl Described {
    /// A system that has a store.
    pub(crate) fn of_system(system: &System) -> Result<Self, Failure> {
        let (plan, rates) = (system.store().plan(), system.rates()?);
        Ok(Self::new(system.pipeline(), plan, system.slice_sizes(), rates, system.model_shape()))
    }

    fn new(
        pipeline: &Pipeline,
        plan: &Plan,
        slice_sizes: Vec<Vec<u64>>,
        rates: Vec<Vec<f64>>,
        model: ModelShape,
    ) -> Self {
        let of_shard = |shard: &s3t::core::ShardPlan| -> Vec<Sequence> {
            shard.sequences.iter().map(|planned| planned.sequence.clone()).collect()
        };
        let Pipeline { shape, budget, seed, .. } = *pipeline;
        let prior = match &pipeline.prior {
            PriorSource::Given(prior) => prior.clone(),
            PriorSource::Subjects(_) => Prior::of_rates(&rates[0]),
        };
        let request = SequenceRequest { shard: ShardId(0), slices: shape.slices, budget, prior: &prior, seed };
        let reason = pipeline.strategy.reason(&request);
        Self {
            system: PlannedSystem {
                shape,
                sequences: plan.shards().iter().map(of_shard).collect(),
                rates,
                slice_sizes,
                groups: plan.groups().clone(),
                model,
                epochs: pipeline.training.epochs as u64,
                seed,
            },
            budget,
            strategy: pipeline.strategy.typetag_name().to_owned(),
            prior,
            reason,
            method: pipeline.peft.typetag_name().to_owned(),
        }
    }
}

impl ModelArgs {
    fn shape(&self) -> ModelShape {
        ModelShape::transformer(self.blocks, self.hidden, self.intermediate, self.tokens, self.rank, self.classes)
    }
}

fn check_sizes(shape: PartitionShape, budget: usize) -> Result<(), Failure> {
    let wrong =
        |what: &str, value: u64| Failure::new(exit::REFUSED, format!("`{what}` is {value}; it takes 1 to 1000000"));
    for (what, value) in [("shards", shape.shards.into()), ("slices", shape.slices.into()), ("budget", budget as u64)] {
        if !(1..=1_000_000).contains(&value) {
            return Err(wrong(what, value));
        }
    }
    Ok(())
}

/// A strategy by name, or as the table that a pipeline file has.
pub(crate) fn parse_strategy(text: &str) -> Result<Box<dyn SequenceStrategy>, Failure> {
    let table = if text.trim_start().starts_with('{') {
        let parsed: Result<toml::Table, _> = toml::from_str(&format!("strategy = {text}"));
        let table = parsed.map_err(|error| {
            Failure::new(exit::REFUSED, format!("--strategy is not a TOML table: {}", error.message()))
        })?;
        serde_json::to_value(&table["strategy"]).unwrap_or_default()
    } else {
        serde_json::json!({ "type": text })
    };
    plugin_from_json(PluginKind::SequenceStrategy, &table)
        .map_err(|error| Failure::new(exit::REFUSED, format!("--strategy: {}", error.message)))
}

/// `uniform`, or numbers with commas between them.
fn parse_prior(text: &str) -> Result<Prior, Failure> {
    if text == "uniform" {
        return Ok(Prior::Uniform);
    }
    numbers(text, "prior").map(Prior::PerSlice)
}

/// Numbers with commas between them.
pub(crate) fn numbers(text: &str, flag: &str) -> Result<Vec<f64>, Failure> {
    let number = |part: &str| {
        part.trim().parse::<f64>().map_err(|_| {
            Failure::new(exit::REFUSED, format!("--{flag}: `{part}` is not a number; write numbers as in 0.4,0.3,0.2"))
        })
    };
    text.split(',').map(number).collect()
}
