//! An adapter over all blocks with a head, as one list of numbers that a method changes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{Record, Target};
use s3t_engine::{EngineError, in_batches};
use s3t_kernels::Targets;
use s3t_models::{Backbone, Device, Input};
use s3t_peft::tensors::{stage_on_device, to_host};
use s3t_peft::{Init, PeftMethod};
use s3t_train::{StageModel, initial_values, on_threads};

use crate::EvalError;

/// A parameter's shape and its place among all numbers.
#[derive(Debug, Clone)]
struct Place {
    shape: Vec<usize>,
    range: Range<usize>,
}

/// A term of a loss: the mean over a batch, weighted.
#[derive(Debug, Clone)]
pub struct Term<'a> {
    /// The records.
    pub batch: Vec<&'a Input<'a>>,
    /// The goal of learning from them.
    pub goal: Goal,
    /// The weight; below 0 the goal is left behind.
    pub weight: f64,
}

/// A goal of learning.
#[derive(Debug, Clone)]
pub enum Goal {
    /// Cross-entropy of these classes.
    Classes(Vec<u32>),
    /// The Kullback-Leibler divergence from a teacher's outputs, both divided by a temperature, times its square (Hinton et al. 2015, as
    /// SCRUB's authors compute it).
    Teacher {
        /// The teacher's outputs.
        logits: Vec<Vec<f32>>,
        /// The temperature.
        temperature: f64,
    },
    /// The sum of the outputs, each times a number: so that the gradient is that of some outputs.
    Outputs(Vec<Vec<f32>>),
}

/// The function of an adapter's numbers: a frozen base model with an adapter in every block and a head.
pub struct Tuner {
    backbone: Arc<Backbone>,
    device: Device,
    method: Box<dyn PeftMethod>,
    blocks: BTreeSet<usize>,
    outputs: usize,
    places: StageTensors<Place>,
    /// The start of each parameter, and the number of its values.
    starts: Vec<(Init, usize)>,
    threads: usize,
}

impl Tuner {
    /// A tuner of a method's adapters in all blocks of a base model.
    ///
    /// # Errors
    ///
    /// [`EvalError::Unsupported`] for a method whose parameters start from the base model's weights.
    pub fn new(
        backbone: Arc<Backbone>,
        device: Device,
        method: Box<dyn PeftMethod>,
        outputs: usize,
        threads: usize,
    ) -> Result<Self, EvalError> {
        let (mut places, mut starts, mut next) = (StageTensors::default(), Vec::new(), 0);
        let mut place = |shape: &[usize]| {
            let range = next..next + shape.iter().product::<usize>();
            next = range.end;
            Place { shape: shape.to_vec(), range }
        };
        let blocks: BTreeSet<usize> = (0..backbone.blocks()).collect();
        let mut specs: Vec<(Option<usize>, String, Vec<usize>, Init)> = Vec::new();
        for block in &blocks {
            for spec in method.parameters(&backbone.block_shape()) {
                specs.push((Some(*block), spec.name, spec.shape, spec.init));
            }
        }
        for spec in backbone.head().parameters(outputs, backbone.hidden()) {
            specs.push((None, spec.name, spec.shape, spec.init));
        }
        for (block, name, shape, init) in specs {
            if matches!(init, Init::WeightNorm(_)) {
                return Err(EvalError::Unsupported(
                    "adapters whose parameters start from the base model's weights, such as DoRA; use plain LoRA",
                ));
            }
            let place = place(&shape);
            starts.push((init, place.range.len()));
            match block {
                Some(block) => drop(places.insert(block, name, place)),
                None => drop(places.insert_head(name, place)),
            }
        }
        Ok(Self { backbone, device, method, blocks, outputs, places, starts, threads })
    }

    /// The base model.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The numbers of an adapter that has not learnt anything.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        self.starts.iter().flat_map(|(init, count)| initial_values(*init, *count, &mut rng)).collect()
    }

    /// The positions of the head's numbers.
    pub fn head(&self) -> Range<usize> {
        let places = self.places.head.iter().flat_map(|head| head.values());
        let start = places.clone().map(|place| place.range.start).min().unwrap_or_default();
        start..places.map(|place| place.range.end).max().unwrap_or(start)
    }

    /// Prepares records for the base model.
    ///
    /// # Errors
    ///
    /// [`EvalError::Engine`] for a record that the model cannot take.
    pub fn prepare<'r>(&self, records: &'r [Record]) -> Result<Vec<Input<'r>>, EvalError> {
        let prepare = |record| self.backbone.prepare(record).map_err(EngineError::from);
        Ok(records.iter().map(prepare).collect::<Result<_, _>>()?)
    }

    fn tensors(&self, values: &[f32]) -> StageTensors {
        self.places.map(|place| HostTensor { shape: place.shape.clone(), values: values[place.range.clone()].to_vec() })
    }

    fn model(&self, tensors: &StageTensors<Tensor<1>>) -> Result<StageModel, EvalError> {
        let model = StageModel::of_blocks(&self.backbone, &*self.method, &self.blocks, self.outputs, tensors);
        Ok(model.map_err(EngineError::from)?)
    }

    /// The outputs for records, in their order.
    ///
    /// # Errors
    ///
    /// As [`StageModel::of_blocks`].
    pub fn logits(&self, values: &[f32], inputs: &[Input<'_>]) -> Result<Vec<Vec<f32>>, EvalError> {
        let model = self.model(&stage_on_device(&self.tensors(values), &self.device))?;
        Ok(in_batches(self.threads, inputs, |batch| model.outputs(&self.backbone, batch))?)
    }

    /// The weighted sum of terms and its gradient. It may be called on any thread; the bits do not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// As [`StageModel::of_blocks`].
    pub fn gradient(&self, values: &[f32], terms: &[Term<'_>]) -> Result<(f64, Vec<f32>), EvalError> {
        on_threads(self.threads, || self.gradient_here(values, terms)).map_err(EngineError::from)?
    }

    fn gradient_here(&self, values: &[f32], terms: &[Term<'_>]) -> Result<(f64, Vec<f32>), EvalError> {
        let tracked =
            stage_on_device(&self.tensors(values), &self.device).map(|of| of.clone().autodiff().require_grad());
        let model = self.model(&tracked)?;
        let mut loss: Option<Tensor<1>> = None;
        for term in terms.iter().filter(|term| !term.batch.is_empty()) {
            let logits = model.logits(&self.backbone, model.first_input(&self.backbone, &term.batch));
            let value = term.goal.loss(logits, &self.device).mul_scalar(term.weight as f32);
            loss = Some(match loss {
                Some(sum) => sum + value,
                None => value,
            });
        }
        let mut gradient = vec![0.0; values.len()];
        let Some(loss) = loss else { return Ok((0.0, gradient)) };
        let mut gradients = loss.backward();
        let tensors = tracked.named();
        for (name, place) in self.places.named() {
            if let Some(of) = tensors.get(&name).and_then(|tensor| tensor.grad_remove(&mut gradients)) {
                gradient[place.range.clone()].copy_from_slice(&to_host(of));
            }
        }
        Ok((f64::from(to_host(loss)[0]), gradient))
    }
}

impl Goal {
    /// The classes of a batch.
    pub fn classes(batch: &[&Input<'_>]) -> Self {
        Self::Classes(batch.iter().map(|input| class_of(&input.record.target)).collect())
    }

    fn loss(&self, logits: Tensor<2>, device: &Device) -> Tensor<1> {
        match self {
            Self::Classes(classes) => s3t_kernels::loss(logits, &Arc::new(Targets::Classes(classes.clone()))),
            Self::Teacher { logits: teacher, temperature } => {
                let rows = teacher.len();
                let teacher = matrix(teacher, device);
                let temperature = *temperature as f32;
                let wanted = activation::log_softmax(teacher.div_scalar(temperature), 1);
                let given = activation::log_softmax(logits.div_scalar(temperature), 1);
                let divergence = (wanted.clone().exp() * (wanted - given)).sum();
                divergence.mul_scalar(temperature * temperature / rows as f32)
            }
            Self::Outputs(weights) => (logits * matrix(weights, device)).sum(),
        }
    }
}

/// Rows of one length on a device.
fn matrix(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let size = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new(rows.concat(), size), device)
}

/// The class of a target, 0 for other targets, which are refused before.
pub(crate) fn class_of(target: &Target) -> u32 {
    target.class().unwrap_or(0)
}
