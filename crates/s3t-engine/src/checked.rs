//! The door to a system: a pipeline whose rules hold.

use std::convert::Infallible;
use std::fmt::Display;
use std::ops::Deref;

use s3t_core::limits::too_large;
use s3t_core::{PartitionShape, Task};
use s3t_executor::ExecutorError;
use s3t_train::TrainError;

use crate::error::EngineError;
use crate::forms;
use crate::pipeline::{MAX_WAIT_SECONDS, Pipeline};
use crate::section::Section;
use crate::settings::PriorSource;

/// A pipeline that was checked, and cannot be changed without being checked again. Systems are made from checked pipelines only.
///
/// ```
/// use s3t_core::PartitionShape;
/// use s3t_data::Labels;
/// use s3t_engine::Pipeline;
/// use s3t_lora::Lora;
///
/// let labels = Labels::new(vec!["cat".into(), "dog".into()])?;
/// let mut pipeline = Pipeline::new("model", "store", labels, Lora::default());
/// pipeline.shape = PartitionShape { shards: 0, slices: 3 };
/// let message = pipeline.check().unwrap_err().to_string();
/// assert!(message.contains("`partition.shards` is 0; it takes 1 to 1000000"));
/// # Ok::<(), s3t_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct CheckedPipeline(Pipeline);

impl CheckedPipeline {
    /// Changes the pipeline, and checks it again.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::check`].
    pub fn change(self, change: impl FnOnce(&mut Pipeline)) -> Result<Self, EngineError> {
        let mut pipeline = self.0;
        change(&mut pipeline);
        pipeline.check()
    }

    /// The pipeline, if its store was made.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoStore`] if there is nothing at the store's place.
    pub fn with_store(self) -> Result<Self, EngineError> {
        if self.store.exists() {
            return Ok(self);
        }
        let file = if self.lines.file.is_empty() { String::new() } else { format!(" {}", self.lines.file) };
        Err(EngineError::NoStore { store: self.store.clone(), file })
    }

    /// The pipeline, to be changed freely.
    pub fn into_unchecked(self) -> Pipeline {
        self.0
    }
}

impl Deref for CheckedPipeline {
    type Target = Pipeline;

    fn deref(&self) -> &Pipeline {
        &self.0
    }
}

impl TryFrom<Pipeline> for CheckedPipeline {
    type Error = EngineError;

    fn try_from(pipeline: Pipeline) -> Result<Self, EngineError> {
        pipeline.check()
    }
}

impl From<Infallible> for EngineError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The largest number of shards, slices or sequences of a shard.
const MAX_SIZE: u64 = 1_000_000;

/// The largest number of stages of a plan, each of which has a lineage in memory.
const MAX_STAGES: u64 = 1_000_000;

/// The largest number of stages that are trained side by side in one process: each has a thread at least.
const MAX_JOBS: usize = 1024;

/// The problem with a number of shards, slices or sequences at a key.
pub(crate) fn size_problem(key: &str, value: impl Display) -> String {
    format!("`{key}` is {value}; it takes 1 to {MAX_SIZE}")
}

impl Pipeline {
    /// Checks every rule that needs neither the base model nor the records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first key that breaks a rule, with its line if the pipeline was read from a file.
    pub fn check(self) -> Result<CheckedPipeline, EngineError> {
        self.check_model_and_store()?;
        self.check_labels()?;
        self.check_chats()?;
        self.duplicates
            .check()
            .map_err(|error| self.refuse("data.duplicates", format!("`data.duplicates`: {error}")))?;
        for (section, field, value) in [
            (Section::Partition, "shards", u64::from(self.shape.shards)),
            (Section::Partition, "slices", u64::from(self.shape.slices)),
            (Section::Sequences, "budget", self.budget as u64),
        ] {
            if !(1..=MAX_SIZE).contains(&value) {
                let key = section.key(field);
                return Err(self.refuse(&key, size_problem(&key, value)));
            }
        }
        if self.resources.jobs > MAX_JOBS {
            let problem =
                format!("`resources.jobs` is {}; it takes 0, for one a core, to {MAX_JOBS}", self.resources.jobs);
            return Err(self.refuse("resources.jobs", problem));
        }
        self.check_extent()?;
        self.partitioner.check(self.shape).map_err(|error| self.refuse_core(Section::Partition, &error))?;
        if let PriorSource::Given(prior) = &self.prior {
            prior.check(self.shape.slices).map_err(|error| self.refuse_core(Section::Sequences, &error))?;
        }
        self.training.check().map_err(|error| match error {
            TrainError::InvalidField { field, problem } => self.refuse_field(Section::Training, field, &problem),
            other => self.refuse(Section::Training.name(), other.to_string()),
        })?;
        self.executor.check().map_err(|error| match error {
            ExecutorError::InvalidField { field, problem } => self.refuse_field(Section::Executor, field, &problem),
            other => self.refuse(Section::Executor.name(), other.to_string()),
        })?;
        Ok(CheckedPipeline(self))
    }

    fn check_model_and_store(&self) -> Result<(), EngineError> {
        if self.model_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            let problem = "`model.name` is empty; give the name by which exports call the model";
            return Err(self.refuse("model.name", problem));
        }
        forms::check_weights(self.weights, self.device)
            .map_err(|problem| self.refuse("model.weights", format!("`model.weights` {problem}")))?;
        let asked = [("training.precision", self.training.precision), ("serving.precision", self.serving_precision())];
        for (key, precision) in asked {
            forms::check_precision(precision, self.device)
                .map_err(|problem| self.refuse(key, format!("`{key}` {problem}")))?;
        }
        if !(0.0..=MAX_WAIT_SECONDS).contains(&self.wait_seconds) {
            let problem = format!("`store.wait_seconds` is {}; it takes 0 to {MAX_WAIT_SECONDS}", self.wait_seconds);
            return Err(self.refuse("store.wait_seconds", problem));
        }
        Ok(())
    }

    /// Checks that task and class names agree.
    fn check_labels(&self) -> Result<(), EngineError> {
        let refuse = |problem: String| Err(self.refuse("data.labels", problem));
        let named = self.labels.len();
        match self.task {
            Task::Classification { classes } | Task::MultiLabel { classes } => {
                if named as u64 > self.limits.labels {
                    let found = format!("`data.labels` has {named} names");
                    return refuse(too_large(&found, &self.limits.labels.to_string(), "labels"));
                }
                if classes != named || named < 2 {
                    let problem = format!(
                        "`data.labels` has {named} names for {classes} classes of task `{}`; give a name for each class, at least two",
                        self.task.name()
                    );
                    return refuse(problem);
                }
                if matches!(self.task, Task::MultiLabel { .. }) {
                    self.labels.check_separable().or_else(|error| refuse(error.to_string()))?;
                }
            }
            Task::Regression | Task::CausalLm => {
                if named > 0 {
                    return refuse(format!("`data.labels` is for classes, which `{}` has not", self.task.name()));
                }
            }
        }
        Ok(())
    }

    /// Checks that chats are learnt from by the task for them, and that source and pipeline agree.
    fn check_chats(&self) -> Result<(), EngineError> {
        if self.chats && self.task != Task::CausalLm {
            let problem = format!(
                "`data.train.messages` are chats, which task `causal-lm` learns from, but `data.task` is `{}`",
                self.task.name()
            );
            return Err(self.refuse("data.train.messages", problem));
        }
        if !self.run.ask.is_empty() && self.task != Task::CausalLm {
            let problem = format!(
                "`run.ask` is for language models, of task `causal-lm`, but `data.task` is `{}`",
                self.task.name()
            );
            return Err(self.refuse("run.ask", problem));
        }
        match &self.train_data {
            Some(source) if source.has_chats() != self.chats => {
                let problem = "the field `chats` of the pipeline and `messages` of its `data.train` disagree";
                Err(self.refuse("data.train", problem))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the stages of a plan fit into memory.
    fn check_extent(&self) -> Result<(), EngineError> {
        let PartitionShape { shards, slices } = self.shape;
        let stages = (u64::from(shards) * u64::from(slices)).saturating_mul(self.budget as u64);
        if stages > MAX_STAGES {
            let problem =
                format!("`partition.shards` x slices x budget is {stages} stages; a plan has at most {MAX_STAGES}");
            return Err(self.refuse("partition.shards", problem));
        }
        Ok(())
    }
}
