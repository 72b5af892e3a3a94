//! The training loop.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::tensor::{Device, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_backends::{Backbone, Input};
use s3t_core::{Digest, Lineage, StageKey};
use s3t_peft::tensors::{on_device, to_host};
use s3t_peft::{HostTensor, Init, LinearSite, NamedTensors, PeftMethod, parameter_name};

use crate::activations::Prepared;
use crate::batches::batches;
use crate::loss::loss;
use crate::model::{StageModel, check_isolation, read_method};
use crate::{ActivationCache, StageBuilder, StageJob, StageProgress, Step, TrainError, TrainingConfig, on_threads};

/// Records whose frozen inputs are computed before they are trained on: enough to fill chunks of one length.
const PREPARED_TOGETHER: usize = 512;

/// Trains stages in this process.
///
/// # Proof note
///
/// *Before*: a job whose records are those that its lineage names. *After*: the tensors are a function of the job, bit
/// for bit, whatever else runs. *Why*: parameters, batch order and every other random number come from one generator that
/// is seeded from the lineage's key; tensor operations run in program order, and none's bits depend on its threads; the frozen
/// inputs are functions of base model and record (see [`ActivationCache`]); the optimiser's state starts fresh; nothing else is read.
pub struct StageTrainer {
    backbone: Arc<dyn Backbone>,
    device: Device,
    activations: ActivationCache,
}

impl StageTrainer {
    /// A trainer that remembers at most `memory_limit` bytes of activations.
    pub fn new(backbone: Arc<dyn Backbone>, device: Device, memory_limit: usize) -> Self {
        Self { backbone, device, activations: ActivationCache::new(memory_limit) }
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
    fn initial(&self, lineage: &Lineage, method: &dyn PeftMethod, rng: &mut ChaCha8Rng) -> NamedTensors {
        let specs = method.parameters(&self.backbone.block_shape());
        let head = self.backbone.head().parameters(lineage.recipe.task.outputs(), self.backbone.hidden());
        let mut tensors = NamedTensors::new();
        for block in lineage.trained().range() {
            for spec in &specs {
                let values = match spec.init {
                    Init::WeightNorm(site) => self.weight_norms(block, site),
                    init => draw(init, spec.len(), rng),
                };
                let tensor = HostTensor { shape: spec.shape.clone(), values };
                tensors.insert(parameter_name(block, &spec.name), tensor);
            }
        }
        for spec in head {
            let values = draw(spec.init, spec.len(), rng);
            tensors.insert(spec.name, HostTensor { shape: spec.shape, values });
        }
        tensors
    }

    /// The length of each output's weights in a linear layer of the base model.
    fn weight_norms(&self, block: usize, site: LinearSite) -> Vec<f32> {
        let layer = self.backbone.linear(block, site);
        layer.map(|layer| to_host(layer.weight.clone().powi_scalar(2).sum_dim(0).sqrt())).unwrap_or_default()
    }
}

impl StageBuilder for StageTrainer {
    fn build(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<NamedTensors, TrainError> {
        let lineage = &job.lineage;
        let key = lineage.key();
        if job.records.is_empty() {
            return Err(TrainError::NoRecords(key));
        }
        let config = read_config(lineage)?;
        let method = read_method(lineage)?;
        let mut rng = ChaCha8Rng::from_seed(key.seed());
        let initial = on_threads(progress.threads(), || self.initial(lineage, &*method, &mut rng))?;
        let mut parameters = Parameters::new(&initial, &config, &self.device);
        let ancestors = on_device(&job.ancestors, &self.device);

        let steps = config.steps(job.records.len());
        let prepared = job
            .records
            .iter()
            .map(|record| Ok((record.digest, self.backbone.prepare(&record.record)?)))
            .collect::<Result<Vec<Prepared<'_>>, TrainError>>()?;
        let lengths: Vec<usize> = prepared.iter().map(|(_, input)| input.tokens).collect();
        let place = (lineage.trained().start, config.activations);
        // A few batches at a time, so that progress is seen and stopping waits for little.
        let ahead = (PREPARED_TOGETHER / config.batch_size).max(1);
        let mut done = 0;
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
                        self.activations.prepare(&*self.backbone, &next.collect::<Vec<_>>(), place);
                    }
                    let tensors = parameters.tracked(&ancestors);
                    let model = StageModel::bind(&*self.backbone, &*method, lineage, &tensors, step)?;
                    let hidden = self.activations.inputs(&*self.backbone, &self.device, &records, place);
                    let loss = loss(lineage.recipe.task, &model, &*self.backbone, hidden, &inputs, &self.device);
                    parameters.update(&loss, &tensors, config.learning_rate_at(done, steps));
                    Ok(to_host(loss)[0])
                })??;
                done += 1;
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { key, step: done, loss });
                }
                if let ControlFlow::Break(()) = progress.step(Step { done, steps, records: records.len(), loss }) {
                    return Err(TrainError::Interrupted(key));
                }
            }
        }
        let trained = parameters.into_host(&initial);
        check_trained(key, &initial, &trained)?;
        check_isolation(lineage, &trained)?;
        Ok(trained)
    }

    fn forget(&self, record: &Digest) {
        self.activations.forget(record);
    }

    fn forget_all(&self) {
        self.activations.forget_all();
    }
}

/// The trained parameters on the device with their optimiser state.
struct Parameters {
    optimizer: AdamW,
    values: BTreeMap<String, (Tensor<1>, Option<<AdamW as Optimizer>::State<1>>)>,
}

impl Parameters {
    fn new(initial: &NamedTensors, config: &TrainingConfig, device: &Device) -> Self {
        let optimizer = AdamWConfig::new()
            .with_beta_1(config.beta1 as f32)
            .with_beta_2(config.beta2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(config.weight_decay as f32)
            .build();
        let values = initial.iter().map(|(name, tensor)| (name.clone(), (tensor.to_device(device), None))).collect();
        Self { optimizer, values }
    }

    /// The parameters tracked for gradients, and the frozen ones of the stages before.
    fn tracked(&self, ancestors: &BTreeMap<String, Tensor<1>>) -> BTreeMap<String, Tensor<1>> {
        let mut tensors = ancestors.clone();
        for (name, (value, _)) in &self.values {
            // The head of an earlier stage, if it came along, is replaced here: a head belongs to its own stage.
            tensors.insert(name.clone(), value.clone().autodiff().require_grad());
        }
        tensors
    }

    fn update(&mut self, loss: &Tensor<1>, tracked: &BTreeMap<String, Tensor<1>>, learning_rate: f64) {
        let mut gradients = loss.backward();
        for (name, (value, state)) in &mut self.values {
            let Some(gradient) = tracked.get(name).and_then(|tensor| tensor.grad_remove(&mut gradients)) else {
                continue;
            };
            let (updated, next) = self.optimizer.step(learning_rate, value.clone(), gradient, state.take());
            *value = updated;
            *state = next;
        }
    }

    fn into_host(self, initial: &NamedTensors) -> NamedTensors {
        let host = |(name, (value, _)): (String, (Tensor<1>, _))| {
            let shape = initial.get(&name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
            let values = to_host(value);
            (name, HostTensor { shape, values })
        };
        self.values.into_iter().map(host).collect()
    }
}

fn read_config(lineage: &Lineage) -> Result<TrainingConfig, TrainError> {
    let config: TrainingConfig = serde_json::from_value(lineage.recipe.training.clone())
        .map_err(|error| TrainError::Lineage { key: lineage.key(), problem: error.to_string() })?;
    config.check()?;
    Ok(config)
}

/// Values that start as `init` says. Those that start from the base model's weights are none of these and start at zero.
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
fn check_trained(key: StageKey, initial: &NamedTensors, trained: &NamedTensors) -> Result<(), TrainError> {
    if let Some((name, _)) = trained.iter().find(|(_, tensor)| tensor.values.iter().any(|value| !value.is_finite())) {
        return Err(TrainError::NotFinite { key, tensor: name.clone() });
    }
    let mut moved: BTreeMap<String, bool> = BTreeMap::new();
    for (name, tensor) in trained {
        let part = match name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()) {
            Some(block) => format!("blocks.{block}"),
            None => "head".to_owned(),
        };
        *moved.entry(part).or_default() |= initial.get(name) != Some(tensor);
    }
    match moved.into_iter().find(|(_, moved)| !moved) {
        Some((part, _)) => Err(TrainError::NotMoved { key, part }),
        None => Ok(()),
    }
}
