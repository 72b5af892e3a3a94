//! The training loop.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::tensor::{Device, Gradients, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_backends::DeviceSpec;
use s3t_core::tensors::{BlockTensors, HostTensor, NamedTensors, StageTensors};
use s3t_core::{CoreError, Digest, Lineage, NumericEnvironment, StageKey};
use s3t_executor::{ExecutorError, StageJob, StageProgress, Step, TrainedStage, Trainer};
use s3t_models::{Backbone, Input};
use s3t_peft::tensors::{on_device, to_device, to_host};
use s3t_peft::{Init, LinearSite, PeftMethod};

use crate::activations::Prepared;
use crate::batches::batches;
use crate::loss::loss;
use crate::model::{StageModel, check_isolation, read_method};
use crate::{ActivationCache, TrainError, TrainingConfig, on_threads};

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
}

impl StageTrainer {
    /// A trainer on the device of the base model that remembers at most `memory_limit` bytes of activations.
    ///
    /// # Errors
    ///
    /// [`TrainError::Backend`] if the device was not compiled in.
    pub fn new(backbone: Arc<Backbone>, device: DeviceSpec, memory_limit: usize) -> Result<Self, TrainError> {
        let activations = ActivationCache::new(memory_limit);
        Ok(Self { backbone, device: device.open()?, environment: device.environment(), activations })
    }

    /// The same trainer with a file of at most `limit` bytes in `folder` for activations that do not fit into memory.
    #[must_use]
    pub fn with_spill(self, folder: &Path, limit: u64) -> Self {
        Self { activations: self.activations.with_spill(folder, limit), ..self }
    }

    /// The remembered activations.
    pub fn activations(&self) -> &ActivationCache {
        &self.activations
    }

    /// The stage's parameters as they start: its group's adapters block by block, then the head.
    fn initial(&self, lineage: &Lineage, method: &dyn PeftMethod, rng: &mut ChaCha8Rng) -> StageTensors {
        let specs = method.parameters(&self.backbone.block_shape());
        let head = self.backbone.head().parameters(lineage.recipe.task.outputs(), self.backbone.hidden());
        let mut tensors = StageTensors::default();
        for block in lineage.trained().range() {
            for spec in &specs {
                let values = match spec.init {
                    Init::WeightNorm(site) => self.weight_norms(block, site),
                    init => draw(init, spec.len(), rng),
                };
                tensors.insert(block, &spec.name, HostTensor { shape: spec.shape.clone(), values });
            }
        }
        for spec in head {
            let values = draw(spec.init, spec.len(), rng);
            tensors.insert_head(spec.name, HostTensor { shape: spec.shape, values });
        }
        tensors
    }

    /// The length of each output's weights in a linear layer of the base model.
    fn weight_norms(&self, block: usize, site: LinearSite) -> Vec<f32> {
        let layer = self.backbone.linear(block, site);
        layer.map(|layer| to_host(layer.weight.clone().powi_scalar(2).sum_dim(0).sqrt())).unwrap_or_default()
    }

    /// The stage of a job.
    fn stage(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, TrainError> {
        let lineage = &job.lineage;
        let key = lineage.key();
        if job.records.is_empty() {
            return Err(TrainError::NoRecords(key));
        }
        let config = read_config(lineage)?;
        let method = read_method(lineage)?;
        let mut rng = ChaCha8Rng::from_seed(key.seed());
        let initial = on_threads(progress.threads(), || self.initial(lineage, &*method, &mut rng))?;
        let mut parameters = Parameters::new(&initial, &job.ancestors, &config, &self.device);

        let steps = config.steps(job.records.len());
        let _span = tracing::debug_span!("stage", stage = %key, records = job.records.len(), steps).entered();
        let prepared = job
            .records
            .iter()
            .map(|record| Ok((record.digest, self.backbone.prepare(&record.record)?)))
            .collect::<Result<Vec<Prepared<'_>>, TrainError>>()?;
        let lengths: Vec<usize> = prepared.iter().map(|(_, input)| input.tokens).collect();
        let place = (lineage.trained().start, config.activations);
        // A few batches at a time, so that progress is seen and stopping waits for little.
        let ahead = (PREPARED_TOGETHER / config.batch_size).max(1);
        let (mut done, mut last_loss) = (0, f32::NAN);
        for _ in 0..config.epochs {
            let batches = batches(&lengths, config.batch_size, &mut rng);
            for (index, batch) in batches.iter().enumerate() {
                let records: Vec<&Prepared<'_>> = batch.iter().map(|index| &prepared[*index]).collect();
                let inputs: Vec<&Input<'_>> = records.iter().map(|(_, input)| input).collect();
                let step = Some(rng.random());
                // Threads for one step: there may be more for the next.
                let loss = on_threads(progress.threads(), || -> Result<f32, TrainError> {
                    if index.is_multiple_of(ahead) {
                        let next = batches[index..].iter().take(ahead).flatten().map(|record| &prepared[*record]);
                        self.activations.prepare(&self.backbone, &next.collect::<Vec<_>>(), place);
                    }
                    let tensors = parameters.tracked()?;
                    let model = StageModel::bind(&self.backbone, &*method, lineage, &tensors, step)?;
                    let hidden = self.activations.inputs(&self.backbone, &self.device, &records, place);
                    let loss = loss(lineage.recipe.task, &model, &self.backbone, hidden, &inputs, &self.device);
                    parameters.update(&loss, &tensors, config.learning_rate_at(done, steps));
                    Ok(to_host(loss)[0])
                })??;
                done += 1;
                last_loss = loss;
                tracing::trace!(done, "step");
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { key, step: done, loss });
                }
                if let ControlFlow::Break(()) = progress.step(Step { done, steps, records: records.len(), loss }) {
                    return Err(TrainError::Interrupted(key));
                }
            }
        }
        let trained = parameters.to_host();
        check_trained(key, &initial, &trained)?;
        check_isolation(lineage, &trained)?;
        Ok(TrainedStage { key, environment: self.environment.clone(), tensors: trained, steps, loss: last_loss })
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

/// A parameter that is trained, on the device.
struct Parameter {
    shape: Vec<usize>,
    value: Tensor<1>,
    state: Option<<AdamW as Optimizer>::State<1>>,
}

/// The parameters of a stage in training.
struct Parameters {
    optimizer: AdamW,
    trained: StageTensors<Parameter>,
    /// The frozen adapters of the stages before.
    ancestors: BlockTensors<Tensor<1>>,
}

impl Parameters {
    fn new(initial: &StageTensors, ancestors: &BlockTensors, config: &TrainingConfig, device: &Device) -> Self {
        let optimizer = AdamWConfig::new()
            .with_beta_1(config.beta1 as f32)
            .with_beta_2(config.beta2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(config.weight_decay as f32)
            .build();
        let parameter = |tensor: &HostTensor| Parameter {
            shape: tensor.shape.clone(),
            value: to_device(tensor, device),
            state: None,
        };
        let frozen = |(block, tensors): (&usize, &NamedTensors)| (*block, on_device(tensors, device));
        Self { optimizer, trained: initial.map(parameter), ancestors: ancestors.iter().map(frozen).collect() }
    }

    /// The trained parameters, tracked for gradients, and the frozen ones.
    fn tracked(&self) -> Result<StageTensors<Tensor<1>>, CoreError> {
        let frozen = StageTensors { blocks: self.ancestors.clone(), head: None };
        let own = self.trained.map(|parameter| parameter.value.clone().autodiff().require_grad());
        StageTensors::of_chain([frozen, own])
    }

    fn update(&mut self, loss: &Tensor<1>, tracked: &StageTensors<Tensor<1>>, learning_rate: f64) {
        let mut gradients = loss.backward();
        for (block, parameters) in &mut self.trained.blocks {
            let tracked = tracked.blocks.get(block);
            update(&self.optimizer, parameters, tracked, &mut gradients, learning_rate);
        }
        if let Some(parameters) = &mut self.trained.head {
            update(&self.optimizer, parameters, tracked.head.as_ref(), &mut gradients, learning_rate);
        }
    }

    fn to_host(&self) -> StageTensors {
        let host = |parameter: &Parameter| HostTensor {
            shape: parameter.shape.clone(),
            values: to_host(parameter.value.clone()),
        };
        self.trained.map(host)
    }
}

/// Takes a step with each parameter that has a gradient.
fn update(
    optimizer: &AdamW,
    parameters: &mut NamedTensors<Parameter>,
    tracked: Option<&NamedTensors<Tensor<1>>>,
    gradients: &mut Gradients,
    learning_rate: f64,
) {
    for (name, parameter) in parameters {
        let tensor = tracked.and_then(|tracked| tracked.get(name));
        let Some(gradient) = tensor.and_then(|tensor| tensor.grad_remove(gradients)) else { continue };
        let (value, state) = optimizer.step(learning_rate, parameter.value.clone(), gradient, parameter.state.take());
        parameter.value = value;
        parameter.state = state;
    }
}

fn read_config(lineage: &Lineage) -> Result<TrainingConfig, TrainError> {
    let config: TrainingConfig = serde_json::from_value(lineage.recipe.training.clone())
        .map_err(|error| TrainError::Lineage { key: lineage.key(), problem: error.to_string() })?;
    config.check()?;
    Ok(config)
}

/// Values that start as `init` says. Values that start from the base model's weights are set elsewhere, and are zero here.
fn draw(init: Init, length: usize, rng: &mut impl Rng) -> Vec<f32> {
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
