//! The training loop.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_backends::DeviceSpec;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{Digest, Lineage, NumericEnvironment, StageKey, Task};
use s3t_executor::{ExecutorError, StageJob, StageProgress, Step, TrainedStage, Trainer};
use s3t_models::{Backbone, Input};
use s3t_peft::tensors::to_host;
use s3t_peft::{Init, LinearSite, PeftMethod};

use crate::activations::Prepared;
use crate::batches::batches;
use crate::centroid::centroid;
use crate::checkpointing::{self, Batch, Models};
use crate::loss::{loss, terms};
use crate::model::{StageModel, check_isolation, read_method};
use crate::parameters::{Parameters, add};
use crate::{ActivationCache, Precision, TrainError, TrainingConfig, on_threads};

/// Records whose frozen inputs are computed before they are trained on: enough to fill chunks of one length.
const PREPARED_TOGETHER: usize = 512;

/// Trains stages in this process.
///
/// # Proof note
///
/// *Before*: a job whose records are those that its lineage names. *After*: the tensors are a function of the job, bit
/// for bit, whatever else runs. *Why*: parameters, batch order and every other random number come from one generator that
/// is seeded from the lineage's key; tensor operations run in program order, and the bits of no operation depend on its threads; the frozen
/// inputs are functions of base model and record (see [`ActivationCache`]); the optimiser's state starts fresh; nothing else is read.
pub struct StageTrainer {
    backbone: Arc<Backbone>,
    device: Device,
    environment: NumericEnvironment,
    activations: ActivationCache,
    is_checkpointing: bool,
}

impl StageTrainer {
    /// A trainer on the device of the base model that remembers at most `memory_limit` bytes of activations.
    ///
    /// # Errors
    ///
    /// [`TrainError::Backend`] if the device was not compiled in.
    pub fn new(backbone: Arc<Backbone>, device: DeviceSpec, memory_limit: usize) -> Result<Self, TrainError> {
        let activations = ActivationCache::new(memory_limit);
        let (device, environment) = (device.open()?, device.environment());
        Ok(Self { backbone, device, environment, activations, is_checkpointing: false })
    }

    /// The same trainer with a file of at most `limit` bytes in `folder` for activations that do not fit into memory.
    #[must_use]
    pub fn with_spill(self, folder: &Path, limit: u64) -> Self {
        Self { activations: self.activations.with_spill(folder, limit), ..self }
    }

    /// The same trainer; with `is_checkpointing` it keeps the graph of one block at a time in memory, and computes the outputs of all blocks but
    /// the last twice: less memory for up to a third more time. No bit changes, whatever the adapter, if it does at most 32 operations one
    /// after the other on its parameters alone.
    #[must_use]
    pub fn with_checkpointing(self, is_checkpointing: bool) -> Self {
        Self { is_checkpointing, ..self }
    }

    /// The remembered activations.
    pub fn activations(&self) -> &ActivationCache {
        &self.activations
    }

    /// The stage's parameters as they start: its group's adapters block by block, then the head.
    fn initial(
        &self,
        lineage: &Lineage,
        method: &dyn PeftMethod,
        rng: &mut ChaCha8Rng,
    ) -> Result<StageTensors, TrainError> {
        let specs = method.parameters(&self.backbone.block_shape());
        let head = self.backbone.head().parameters(lineage.recipe.task.outputs(), self.backbone.hidden());
        let mut tensors = StageTensors::default();
        for block in lineage.trained().range() {
            for spec in &specs {
                let values = match spec.init {
                    Init::WeightNorm(site) => self.weight_norms(block, site)?,
                    init => initial_values(init, spec.len(), rng),
                };
                tensors.insert(block, &spec.name, HostTensor { shape: spec.shape.clone(), values });
            }
        }
        for spec in head {
            let values = initial_values(spec.init, spec.len(), rng);
            tensors.insert_head(spec.name, HostTensor { shape: spec.shape, values });
        }
        Ok(tensors)
    }

    /// The length of each output's weights in a linear layer of the base model.
    fn weight_norms(&self, block: usize, site: LinearSite) -> Result<Vec<f32>, TrainError> {
        let layer = self.backbone.linear(block, site);
        let norms: Vec<f32> = layer.map(|layer| to_host(layer.weight.squared_lengths().sqrt())).unwrap_or_default();
        match norms.iter().position(|norm| *norm == 0.0) {
            Some(output) => Err(TrainError::NoLength { block, site: site.name(), output }),
            None => Ok(norms),
        }
    }

    /// The stage of a job.
    fn stage(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, TrainError> {
        let lineage = &job.lineage;
        let key = lineage.key();
        if job.records.is_empty() {
            return Err(TrainError::NoRecords(key));
        }
        let config = read_config(lineage)?;
        if config.precision != self.backbone.precision() {
            return Err(TrainError::OtherPrecision {
                key,
                wanted: config.precision.name(),
                loaded: self.backbone.precision().name(),
            });
        }
        let method = read_method(lineage)?;
        let mut rng = ChaCha8Rng::from_seed(key.seed());
        let initial = on_threads(progress.threads(), || self.initial(lineage, &*method, &mut rng))??;
        let mut parameters = Parameters::new(&initial, &job.ancestors, &config, &self.device);

        let prepared = job
            .records
            .iter()
            .map(|record| Ok((record.digest, self.backbone.prepare(&record.record)?)))
            .collect::<Result<Vec<Prepared<'_>>, TrainError>>()?;
        let lengths: Vec<usize> = prepared.iter().map(|(_, input)| input.tokens).collect();
        let mut passes = Passes::new(&config, &lengths, &mut rng);
        let steps = passes.steps;
        let _span = tracing::debug_span!("stage", stage = %key, records = job.records.len(), steps).entered();
        let stage =
            Stage { trainer: self, lineage, method: &*method, place: (lineage.trained().start, config.activations) };
        let (mut done, mut last_loss) = (0, f32::NAN);
        while let Some(batches) = passes.next(&mut rng) {
            let batches: Vec<Vec<&Prepared<'_>>> =
                batches.iter().map(|batch| batch.iter().map(|record| &prepared[*record]).collect()).collect();
            let mut ready = 0;
            for (index, group) in batches.chunks(config.accumulate).enumerate() {
                let first = index * config.accumulate;
                let seeds: Vec<u64> = group.iter().map(|_| rng.random()).collect();
                // A few batches at a time, so that progress is seen and stopping waits for little.
                let next = if first >= ready { together(&batches[first..], group.len()) } else { 0 };
                ready = ready.max(first + next);
                // Threads for one step: there may be more for the next.
                let loss = on_threads(progress.threads(), || {
                    stage.remember(&batches[first..first + next]);
                    stage.step(&mut parameters, group, &seeds, config.learning_rate_at(done, steps))
                })??;
                done += 1;
                last_loss = loss;
                tracing::trace!(done, "step");
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { key, step: done, loss });
                }
                if let ControlFlow::Break(()) = progress.step(Step { done, steps, records: job.records.len(), loss }) {
                    return Err(TrainError::Interrupted(key));
                }
            }
        }
        let mut trained = parameters.to_host();
        if config.centroid {
            let inputs: Vec<&Input<'_>> = prepared.iter().map(|(_, input)| input).collect();
            let found = centroid(&self.backbone, &inputs, progress)?;
            trained.centroid = Some(found.ok_or(TrainError::Interrupted(key))?);
        }
        check_trained(key, &initial, &trained)?;
        check_isolation(lineage, &trained)?;
        Ok(TrainedStage { key, environment: self.environment.clone(), tensors: trained, steps, loss: last_loss })
    }
}

/// The number of batches, from the first on, whose frozen inputs are computed together: as many as there are records for, and all of a
/// step's.
fn together(batches: &[Vec<&Prepared<'_>>], of_step: usize) -> usize {
    let mut records = 0;
    let fits = |batch: &&Vec<&Prepared<'_>>| {
        records += batch.len();
        records <= PREPARED_TOGETHER
    };
    batches.iter().take_while(fits).count().max(of_step)
}

/// The passes over the records of a stage, each as batches.
struct Passes<'a> {
    config: &'a TrainingConfig,
    lengths: &'a [usize],
    /// The optimiser's steps of all passes.
    steps: usize,
    /// Batches by tokens are drawn for all passes at first: their number is not known otherwise.
    drawn: Option<std::vec::IntoIter<Vec<Vec<usize>>>>,
    left: usize,
}

impl<'a> Passes<'a> {
    fn new(config: &'a TrainingConfig, lengths: &'a [usize], rng: &mut ChaCha8Rng) -> Self {
        let drawn = config.batch_tokens.map(|_| {
            let pass = |_| batches(lengths, config.batch_limit(), rng);
            (0..config.epochs).map(pass).collect::<Vec<_>>()
        });
        let steps = match &drawn {
            Some(passes) => passes.iter().map(|batches| batches.len().div_ceil(config.accumulate)).sum(),
            None => config.steps(lengths.len()),
        };
        Self { config, lengths, steps, drawn: drawn.map(Vec::into_iter), left: config.epochs }
    }

    /// The batches of the next pass.
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Option<Vec<Vec<usize>>> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.drawn {
            Some(passes) => passes.next(),
            None => Some(batches(self.lengths, self.config.batch_limit(), rng)),
        }
    }
}

/// The parts of a stage that its steps have in common.
struct Stage<'a> {
    trainer: &'a StageTrainer,
    lineage: &'a Lineage,
    method: &'a dyn PeftMethod,
    /// The block whose inputs are remembered, and their precision.
    place: (usize, Precision),
}

impl Stage<'_> {
    /// Computes the frozen inputs of these batches that are not remembered yet.
    fn remember(&self, batches: &[Vec<&Prepared<'_>>]) {
        if !batches.is_empty() {
            self.trainer.activations.prepare(&self.trainer.backbone, &batches.concat(), self.place);
        }
    }

    /// The mean loss of a batch times `share`, and its gradients.
    fn gradients(
        &self,
        parameters: &Parameters,
        batch: &[&Prepared<'_>],
        seed: u64,
        share: Option<f32>,
    ) -> Result<(Tensor<1>, StageTensors<Tensor<1>>), TrainError> {
        let (backbone, device) = (&self.trainer.backbone, &self.trainer.device);
        let inputs: Vec<&Input<'_>> = batch.iter().map(|(_, input)| input).collect();
        let bind = |tensors| StageModel::bind(backbone, self.method, self.lineage, tensors, Some(seed));
        let tensors = parameters.tracked()?;
        let tracked = bind(&tensors)?;
        let hidden = self.trainer.activations.inputs(backbone, device, batch, self.place);
        if self.trainer.is_checkpointing {
            let models = Models { tracked, plain: bind(&parameters.plain()?)? };
            let batch = Batch { hidden, inputs: &inputs, share };
            return Ok(checkpointing::gradients(self.task(), models, backbone, batch, (parameters, &tensors)));
        }
        let mut loss = loss(self.task(), &tracked, backbone, hidden, &inputs);
        if let Some(share) = share {
            loss = loss.mul_scalar(share);
        }
        let gradients = parameters.gradients(&loss, &tensors);
        Ok((loss, gradients))
    }

    fn task(&self) -> Task {
        self.lineage.recipe.task
    }

    /// Takes one step of the optimiser with the batches of a group, and gives the mean loss over all that is learnt of them. The
    /// gradients of the batches are added in their order, each weighted with the batch's share of what is learnt.
    fn step(
        &self,
        parameters: &mut Parameters,
        group: &[Vec<&Prepared<'_>>],
        seeds: &[u64],
        learning_rate: f64,
    ) -> Result<f32, TrainError> {
        if let [batch] = group {
            let (loss, gradients) = self.gradients(parameters, batch, seeds[0], None)?;
            parameters.update(gradients, learning_rate);
            return Ok(to_host(loss)[0]);
        }
        let counts: Vec<usize> =
            group.iter().map(|batch| terms(self.task(), batch.iter().map(|(_, input)| input))).collect();
        let all = counts.iter().sum::<usize>() as f64;
        let (mut sum, mut total) = (StageTensors::default(), 0.0);
        for ((batch, seed), count) in group.iter().zip(seeds).zip(counts) {
            let share = (count as f64 / all) as f32;
            let (loss, gradients) = self.gradients(parameters, batch, *seed, Some(share))?;
            add(&mut sum, gradients);
            total += to_host(loss)[0];
        }
        parameters.update(sum, learning_rate);
        Ok(total)
    }
}

impl Trainer for StageTrainer {
    fn environment(&self) -> NumericEnvironment {
        self.environment.clone()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        self.stage(job, progress).map_err(|error| error.of_stage(job.key()))
    }

    fn forget(&self, records: &[Digest]) {
        records.iter().for_each(|record| self.activations.forget(record));
    }

    fn forget_all(&self) {
        self.activations.forget_all();
    }
}

fn read_config(lineage: &Lineage) -> Result<TrainingConfig, TrainError> {
    let config: TrainingConfig = serde_json::from_value(lineage.recipe.training.clone())
        .map_err(|error| TrainError::Lineage { key: lineage.key(), problem: error.to_string() })?;
    config.check()?;
    Ok(config)
}

/// The values that a parameter of so many starts with. Those that start from the base model's weights are set elsewhere, and are zero here.
pub fn initial_values(init: Init, length: usize, rng: &mut impl Rng) -> Vec<f32> {
    let mut draw = || match init {
        Init::Zeros | Init::WeightNorm(_) => 0.0,
        Init::Ones => 1.0,
        Init::Uniform { bound } => bound * (2.0 * rng.random::<f64>() - 1.0),
        Init::Normal { std } => std * rng.sample::<f64, _>(StandardNormal),
    };
    (0..length).map(|_| draw() as f32).collect()
}

/// After a stage every value is finite, and the head and each block of the group moved.
fn check_trained(key: StageKey, initial: &StageTensors, trained: &StageTensors) -> Result<(), TrainError> {
    let is_finite = |tensor: &HostTensor| tensor.values.iter().all(|value| value.is_finite());
    if let Some((tensor, _)) = trained.named().into_iter().find(|(_, tensor)| !is_finite(tensor)) {
        return Err(TrainError::NotFinite { key, tensor });
    }
    let not_moved = |part: String| Err(TrainError::NotMoved { key, part });
    if let Some((block, _)) = trained.blocks.iter().find(|(block, tensors)| initial.blocks.get(block) == Some(tensors))
    {
        return not_moved(format!("blocks.{block}"));
    }
    if trained.head.is_some() && trained.head == initial.head { not_moved("head".into()) } else { Ok(()) }
}
