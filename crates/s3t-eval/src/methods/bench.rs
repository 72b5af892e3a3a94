//! The bench on which methods are compared: a pipeline's base model, PEFT method and training settings.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use s3t_core::digest::DigestBuilder;
use s3t_core::{Aggregator, Digest, PartitionShape, Record, StoreSecret, Task};
use s3t_engine::{EngineError, Observer, Pipeline, System};
use s3t_train::TrainingConfig;

use super::steps::{Means, Passes, learn};
use super::{Learnt, Tuner};
use crate::EvalError;
use crate::attack::{Copies, Copy, PipelineSource};

/// Everything that methods are given besides records.
pub struct Bench<'a> {
    copies: &'a Copies<'a>,
    of_pipeline: Copy,
    tuner: Tuner,
    observer: &'a dyn Observer,
    adapters: Mutex<BTreeMap<Digest, Trained>>,
    answers: Mutex<BTreeMap<Digest, Vec<Vec<f32>>>>,
}

/// The numbers of a trained adapter, and the seconds that training took.
#[derive(Clone)]
pub(crate) struct Trained {
    pub values: Vec<f32>,
    pub seconds: f64,
}

impl<'a> Bench<'a> {
    /// The bench of a pipeline; `records` are some that it can train on.
    fn new(copies: &'a Copies<'a>, records: &[Record], observer: &'a dyn Observer) -> Result<Self, EvalError> {
        let of_pipeline = copies.of_records(records)?;
        let system = &of_pipeline.system;
        let Task::Classification { classes } = system.pipeline().task else {
            return Err(EvalError::OnlyClasses(system.pipeline().task.name()));
        };
        if system.pipeline().serving.aggregator.is_routed() {
            return Err(EvalError::Unsupported(
                "the aggregator is routed, and methods without stages have nothing to route by; use `depth-weighted`",
            ));
        }
        let written =
            serde_json::to_value(&system.pipeline().peft).map_err(|error| EvalError::Plugin(error.to_string()))?;
        let method = serde_json::from_value(written).map_err(|error| EvalError::Plugin(error.to_string()))?;
        let threads = system.pipeline().resources.job_count();
        let tuner = Tuner::new(
            std::sync::Arc::clone(system.training_backbone()),
            system.device().clone(),
            method,
            classes,
            threads,
        )?;
        Ok(Self { copies, of_pipeline, tuner, observer, adapters: Mutex::default(), answers: Mutex::default() })
    }

    /// The function of an adapter's numbers.
    pub fn tuner(&self) -> &Tuner {
        &self.tuner
    }

    /// The means of taking steps.
    pub(crate) fn means(&self) -> Means<'_> {
        Means { tuner: &self.tuner, config: self.training(), observer: self.observer }
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        self.of_pipeline.system.pipeline()
    }

    /// The settings of training.
    pub fn training(&self) -> &TrainingConfig {
        &self.pipeline().training
    }

    /// Shards and slices.
    pub fn shape(&self) -> PartitionShape {
        self.pipeline().shape
    }

    /// The aggregator of ensembles.
    pub fn aggregator(&self) -> &dyn Aggregator {
        &*self.pipeline().serving.aggregator
    }

    /// Passes over each record that one sequence of the pipeline takes: with E epochs a stage and stages of 1..L slices, E (L + 1) / 2,
    /// rounded up.
    pub fn epochs(&self) -> usize {
        (self.training().epochs * (self.shape().slices as usize + 1)).div_ceil(2)
    }

    /// An adapter that was trained on records. Methods that start from the same one get it without training again, as it would have the
    /// same bits.
    pub(crate) fn trained(&self, records: &[Record], seed: u64) -> Result<Trained, EvalError> {
        let mut key = DigestBuilder::new("adapter");
        key.number(seed);
        for record in records {
            key.bytes(record.id.as_str().as_bytes());
        }
        let key = key.finish();
        let known = || self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trained) = known().get(&key) {
            return Ok(trained.clone());
        }
        let start = Instant::now();
        let mut values = self.tuner.initial(seed);
        learn(
            self.means(),
            &mut values,
            &self.tuner.prepare(records)?,
            Passes { epochs: self.epochs(), rate: 1.0, seed },
        )?;
        let trained = Trained { values, seconds: start.elapsed().as_secs_f64() };
        known().insert(key, trained.clone());
        Ok(trained)
    }

    /// The logits of an adapter for records. Methods that start from the same adapter answer with it once.
    fn logits(&self, values: &[f32], records: &[Record]) -> Result<Vec<Vec<f32>>, EvalError> {
        let mut key = DigestBuilder::new("answers");
        values.iter().for_each(|value| {
            key.number(value.to_bits().into());
        });
        for record in records {
            key.bytes(record.id.as_str().as_bytes());
        }
        let key = key.finish();
        let known = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answers) = known().get(&key) {
            return Ok(answers.clone());
        }
        let answers = self.tuner.logits(values, &self.tuner.prepare(records)?)?;
        known().insert(key, answers.clone());
        Ok(answers)
    }

    /// The system of the pipeline on records, trained, in a store that goes with it.
    pub(crate) fn system(&self, records: &[Record], seed: u64) -> Result<Copy, EvalError> {
        let copy = self.copies.with(records, |pipeline| {
            pipeline.seed = seed;
            pipeline.training.seed = seed;
        })?;
        self.build(&copy.system)?;
        Ok(copy)
    }

    /// Trains what is missing in a system.
    pub(crate) fn build(&self, system: &System) -> Result<(), EvalError> {
        system.train(&crate::attack::Steps(self.observer))?;
        Ok(())
    }

    /// Refuses to go on once somebody wants to stop.
    ///
    /// # Errors
    ///
    /// [`EvalError::Stopped`].
    pub fn check_stopped(&self) -> Result<(), EvalError> {
        self.means().check_stopped()
    }
}

/// Calls `work` with the bench of a pipeline; `records` are some that it can train on.
///
/// # Errors
///
/// As [`compare`](crate::compare::compare).
pub fn with_bench<T>(
    pipeline: &PipelineSource<'_>,
    records: &[Record],
    observer: &dyn Observer,
    work: impl FnOnce(&Bench<'_>) -> T,
) -> Result<T, EvalError> {
    let secret = StoreSecret::from_bytes(*DigestBuilder::new("compare secret").finish().as_bytes());
    let copies = Copies::new(pipeline, &pipeline()?.store, secret);
    Ok(work(&Bench::new(&copies, records, observer)?))
}

/// An adapter over all blocks, trained on all records at once: where the approximate methods start.
pub struct Adapter<'a> {
    bench: &'a Bench<'a>,
    /// The numbers of the adapter and its head.
    pub values: Vec<f32>,
    /// The records that it has learnt and not forgotten.
    pub records: Vec<Record>,
    /// The seed of its training.
    pub seed: u64,
    train_seconds: f64,
    change: Box<Change<'a>>,
}

/// The way in which a method changes an adapter: the adapter whose `records` are those that are left, and the records to forget.
pub type Change<'a> = dyn Fn(&'a Bench<'a>, &mut Adapter<'a>, &[Record]) -> Result<(), EvalError> + 'a;

impl<'a> Adapter<'a> {
    /// Trains an adapter on records, for a method that forgets by `change`.
    ///
    /// # Errors
    ///
    /// [`EvalError::Engine`] for a record that the model cannot take; [`EvalError::Stopped`].
    pub fn train(
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
        change: impl Fn(&'a Bench<'a>, &mut Adapter<'a>, &[Record]) -> Result<(), EvalError> + 'a,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        let Trained { values, seconds: train_seconds } = bench.trained(records, seed)?;
        Ok(Box::new(Self { bench, values, records: records.to_vec(), seed, train_seconds, change: Box::new(change) }))
    }
}

impl Learnt for Adapter<'_> {
    fn forget(&mut self, records: &[Record]) -> Result<Option<std::time::Duration>, EvalError> {
        self.records.retain(|record| !records.iter().any(|gone| gone.id == record.id));
        let change = std::mem::replace(&mut self.change, Box::new(|_, _, _| Ok(())));
        let changed = change(self.bench, self, records);
        self.change = change;
        changed.map(|()| None)
    }

    fn train_seconds(&self) -> Option<f64> {
        Some(self.train_seconds)
    }

    fn answer(&self, records: &[Record]) -> Result<Vec<Vec<f32>>, EvalError> {
        if self.values.iter().any(|value| !value.is_finite()) {
            return Err(EvalError::Diverged);
        }
        self.bench.logits(&self.values, records)
    }
}

impl From<s3t_train::TrainError> for EvalError {
    fn from(error: s3t_train::TrainError) -> Self {
        EngineError::from(error).into()
    }
}
