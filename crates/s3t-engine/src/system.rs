//! A pipeline with its store.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use s3t_backends::{Backbone, BackendError, Device, Input, LoadOptions};
use s3t_core::cost::ModelShape;
use s3t_core::digest::DigestBuilder;
use s3t_core::index::place_records;
use s3t_core::sequence::plan_sequences;
use s3t_core::{
    Availability, Cut, LayerGroups, NumericEnvironment, Plan, PlannedStage, Prior, Recipe, Record, RecordId, Sequence,
    SequenceRequest, Serving, ShardId, SliceAddress, StageKey, StoreSecret, SubjectId, Task, lineage,
};
use s3t_peft::{NamedTensors, PeftError};
use s3t_store::{Erasure, NewStore, Store, StoreSettings, random_secret};
use s3t_train::{StageBuilder, StageJob, StageModel, StageTrainer};
use serde::Serialize;

use crate::ensemble::{self, Member, Prediction};
use crate::jobs::{self, Observer, Stages, in_batches};
use crate::settings::{DeadShard, PriorSource};
use crate::{EngineError, Pipeline};

/// An unlearning system: trained, serving, deleting.
///
/// # Proof note
///
/// *Before*: the plan is derived from the slices as they are on disk. *After* [`delete`](Self::delete) returns: no answer
/// uses a stage whose lineage held a deleted record, and none is left on disk. *Why*: a stage's key is the hash of its
/// lineage, the deletion changes the digest of the record's slice, so the new plan holds none of the keys that held it; the
/// depth of a sequence is the longest prefix whose keys are in the plan and on disk; files outside the plan are removed.
pub struct System {
    pipeline: Pipeline,
    device: Device,
    backbone: Arc<dyn Backbone>,
    builder: Arc<dyn StageBuilder>,
    environment: NumericEnvironment,
    store: Store,
    availability: Availability,
    members: Mutex<Option<Arc<Vec<Member>>>>,
}

/// What a new system is made from besides its pipeline.
struct NewSystem<'a> {
    records: &'a [Record],
    /// Checked, not stored.
    held_out: &'a [Record],
    secret: Option<StoreSecret>,
}

/// What a build did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// Stages of the plan.
    pub planned: usize,
    /// Stages that were there already.
    pub reused: usize,
    /// Stages that were trained.
    pub trained: usize,
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deletion {
    /// The records that are gone.
    pub records: Vec<RecordId>,
    /// What was cut in each slice that was hit, and what the shard serves with now.
    pub cuts: Vec<Cut>,
    /// Stages whose files were removed.
    pub erased_stages: Vec<StageKey>,
    /// Slices whose files were rewritten.
    pub rewritten_slices: Vec<SliceAddress>,
    /// How many deletions this store has seen, this one included.
    pub epoch: u64,
    /// Seconds until no answer used a dead stage.
    pub effective_seconds: f64,
    /// Seconds until the deletion could no longer be lost.
    pub durable_seconds: f64,
    /// Seconds until the bytes were gone from disk.
    pub erased_seconds: f64,
}

/// One shard as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// Its records.
    pub records: usize,
    /// What it serves with.
    pub serving: Option<Serving>,
    /// The usable depth of each sequence.
    pub depths: Vec<usize>,
    /// The number of requests with which somebody who picks slices could kill it.
    pub adversarial_budget: usize,
}

/// The system as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Where the store is.
    pub store: PathBuf,
    /// Records that are there.
    pub records: usize,
    /// Subjects that are there.
    pub subjects: usize,
    /// Deletion requests seen.
    pub epoch: u64,
    /// Records deleted.
    pub deleted: usize,
    /// Stages of the plan.
    pub planned_stages: usize,
    /// Stages of the plan that are on disk.
    pub built_stages: usize,
    /// Each shard.
    pub shards: Vec<ShardStatus>,
    /// Whether stages can be trained and compared here: the arithmetic is the store's.
    pub same_environment: bool,
}

impl System {
    /// Opens the pipeline's store, or makes it from the training data if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model, the data or the store; nothing is written then.
    pub fn open(pipeline: Pipeline) -> Result<Self, EngineError> {
        if pipeline.store.exists() {
            return Self::assemble(pipeline, None);
        }
        let records = pipeline.read_train_data()?;
        // What the system will be evaluated on is looked at too, before anything is written.
        let held_out = match &pipeline.test_data {
            Some(source) => source.read(&pipeline.base_dir, &pipeline.targets())?,
            None => Vec::new(),
        };
        Self::make(pipeline, &records, &held_out, None)
    }

    /// Makes the pipeline's store from these records. `secret` keys the partition; `None` takes the pipeline's choice.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model or the records, or if the store exists; nothing is written then.
    pub fn create(pipeline: Pipeline, records: &[Record], secret: Option<StoreSecret>) -> Result<Self, EngineError> {
        Self::make(pipeline, records, &[], secret)
    }

    fn make(
        pipeline: Pipeline,
        records: &[Record],
        held_out: &[Record],
        secret: Option<StoreSecret>,
    ) -> Result<Self, EngineError> {
        if records.is_empty() {
            return Err(EngineError::NoRecords("the training data is empty".into()));
        }
        let secret = secret.or_else(|| pipeline.secret.secret(pipeline.seed));
        Self::assemble(pipeline, Some(NewSystem { records, held_out, secret }))
    }

    fn assemble(pipeline: Pipeline, new: Option<NewSystem<'_>>) -> Result<Self, EngineError> {
        let device = pipeline.device.open()?;
        let backbone = load(&pipeline, &device)?;
        let environment = pipeline.device.environment();
        let store = match new {
            Some(NewSystem { records, held_out, secret }) => {
                let secret = secret.map_or_else(random_secret, Ok)?;
                let settings = settings(&pipeline, &*backbone, choose_sequences(&pipeline, &*backbone, &secret)?)?;
                check_records(&pipeline, &*backbone, records.iter().chain(held_out))?;
                let partitioner = &*pipeline.partitioner;
                Store::create(&pipeline.store, NewStore { settings, partitioner, records, secret })?
            }
            None => {
                let store = Store::open(&pipeline.store)?;
                // What subjects were likely to do was asked once: their numbers may have changed or gone since then.
                let sequences = match &pipeline.prior {
                    PriorSource::Subjects(_) => store.manifest().settings.sequences.clone(),
                    PriorSource::Given(_) => choose_sequences(&pipeline, &*backbone, store.secret())?,
                };
                check_settings(&store, settings(&pipeline, &*backbone, sequences)?)?;
                store
            }
        };
        let memory = pipeline.resources.activation_memory_mb.saturating_mul(1 << 20);
        let builder = Arc::new(StageTrainer::new(Arc::clone(&backbone), device.clone(), memory));
        let availability = availability(&store);
        Ok(Self { pipeline, device, backbone, builder, environment, store, availability, members: Mutex::default() })
    }

    /// Replaces the trainer: for training elsewhere, and for tests that plant mistakes.
    #[must_use]
    pub fn with_builder(mut self, builder: Arc<dyn StageBuilder>) -> Self {
        self.builder = builder;
        self
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The base model.
    pub fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.backbone
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The probability that a request hits each slice, `[shard][slice]`; one entry stands for all shards.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for a prior that is none.
    pub fn rates(&self) -> Result<Vec<Vec<f64>>, EngineError> {
        rates(&self.pipeline, self.store.secret())
    }

    /// What of the model and the PEFT method decides about costs.
    pub fn model_shape(&self) -> ModelShape {
        model_shape(&self.pipeline, &*self.backbone)
    }

    /// What trains stages.
    pub fn builder(&self) -> &Arc<dyn StageBuilder> {
        &self.builder
    }

    /// The usable depth of every sequence.
    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// Builds every missing stage. This is training, resuming and repair: they differ in what is missing only.
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] on another arithmetic than the store's; otherwise the first failure, or
    /// [`s3t_train::TrainError::Interrupted`] if the observer breaks. Finished stages are kept in either case.
    pub fn train(&mut self, observer: &dyn Observer) -> Result<BuildReport, EngineError> {
        self.check_environment()?;
        let missing = self.missing();
        let planned = self.store.plan().stages().len();
        let report = BuildReport { planned, reused: planned - missing.len(), trained: missing.len() };
        observer.started(missing.len(), self.steps(&missing));
        let jobs = self.pipeline.resources.job_count();
        let result = jobs::build(&self.store, &*self.builder, &InStore(&self.store), &missing, jobs, observer);
        self.availability = availability(&self.store);
        self.forget_members();
        result.map(|()| report)
    }

    /// The stages of the plan that are not on disk.
    pub fn missing(&self) -> BTreeSet<StageKey> {
        self.store.plan().stages().map(|stage| stage.key).filter(|key| !self.store.has_stage(key)).collect()
    }

    /// What each shard answers with now.
    ///
    /// # Errors
    ///
    /// [`EngineError::NothingServes`] if no shard can answer; a stage that cannot be read.
    pub fn members(&self) -> Result<Arc<Vec<Member>>, EngineError> {
        let mut cached = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(members) = &*cached {
            return Ok(Arc::clone(members));
        }
        let mut members = Vec::new();
        for shard in self.store.plan().shards() {
            members.extend(self.member(shard.shard)?);
        }
        if members.is_empty() {
            return Err(EngineError::NothingServes);
        }
        let members = Arc::new(members);
        *cached = Some(Arc::clone(&members));
        Ok(members)
    }

    /// Answers for records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take, or as [`members`](Self::members).
    pub fn predict(&self, records: &[Record]) -> Result<Vec<Prediction>, EngineError> {
        let inputs = self.prepare(records)?;
        let members = self.members()?;
        let aggregator = &*self.pipeline.serving.aggregator;
        let task = self.pipeline.task;
        self.in_batches(&inputs, |batch| ensemble::predict(&*self.backbone, &members, aggregator, task, batch))
    }

    /// Prepares records for the model.
    pub(crate) fn prepare<'a>(&self, records: &'a [Record]) -> Result<Vec<Input<'a>>, EngineError> {
        Ok(records.iter().map(|record| self.backbone.prepare(record)).collect::<Result<_, _>>()?)
    }

    /// Answers for inputs batch by batch, side by side, in the order of the inputs.
    pub(crate) fn in_batches<T: Send>(
        &self,
        inputs: &[Input<'_>],
        answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>, EngineError> {
        in_batches(self.pipeline.resources.job_count(), inputs, answer)
    }

    /// Deletes records and subjects: at once in memory, then durably, then from disk.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown or already deleted record or subject: nothing is deleted then. If the disk
    /// fails, the stages stay switched off here, and the deletion is finished when the store is opened again if it was
    /// accepted.
    pub fn delete(&mut self, records: &[RecordId], subjects: &[SubjectId]) -> Result<Deletion, EngineError> {
        let start = std::time::Instant::now();
        let named = self.store.resolve(records, subjects)?;
        let addresses: BTreeSet<SliceAddress> =
            named.iter().filter_map(|record| self.store.index().address(record.as_str())).collect();
        let cuts: Vec<Cut> = addresses.iter().map(|address| self.availability.hit(*address)).collect();
        self.forget_members();
        let effective_seconds = start.elapsed().as_secs_f64();
        self.store.accept(&named, subjects)?;
        let durable_seconds = start.elapsed().as_secs_f64();
        let Erasure { slices, stages, records: digests } = self.store.erase_pending()?;
        digests.iter().for_each(|digest| self.builder.forget(digest));
        // What the disk says is what counts from here on; it agrees with what was cut in memory.
        self.availability = availability(&self.store);
        Ok(Deletion {
            records: named,
            cuts,
            erased_stages: stages,
            rewritten_slices: slices,
            epoch: self.store.manifest().epoch,
            effective_seconds,
            durable_seconds,
            erased_seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// The system as it is.
    pub fn status(&self) -> Status {
        let manifest = self.store.manifest();
        let built = self.store.plan().stages().filter(|stage| self.store.has_stage(&stage.key)).count();
        let sizes = self.slice_sizes();
        let shard = |index: usize| {
            let shard = ShardId(index as u32);
            ShardStatus {
                shard,
                records: sizes[index].iter().sum::<u64>() as usize,
                serving: self.availability.serving(shard),
                depths: self.availability.depths(shard).to_vec(),
                adversarial_budget: self.availability.adversarial_budget(shard),
            }
        };
        Status {
            store: self.store.path().into(),
            records: self.store.index().len(),
            subjects: self.store.index().subjects().len(),
            epoch: manifest.epoch,
            deleted: manifest.deleted_records.len(),
            planned_stages: self.store.plan().stages().len(),
            built_stages: built,
            shards: (0..self.availability.shards()).map(shard).collect(),
            same_environment: self.environment == manifest.settings.recipe.environment,
        }
    }

    /// The number of records in each slice, `[shard][slice]`.
    pub fn slice_sizes(&self) -> Vec<Vec<u64>> {
        let shape = self.store.manifest().settings.shape;
        let mut sizes = vec![vec![0; shape.slices as usize]; shape.shards as usize];
        for address in self.store.index().addresses() {
            sizes[address.shard.index()][address.slice.index()] += 1;
        }
        sizes
    }

    pub(crate) fn check_environment(&self) -> Result<(), EngineError> {
        let stored = &self.store.manifest().settings.recipe.environment;
        if self.environment == *stored {
            return Ok(());
        }
        Err(EngineError::Environment { stored: Box::new(stored.clone()), here: Box::new(self.environment.clone()) })
    }

    /// The optimiser steps that building these stages takes.
    pub(crate) fn steps(&self, stages: &BTreeSet<StageKey>) -> usize {
        let sizes = self.slice_sizes();
        let records = |stage: &PlannedStage| -> u64 {
            stage.slices.iter().map(|slice| sizes[stage.shard.index()][slice.index()]).sum()
        };
        let planned = stages.iter().filter_map(|key| self.store.plan().stage(key));
        planned.map(|stage| self.pipeline.training.steps(records(stage) as usize)).sum()
    }

    /// The shards that answer with stages of the store, with these stages, first to last.
    pub fn serving_chains(&self) -> Vec<(ShardId, Serving, Vec<StageKey>)> {
        let of_shard = |shard: &s3t_core::ShardPlan| {
            self.serving_chain(shard.shard).map(|(serving, keys)| (shard.shard, serving, keys))
        };
        self.store.plan().shards().iter().filter_map(of_shard).collect()
    }

    /// The stages, first to last, that a shard answers with.
    pub(crate) fn serving_chain(&self, shard: ShardId) -> Option<(Serving, Vec<StageKey>)> {
        let serving = self.availability.serving(shard)?;
        let planned = &self.store.plan().shards()[shard.index()].sequences[serving.sequence];
        Some((serving, planned.keys[..serving.depth].to_vec()))
    }

    fn member(&self, shard: ShardId) -> Result<Option<Member>, EngineError> {
        let Some((serving, keys)) = self.serving_chain(shard) else {
            let base = match self.pipeline.serving.dead_shard {
                DeadShard::LeaveOut => None,
                DeadShard::Base => StageModel::base(&*self.backbone, &self.device, self.pipeline.task),
            };
            return Ok(base.map(|model| Member { shard, serving: None, key: None, model }));
        };
        let mut stages = Vec::with_capacity(keys.len());
        let mut lineage = None;
        for key in &keys {
            let (of_stage, tensors) = self.store.stage(key)?;
            lineage = Some(of_stage);
            stages.push(tensors);
        }
        let Some(lineage) = lineage else { return Ok(None) };
        let stages: Vec<&NamedTensors> = stages.iter().collect();
        let model = StageModel::new(&*self.backbone, &self.device, &lineage, &stages)?;
        Ok(Some(Member { shard, serving: Some(serving), key: keys.last().copied(), model }))
    }

    fn forget_members(&self) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a pipeline would train, found without a store and without training.
#[derive(Debug)]
pub struct Preview {
    /// The stages.
    pub plan: Plan,
    /// The number of records in each slice, `[shard][slice]`. A store that draws its secret
    /// has other sizes, by a few percent.
    pub slice_sizes: Vec<Vec<u64>>,
    /// The probability that a request hits each slice, `[shard][slice]`; one entry stands for all shards.
    pub rates: Vec<Vec<f64>>,
    /// What of the model and the PEFT method decides about costs.
    pub model: ModelShape,
}

impl Preview {
    /// Plans a pipeline: reads its model and data, writes nothing.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model or the data.
    pub fn new(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let backbone = load(pipeline, &pipeline.device.open()?)?;
        let secret = pipeline.secret.secret(pipeline.seed).unwrap_or_else(|| StoreSecret::from_bytes([0; 32]));
        let settings = settings(pipeline, &*backbone, choose_sequences(pipeline, &*backbone, &secret)?)?;
        let records = pipeline.read_train_data()?;
        check_records(pipeline, &*backbone, &records)?;
        if let Some(source) = &pipeline.test_data {
            check_records(pipeline, &*backbone, &source.read(&pipeline.base_dir, &pipeline.targets())?)?;
        }
        check_named(pipeline, &records)?;
        let mut slice_sizes = vec![vec![0; pipeline.shape.slices as usize]; pipeline.shape.shards as usize];
        for place in place_records(&records, &*pipeline.partitioner, pipeline.shape, &secret)? {
            slice_sizes[place.shard.index()][place.slice.index()] += 1;
        }
        let digest = |address: SliceAddress| {
            let size = slice_sizes[address.shard.index()][address.slice.index()];
            let mut name = DigestBuilder::new("preview");
            (size > 0).then(|| name.bytes(address.to_string().as_bytes()).finish())
        };
        let of_shard =
            |shard| (0..pipeline.shape.slices).map(|slice| digest(SliceAddress::new(shard, slice))).collect();
        let digests = (0..pipeline.shape.shards).map(of_shard).collect();
        let plan = Plan::new(settings.recipe, settings.groups, &settings.sequences, digests)?;
        let rates = rates(pipeline, &secret)?;
        Ok(Self { plan, slice_sizes, rates, model: model_shape(pipeline, &*backbone) })
    }
}

/// Stages that come from the store and go there.
struct InStore<'a>(&'a Store);

impl Stages for InStore<'_> {
    fn existing(&self, key: &StageKey) -> Result<NamedTensors, EngineError> {
        Ok(self.0.stage(key)?.1)
    }

    fn built(&self, job: &StageJob, tensors: &NamedTensors) -> Result<(), EngineError> {
        Ok(self.0.write_stage(&job.lineage, tensors)?)
    }
}

fn model_shape(pipeline: &Pipeline, backbone: &dyn Backbone) -> ModelShape {
    let block = backbone.block_shape();
    let head = backbone.head().parameters(pipeline.task.outputs(), backbone.hidden());
    let sum = |numbers: &mut dyn Iterator<Item = usize>| numbers.sum::<usize>() as u64;
    ModelShape {
        blocks: backbone.blocks(),
        tokens: backbone.max_tokens() as u64,
        block_weights: sum(&mut block.linears.values().map(|(inputs, outputs)| inputs * outputs)),
        attention_width: (block.heads * block.head_dim) as u64,
        peft_parameters: sum(&mut pipeline.peft.parameters(&block).iter().map(s3t_peft::ParameterSpec::len)),
        head_parameters: sum(&mut head.iter().map(s3t_peft::ParameterSpec::len)),
    }
}

/// Loads the pipeline's base model.
fn load(pipeline: &Pipeline, device: &Device) -> Result<Arc<dyn Backbone>, EngineError> {
    let options = LoadOptions { max_tokens: pipeline.max_tokens };
    s3t_backends::load(&pipeline.model, options, device).map_err(|error| match error {
        BackendError::MaxTokens { .. } => pipeline.refuse("model.max_tokens", error.to_string()),
        other => other.into(),
    })
}

/// Checks that the model takes the records, and that the task takes their targets.
fn check_records<'a>(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    records: impl IntoIterator<Item = &'a Record>,
) -> Result<(), EngineError> {
    let task = pipeline.task;
    for record in records {
        if !task.takes(&record.target) {
            let (record, task, found) = (record.id.clone(), task.name(), record.target.describe());
            return Err(EngineError::WrongTarget { record, task, found });
        }
        backbone.prepare(record)?;
    }
    Ok(())
}

/// Checks that what `s3t run` is to delete is among the training records.
fn check_named(pipeline: &Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let subjects: BTreeSet<&str> =
        records.iter().filter_map(|record| Some(record.subject.as_ref()?.as_str())).collect();
    let named = [
        ("delete_records", "record", &pipeline.run.delete_records, ids),
        ("delete_subjects", "subject", &pipeline.run.delete_subjects, subjects),
    ];
    for (key, what, names, known) in named {
        if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
            let problem = format!("`run.{key}` names the {what} `{name}`, which is not in the training data");
            return Err(pipeline.refuse(&format!("run.{key}"), problem));
        }
    }
    Ok(())
}

fn rates(pipeline: &Pipeline, secret: &StoreSecret) -> Result<Vec<Vec<f64>>, EngineError> {
    let rates = pipeline.prior.rates(&*pipeline.partitioner, pipeline.shape, secret);
    rates.map_err(|error| pipeline.refuse_core("sequences", &error))
}

fn groups(pipeline: &Pipeline, backbone: &dyn Backbone) -> Result<LayerGroups, EngineError> {
    LayerGroups::from_top(backbone.blocks(), pipeline.shape.slices, pipeline.blocks_per_slice)
        .map_err(|error| pipeline.refuse_core(groups_section(&error), &error))
}

/// The sequences of each shard.
fn choose_sequences(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    secret: &StoreSecret,
) -> Result<Vec<Vec<Sequence>>, EngineError> {
    // More slices than blocks are refused before a strategy works on them.
    groups(pipeline, backbone)?;
    let of_shard = |shard: u32, prior: &Prior| {
        let request = SequenceRequest {
            shard: ShardId(shard),
            slices: pipeline.shape.slices,
            budget: pipeline.budget,
            prior,
            seed: pipeline.seed,
        };
        plan_sequences(&*pipeline.strategy, &request).map_err(|error| pipeline.refuse_core("sequences", &error))
    };
    match &pipeline.prior {
        PriorSource::Given(prior) => (0..pipeline.shape.shards).map(|shard| of_shard(shard, prior)).collect(),
        PriorSource::Subjects(_) => {
            let rates = rates(pipeline, secret)?;
            (0..).zip(&rates).map(|(shard, rates)| of_shard(shard, &Prior::of_rates(rates))).collect()
        }
    }
}

/// The settings of the store that a pipeline asks for, checked against the model.
fn settings(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    sequences: Vec<Vec<Sequence>>,
) -> Result<StoreSettings, EngineError> {
    let groups = groups(pipeline, backbone)?;
    pipeline.peft.check(&backbone.block_shape()).map_err(|error| match error {
        PeftError::InvalidField { field, problem } => {
            pipeline.refuse(&format!("peft.{field}"), format!("`peft.{field}` {problem}"))
        }
        other => pipeline.refuse("peft", other.to_string()),
    })?;
    let json = |value: Result<serde_json::Value, serde_json::Error>, section: &str| {
        value.map_err(|error| pipeline.refuse(section, error.to_string()))
    };
    if pipeline.task == Task::CausalLm && !backbone.has_language_head() {
        let problem =
            "`data.task` is `causal-lm`, but the model has no language head; use a model for causal language modelling";
        return Err(pipeline.refuse("data.task", problem));
    }
    if !matches!(pipeline.task, Task::Classification { .. }) && !pipeline.serving.aggregator.keeps_scale() {
        let problem =
            format!("`serving.aggregator` is for classes; for task `{}` use `mean-logits`", pipeline.task.name());
        return Err(pipeline.refuse("serving.aggregator", problem));
    }
    if matches!(pipeline.serving.dead_shard, DeadShard::Base) {
        let task = pipeline.task;
        if StageModel::base(backbone, &pipeline.device.open()?, task).is_none() {
            let problem = format!(
                "`serving.dead_shard` is `base`, but the model has no head of its own with {} outputs; use `leave-out`",
                task.outputs()
            );
            return Err(pipeline.refuse("serving.dead_shard", problem));
        }
    }
    Ok(StoreSettings {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: json(serde_json::to_value(&*pipeline.peft), "peft")?,
            training: json(serde_json::to_value(&pipeline.training), "training")?,
            task: pipeline.task,
            environment: pipeline.device.environment(),
        },
        groups,
        shape: pipeline.shape,
        partitioner: json(serde_json::to_value(&*pipeline.partitioner), "partition")?,
        sequences,
        labels: pipeline.labels.names().to_vec(),
    })
}

fn groups_section(error: &s3t_core::CoreError) -> &'static str {
    match error {
        s3t_core::CoreError::InvalidField { field, .. } if field == "blocks_per_slice" => "sequences",
        _ => "partition",
    }
}

/// Compares a store's settings with those that the pipeline asks for. The numeric environment may differ: serving and
/// deleting need no arithmetic of their own.
fn check_settings(store: &Store, mut asked: StoreSettings) -> Result<(), EngineError> {
    let stored = &store.manifest().settings;
    asked.recipe.environment.clone_from(&stored.recipe.environment);
    match stored.difference(&asked) {
        Some((key, stored, asked)) => {
            let key = key.strip_prefix("recipe.").unwrap_or(&key).to_owned();
            let key = match &*key {
                "base" => "the base model (weights, tokenizer, `model.max_tokens`)".to_owned(),
                other => format!("`{other}`"),
            };
            Err(EngineError::StoreMismatch { store: store.path().into(), key, stored, asked })
        }
        None => Ok(()),
    }
}

/// The usable depth of every sequence: its longest prefix whose stages are on disk.
fn availability(store: &Store) -> Availability {
    let shards = store.plan().shards();
    Availability::of_plan(store.plan(), |shard, sequence| {
        shards[shard.index()].sequences[sequence].keys.iter().take_while(|key| store.has_stage(key)).count()
    })
}
