//! The planned system that a request describes.

use std::path::Path;

use s3t_core::budget::cost::ModelShape;
use s3t_core::budget::prior::rates_of_prior;
use s3t_core::budget::search::Fixed;
use s3t_core::registry::plugin_from_json;
use s3t_core::sequence::{Cyclic, check_steps, plan_sequences};
use s3t_core::wording::counted;
use s3t_core::{
    LayerGroups, PartitionShape, PerShard, Plan, PluginKind, Prior, Sequence, SequenceRequest, SequenceStrategy,
    ShardId,
};
use s3t_engine::{Pipeline, Preview, PriorSource, System};
use s3t_simulation::PlannedSystem;

use super::extent::{check_sizes, spread};
use super::system::{ModelSize, SystemRequest, parse_strategy};
use crate::{ApiError, ErrorKind};

/// A planned system, with the words that describe it.
pub(super) struct Described {
    pub(super) system: PlannedSystem,
    pub(super) budget: usize,
    /// The strategy's plugin name.
    pub(super) strategy: String,
    /// The strategy as a pipeline file has it.
    table: serde_json::Value,
    /// The prior of shard 0; the others have priors of their own where the prior comes from subjects.
    pub(super) prior: Prior,
    /// The strategy's reason for its choice.
    pub(super) reason: Option<String>,
    /// The PEFT method.
    pub(super) method: String,
    pub(super) warnings: Vec<String>,
}

/// The start of a search: the parts of a description that do not depend on the shape.
pub(super) struct Workload {
    pub(super) records: u64,
    pub(super) epochs: u64,
    pub(super) model: ModelShape,
    pub(super) prior: Prior,
    pub(super) strategy: Option<Box<dyn SequenceStrategy>>,
    pub(super) fixed: Fixed,
    pub(super) seed: u64,
}

impl Described {
    /// The system of a request.
    pub(super) fn new(request: &SystemRequest) -> Result<Self, ApiError> {
        match &request.pipeline {
            Some(path) => Self::of_pipeline(request, path),
            None => Self::of_fields(request),
        }
    }

    /// A system that has a store.
    pub(super) fn of_system(system: &System) -> Result<Self, ApiError> {
        let (snapshot, rates) = (system.snapshot()?, system.rates()?);
        Self::of_plan(system.pipeline(), snapshot.plan(), snapshot.sizes().to_vec(), rates, system.model_shape())
    }

    fn of_pipeline(request: &SystemRequest, path: &Path) -> Result<Self, ApiError> {
        let mut pipeline = Pipeline::read(path)?.into_unchecked();
        let changed = apply(request, &mut pipeline)?;
        let pipeline = pipeline.check()?;
        if pipeline.store.exists() && !changed {
            return Self::of_system(&System::open_read_only(pipeline)?);
        }
        let Preview { plan, slice_sizes, rates, model, copies } = Preview::new(&pipeline)?;
        let mut described = Self::of_plan(&pipeline, &plan, slice_sizes, rates, model)?;
        if let (groups @ 1.., records) = copies {
            described.warnings.push(format!(
                "{records} records are copies of each other, in {}: a deletion of one takes its group",
                counted(groups, "group")
            ));
        }
        Ok(described)
    }

    fn of_fields(request: &SystemRequest) -> Result<Self, ApiError> {
        let (Some(shards), Some(slices)) = (request.shards, request.slices) else {
            return Err(ApiError::new(ErrorKind::Refused, "give a pipeline file, or `shards` and `slices`"));
        };
        let shape = PartitionShape { shards, slices };
        let strategy = request.strategy.as_deref().map_or_else(|| Ok(Box::new(Cyclic {}) as _), parse_strategy)?;
        let prior = request.prior.as_ref().map_or(Prior::Uniform, Prior::from);
        let (budget, seed) = (request.budget.unwrap_or(1), request.seed.unwrap_or(0));
        check_sizes(shape, budget)?;
        let model = &request.model;
        model.check()?;
        if model.records < shape.count() {
            let problem = format!("is {}; use at least one for each of {} slices", model.records, shape.count());
            return Err(ApiError::field("records", problem));
        }
        if model.epochs == 0 {
            return Err(ApiError::field("epochs", "is 0; use at least 1"));
        }
        let of_shard = |shard| SequenceRequest { shard: ShardId(shard), slices, budget, prior: &prior, seed };
        let own = if strategy.depends_on_shard(&of_shard(0)) { shards } else { 1 };
        check_steps(&*strategy, &of_shard(0), own)?;
        let sequences: Result<_, _> = (0..own).map(|shard| plan_sequences(&*strategy, &of_shard(shard))).collect();
        // Figures of deletions need no model: a model that is too small for the slices is not refused for them.
        let blocks = model.blocks.max(slices as usize);
        let mut warnings = Vec::new();
        if blocks > model.blocks {
            warnings.push(format!("{} blocks are too few for {slices} slices; costs are for {blocks}", model.blocks));
        }
        let system = PlannedSystem {
            shape,
            sequences: PerShard::each(sequences?)?,
            rates: rates_of_prior(&prior, shape),
            slice_sizes: spread(model.records, shape)?,
            groups: LayerGroups::from_top(blocks, slices, model.blocks_per_slice)?,
            model: ModelShape { blocks, ..model.shape() },
            epochs: model.epochs,
            seed,
        };
        let (reason, method) = (strategy.reason(&of_shard(0)), format!("lora, rank {}", model.rank));
        let (table, strategy) = (table_of(&*strategy)?, strategy.typetag_name().to_owned());
        Ok(Self { system, budget, strategy, table, prior, reason, method, warnings })
    }

    fn of_plan(
        pipeline: &Pipeline,
        plan: &Plan,
        slice_sizes: Vec<Vec<u64>>,
        rates: PerShard<Vec<f64>>,
        model: ModelShape,
    ) -> Result<Self, ApiError> {
        let of_shard = |shard: &s3t_core::ShardPlan| -> Vec<Sequence> {
            shard.sequences.iter().map(|planned| planned.sequence.clone()).collect()
        };
        let Pipeline { shape, budget, seed, .. } = *pipeline;
        let mut warnings = Vec::new();
        let prior = match &pipeline.prior {
            PriorSource::Given(prior) => prior.clone(),
            PriorSource::Subjects(_) => {
                warnings.push(
                    "each shard has a prior of its own, from its subjects; strategies are compared on that of shard 0"
                        .into(),
                );
                Prior::of_rates(rates.first())
            }
        };
        let strategy = &*pipeline.strategy;
        let request = SequenceRequest { shard: ShardId(0), slices: shape.slices, budget, prior: &prior, seed };
        let reason = strategy.reason(&request);
        let system = PlannedSystem {
            shape,
            sequences: PerShard::each(plan.shards().iter().map(of_shard).collect())?.collapsed(),
            rates,
            slice_sizes: PerShard::each(slice_sizes)?,
            groups: plan.groups().clone(),
            model,
            epochs: pipeline.training.epochs as u64,
            seed,
        };
        let method = pipeline.peft.typetag_name().to_owned();
        let (table, strategy) = (table_of(strategy)?, strategy.typetag_name().to_owned());
        Ok(Self { system, budget, strategy, table, prior, reason, method, warnings })
    }

    /// The strategy, to choose other sequences with.
    pub(super) fn strategy(&self) -> Result<Box<dyn SequenceStrategy>, ApiError> {
        plugin_from_json(PluginKind::SequenceStrategy, &self.table)
            .map_err(|error| ApiError::new(ErrorKind::Refused, error.message))
    }
}

fn table_of(strategy: &dyn SequenceStrategy) -> Result<serde_json::Value, ApiError> {
    serde_json::to_value(strategy).map_err(|error| {
        let name = strategy.typetag_name();
        ApiError::new(ErrorKind::Refused, format!("the fields of the strategy `{name}` cannot be written: {error}"))
    })
}

impl Workload {
    /// The workload of a request.
    pub(super) fn new(request: &SystemRequest) -> Result<Self, ApiError> {
        let strategy = request.strategy.as_deref().map(parse_strategy).transpose()?;
        let fixed = request.fixed();
        if let Some(path) = &request.pipeline {
            let Described { system, prior, .. } = Described::of_pipeline(request, path)?;
            let records = system.records();
            let PlannedSystem { epochs, model, seed, .. } = system;
            // A prior of the pipeline's slices says nothing about other numbers of slices.
            let prior = if request.prior.is_some() { prior } else { Prior::Uniform };
            return Ok(Self { records, epochs, model, prior, strategy, fixed, seed });
        }
        request.model.check()?;
        let ModelSize { records, epochs, .. } = request.model;
        let prior = request.prior.as_ref().map_or(Prior::Uniform, Prior::from);
        let seed = request.seed.unwrap_or(0);
        Ok(Self { records, epochs, model: request.model.shape(), prior, strategy, fixed, seed })
    }
}

/// Puts the fields of a request in the place of the pipeline's; `true` if there were any.
fn apply(request: &SystemRequest, pipeline: &mut Pipeline) -> Result<bool, ApiError> {
    let SystemRequest { shards, slices, budget, strategy, prior, seed, .. } = request;
    pipeline.shape.shards = shards.unwrap_or(pipeline.shape.shards);
    pipeline.shape.slices = slices.unwrap_or(pipeline.shape.slices);
    pipeline.budget = budget.unwrap_or(pipeline.budget);
    pipeline.seed = seed.unwrap_or(pipeline.seed);
    if let Some(strategy) = strategy {
        pipeline.strategy = parse_strategy(strategy)?;
    }
    if let Some(prior) = prior {
        pipeline.prior = PriorSource::Given(prior.into());
    }
    check_sizes(pipeline.shape, pipeline.budget)?;
    let given =
        [shards.is_some(), slices.is_some(), budget.is_some(), strategy.is_some(), prior.is_some(), seed.is_some()];
    Ok(given.contains(&true))
}
