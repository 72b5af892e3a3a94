//! Systems described by a pipeline file, by flags, or by both.

use std::path::{Path, PathBuf};

use clap::Args;
use s3t::core::budget::cost::ModelShape;
use s3t::core::budget::prior::rates_of_prior;
use s3t::core::budget::search::Fixed;
use s3t::core::limits::shown;
use s3t::core::registry::plugin_from_json;
use s3t::core::sequence::{Cyclic, MAX_POSITIONS, check_steps, plan_sequences};
use s3t::core::wording::counted;
use s3t::core::{
    LayerGroups, PartitionShape, PerShard, Plan, PluginKind, Prior, Sequence, SequenceRequest, SequenceStrategy,
    ShardId,
};
use s3t::engine::{Pipeline, Preview, PriorSource, System};
use s3t::simulation::PlannedSystem;

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
    /// Independent request streams, where figures are estimated.
    #[arg(long)]
    pub(crate) trials: Option<usize>,
    /// Refuse what takes more than about so many elementary steps: a billion take some ten seconds.
    #[arg(long, default_value_t = 1e9)]
    pub(crate) max_work: f64,
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

/// A system as described.
pub(crate) struct Described {
    pub(crate) system: PlannedSystem,
    pub(crate) budget: usize,
    /// The strategy's plugin name.
    pub(crate) strategy: String,
    /// The prior of shard 0; that of the others is another where it comes from subjects.
    pub(crate) prior: Prior,
    /// The strategy as a pipeline file has it.
    table: serde_json::Value,
    /// Why the strategy chose what it chose.
    pub(crate) reason: Option<String>,
    pub(crate) method: String,
    pub(crate) warnings: Vec<String>,
}

/// What a search for a system starts from: the parts of a description that do not depend on its shape.
pub(crate) struct Workload {
    pub(crate) records: u64,
    pub(crate) epochs: u64,
    pub(crate) model: ModelShape,
    pub(crate) prior: Prior,
    pub(crate) strategy: Option<Box<dyn SequenceStrategy>>,
    pub(crate) fixed: Fixed,
    pub(crate) seed: u64,
}

impl SystemArgs {
    /// Refuses work that would take minutes or hours, before it starts; `lower` says which flags make it less.
    pub(crate) fn check_work(&self, steps: f64, lower: &str) -> Result<(), Failure> {
        if steps <= self.max_work {
            return Ok(());
        }
        let message = format!(
            "this takes about {steps:.0e} steps, more than --max-work {:.0e}; give fewer {lower}, or raise --max-work",
            self.max_work
        );
        Err(Failure::new(exit::REFUSED, message))
    }

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
            let records = system.records();
            let PlannedSystem { epochs, model, seed, .. } = system;
            // A prior of the pipeline's slices says nothing about other numbers of slices.
            let prior = if self.prior.is_some() { prior } else { Prior::Uniform };
            return Ok(Workload { records, epochs, model, prior, strategy, fixed: self.fixed(), seed });
        }
        let prior = self.prior.as_deref().map_or(Ok(Prior::Uniform), parse_prior)?;
        self.model.check()?;
        let model = self.model.shape();
        let (records, epochs) = (self.model.records, self.model.epochs);
        let seed = self.seed.unwrap_or(0);
        Ok(Workload { records, epochs, model, prior, strategy, fixed: self.fixed(), seed })
    }

    /// What a search takes as given.
    fn fixed(&self) -> Fixed {
        let Self { shards, slices, budget, model, .. } = self;
        Fixed { shards: *shards, slices: *slices, budget: *budget, blocks_per_slice: model.blocks_per_slice }
    }

    fn of_pipeline(&self, path: &Path) -> Result<Described, Failure> {
        let mut pipeline = Pipeline::read(path)?.into_unchecked();
        let changed = self.apply(&mut pipeline)?;
        let pipeline = pipeline.check()?;
        if pipeline.store.exists() && !changed {
            return Described::of_system(&System::open_read_only(pipeline)?);
        }
        let Preview { plan, slice_sizes, rates, model, copies } = Preview::new(&pipeline)?;
        let mut described = Described::new(&pipeline, &plan, slice_sizes, rates, model)?;
        if let (groups @ 1.., records) = copies {
            described.warnings.push(format!(
                "{records} records are copies of each other, in {}: a deletion of one takes its group",
                counted(groups, "group")
            ));
        }
        Ok(described)
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
        self.model.check()?;
        let (records, slices_in_all) = (self.model.records, u64::from(shards) * u64::from(slices));
        if records < slices_in_all {
            let message = format!("--records is {records}; use at least one for each of {slices_in_all} slices");
            return Err(Failure::new(exit::REFUSED, message));
        }
        if self.model.epochs == 0 {
            return Err(Failure::new(exit::REFUSED, "--epochs is 0; use at least 1"));
        }
        let sequences_of = |shard| {
            let request = SequenceRequest { shard: ShardId(shard), slices, budget, prior: &prior, seed };
            plan_sequences(&*strategy, &request)
        };
        let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: &prior, seed };
        let own = if strategy.depends_on_shard(&request) { shards } else { 1 };
        check_steps(&*strategy, &request, own)?;
        let sequences = PerShard::each((0..own).map(sequences_of).collect::<Result<_, _>>()?)?;
        // Figures of deletions need no model: a model that is too small for the slices is not refused for them.
        let blocks = self.model.blocks.max(slices as usize);
        let mut warnings = Vec::new();
        if blocks > self.model.blocks {
            warnings
                .push(format!("{} blocks are too few for {slices} slices; costs are for {blocks}", self.model.blocks));
        }
        let groups = LayerGroups::from_top(blocks, slices, self.model.blocks_per_slice)?;
        let system = PlannedSystem {
            shape,
            sequences,
            rates: rates_of_prior(&prior, shape),
            slice_sizes: spread(self.model.records, shape)?,
            groups,
            model: ModelShape { blocks, ..self.model.shape() },
            epochs: self.model.epochs,
            seed,
        };
        let (reason, method) = (strategy.reason(&request), format!("lora, rank {}", self.model.rank));
        let table = serde_json::to_value(&*strategy).unwrap_or_default();
        let strategy = strategy.typetag_name().to_owned();
        Ok(Described { system, budget, strategy, prior, table, reason, method, warnings })
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
        let (snapshot, rates) = (system.snapshot()?, system.rates()?);
        Self::new(system.pipeline(), snapshot.plan(), snapshot.sizes().to_vec(), rates, system.model_shape())
    }

    fn new(
        pipeline: &Pipeline,
        plan: &Plan,
        slice_sizes: Vec<Vec<u64>>,
        rates: PerShard<Vec<f64>>,
        model: ModelShape,
    ) -> Result<Self, Failure> {
        let of_shard = |shard: &s3t::core::ShardPlan| -> Vec<Sequence> {
            shard.sequences.iter().map(|planned| planned.sequence.clone()).collect()
        };
        let Pipeline { shape, budget, seed, .. } = *pipeline;
        let prior = match &pipeline.prior {
            PriorSource::Given(prior) => prior.clone(),
            PriorSource::Subjects(_) => Prior::of_rates(rates.first()),
        };
        let request = SequenceRequest { shard: ShardId(0), slices: shape.slices, budget, prior: &prior, seed };
        let reason = pipeline.strategy.reason(&request);
        let sequences = PerShard::each(plan.shards().iter().map(of_shard).collect())?.collapsed();
        let mut warnings = Vec::new();
        if matches!(pipeline.prior, PriorSource::Subjects(_)) {
            warnings.push(
                "each shard has a prior of its own, from its subjects; strategies are compared on that of shard 0"
                    .into(),
            );
        }
        Ok(Self {
            system: PlannedSystem {
                shape,
                sequences,
                rates,
                slice_sizes: PerShard::each(slice_sizes)?,
                groups: plan.groups().clone(),
                model,
                epochs: pipeline.training.epochs as u64,
                seed,
            },
            budget,
            strategy: pipeline.strategy.typetag_name().to_owned(),
            table: serde_json::to_value(&*pipeline.strategy).unwrap_or_default(),
            prior,
            reason,
            method: pipeline.peft.typetag_name().to_owned(),
            warnings,
        })
    }

    /// The strategy, to choose other sequences with.
    pub(crate) fn strategy(&self) -> Result<Box<dyn SequenceStrategy>, Failure> {
        plugin_from_json(PluginKind::SequenceStrategy, &self.table)
            .map_err(|error| Failure::new(exit::REFUSED, error.message))
    }
}

impl ModelArgs {
    /// Numbers whose products still have a meaning.
    fn check(&self) -> Result<(), Failure> {
        for (flag, value, most) in [
            ("records", self.records, 1 << 40),
            ("epochs", self.epochs, 1 << 20),
            ("blocks", self.blocks as u64, 1 << 17),
            ("hidden", self.hidden, 1 << 20),
            ("intermediate", self.intermediate, 1 << 22),
            ("tokens", self.tokens, 1 << 24),
            ("rank", self.rank, 1 << 20),
            ("classes", self.classes, 1 << 24),
        ] {
            if value > most {
                return Err(Failure::new(exit::REFUSED, format!("--{flag} is {value}; it takes up to {most}")));
            }
        }
        Ok(())
    }

    fn shape(&self) -> ModelShape {
        ModelShape::transformer(self.blocks, self.hidden, self.intermediate, self.tokens, self.rank, self.classes)
    }
}

/// Sizes that can be planned in memory.
fn check_sizes(shape: PartitionShape, budget: usize) -> Result<(), Failure> {
    let (shards, slices, budget) = (u64::from(shape.shards), u64::from(shape.slices), budget as u64);
    for (what, value, most) in [
        ("shards", shards, 1_000_000),
        ("slices", slices, 4096),
        ("budget", budget, 1_000_000),
        ("shards x slices", shards.saturating_mul(slices), MAX_POSITIONS),
        ("budget x slices", budget.saturating_mul(slices), MAX_POSITIONS),
        ("shards x budget", budget.saturating_mul(shards), MAX_POSITIONS),
    ] {
        if !(1..=most).contains(&value) {
            return Err(Failure::new(exit::REFUSED, format!("`{what}` is {value}; it takes 1 to {most}")));
        }
    }
    Ok(())
}

/// The same number of records in each slice, the remainder over the first; one entry if that makes all shards alike.
fn spread(records: u64, shape: PartitionShape) -> Result<PerShard<Vec<u64>>, Failure> {
    let (shards, slices) = (shape.shards as usize, shape.slices as usize);
    let count = (shards * slices) as u64;
    let (even, rest) = (records / count, records % count);
    if rest == 0 {
        return Ok(PerShard::alike(vec![even; slices]));
    }
    let size = |number: usize| even + u64::from((number as u64) < rest);
    // Slices of all shards take turns, so that shards differ by one record at most.
    Ok(PerShard::each(
        (0..shards).map(|shard| (0..slices).map(|slice| size(slice * shards + shard)).collect()).collect(),
    )?)
}

/// A strategy by name, or as the table that a pipeline file has.
pub(crate) fn parse_strategy(text: &str) -> Result<Box<dyn SequenceStrategy>, Failure> {
    let table = if text.trim_start().starts_with('{') {
        let parsed: Result<toml::Table, _> = toml::from_str(&format!("strategy = {text}"));
        let table = parsed.map_err(|error| {
            Failure::new(exit::REFUSED, format!("--strategy is not a TOML table: {}", error.message()))
        })?;
        // The text may hold more lines than one: then the first key need not be the only one.
        let strategy = table.get("strategy").filter(|_| table.len() == 1);
        let strategy = strategy.ok_or_else(|| Failure::new(exit::REFUSED, "--strategy is not one TOML table"))?;
        serde_json::to_value(strategy).unwrap_or_default()
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
        part.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
            Failure::new(
                exit::REFUSED,
                format!("--{flag}: `{}` is not a number; write numbers as in 0.4,0.3,0.2", shown(part)),
            )
        })
    };
    text.split(',').map(number).collect()
}
