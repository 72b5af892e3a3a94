//! Everything a system is made from, before it is checked.

use std::path::PathBuf;

use s3t_backends::DeviceSpec;
use s3t_core::partition::KeyedHash;
use s3t_core::sequence::Cyclic;
use s3t_core::{CoreError, Limits, PartitionShape, Partitioner, Prior, Record, SequenceStrategy, Task};
use s3t_data::{Duplicates, Labels, Source, Targets};
use s3t_executor::{Executor, Local};
use s3t_models::{LoadOptions, Precision, WeightFormat};
use s3t_peft::PeftMethod;
use s3t_store::Place;
use s3t_train::TrainingConfig;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::EngineError;
use crate::lines::Lines;
use crate::section::Section;
use crate::settings::{PriorSource, Resources, RunSettings, SecretSource, ServingSettings};

/// The longest wait for another process: a day.
pub(crate) const MAX_WAIT_SECONDS: f64 = 86_400.0;

/// Everything a system is made from, read from a TOML file or put together by a program.
///
/// ```
/// use s3t_core::PartitionShape;
/// use s3t_data::Labels;
/// use s3t_engine::Pipeline;
/// use s3t_lora::Lora;
///
/// let labels = Labels::new(vec!["cat".into(), "dog".into()])?;
/// let mut pipeline = Pipeline::new("model", "store", labels, Lora { rank: 4, ..Lora::default() });
/// pipeline.shape = PartitionShape { shards: 4, slices: 3 };
/// let pipeline = pipeline.check()?;
/// assert_eq!(pipeline.place().path, "store".as_ref() as &std::path::Path);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pipeline {
    /// Seed of the sequences and, unless it has its own, of training.
    pub seed: u64,
    /// The device.
    pub device: DeviceSpec,
    /// The base model's folder.
    pub model: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// The folder of the store's keys; `None` is `STORE.keys`, beside it.
    pub keys: Option<PathBuf>,
    /// `true` if a new store encrypts records and stages.
    pub encrypt: bool,
    /// Seconds that a command waits for another process that has the store in hand.
    pub wait_seconds: f64,
    /// The source of a new store's secret.
    pub secret: SecretSource,
    /// The name by which exports call the base model, such as its repository's; `None` takes the name of its folder.
    pub model_name: Option<String>,
    /// The largest number of tokens of a text: longer texts are cut. `None` takes as many as the model does, and refuses longer texts.
    pub max_tokens: Option<usize>,
    /// The form of the weights of the frozen linear layers.
    pub weights: WeightFormat,
    /// Fields of the model's files that are passed over although they are refused or unknown.
    pub accept_fields: Vec<String>,
    /// The task.
    pub task: Task,
    /// The class names; empty for tasks without classes.
    pub labels: Labels,
    /// True if the training records are chats, whose texts the model's chat template makes: it is then a part of every stage's lineage.
    pub chats: bool,
    /// The source of training records; read only when the store is made.
    pub train_data: Option<Source>,
    /// The source of held-out records.
    pub test_data: Option<Source>,
    /// The measure by which training records are copies of each other, so that a deletion takes them together.
    pub duplicates: Duplicates,
    /// The folder that relative paths inside the data sources start from.
    pub base_dir: PathBuf,
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Places records.
    pub partitioner: Box<dyn Partitioner>,
    /// Sequences of each shard, B.
    pub budget: usize,
    /// Chooses the sequences.
    pub strategy: Box<dyn SequenceStrategy>,
    /// The probability that each slice is hit.
    pub prior: PriorSource,
    /// Blocks of each layer group; `None` spreads all blocks over the slices.
    pub blocks_per_slice: Option<usize>,
    /// The PEFT method.
    pub peft: Box<dyn PeftMethod>,
    /// The settings of a stage's training.
    pub training: TrainingConfig,
    /// The settings of the ensemble's answers.
    pub serving: ServingSettings,
    /// The place where stages are trained. It changes no bit, and is no part of the store.
    pub executor: Box<dyn Executor>,
    /// The threads, memory and disk that a process may use.
    pub resources: Resources,
    /// The limits of reading data and the model.
    pub limits: Limits,
    /// The steps of `s3t run` after training.
    pub run: RunSettings,
    /// The section `[server]`, which the server checks: [`server_settings`](Self::server_settings).
    pub(crate) server: Table,
    /// The sections of [`OTHER_SECTIONS`](crate::pipeline_file::OTHER_SECTIONS), by name.
    pub(crate) others: Table,
    pub(crate) lines: Lines,
}

impl Pipeline {
    /// A pipeline with default settings: 2 shards of 3 slices, keyed hash, 3 cyclic sequences, the first CPU device.
    ///
    /// # Panics
    ///
    /// Never: the default device's name is known.
    pub fn new(
        model: impl Into<PathBuf>,
        store: impl Into<PathBuf>,
        labels: Labels,
        peft: impl PeftMethod + 'static,
    ) -> Self {
        Self {
            seed: 0,
            device: "flex".parse().expect("flex is a known device"),
            model: model.into(),
            store: store.into(),
            keys: None,
            encrypt: true,
            wait_seconds: Place::PATIENCE.as_secs_f64(),
            secret: SecretSource::default(),
            model_name: None,
            max_tokens: None,
            weights: WeightFormat::Full,
            accept_fields: Vec::new(),
            task: Task::Classification { classes: labels.len() },
            labels,
            chats: false,
            train_data: None,
            test_data: None,
            duplicates: Duplicates::default(),
            base_dir: PathBuf::new(),
            shape: PartitionShape { shards: 2, slices: 3 },
            partitioner: Box::new(KeyedHash {}),
            budget: 3,
            strategy: Box::new(Cyclic {}),
            prior: PriorSource::Given(Prior::Uniform),
            blocks_per_slice: None,
            peft: Box::new(peft),
            training: TrainingConfig::default(),
            serving: ServingSettings::default(),
            executor: Box::new(Local {}),
            resources: Resources::default(),
            limits: Limits::default(),
            run: RunSettings::default(),
            server: Table::new(),
            others: Table::new(),
            lines: Lines::default(),
        }
    }

    /// Reads the training records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] if the pipeline names no source of them, [`EngineError::Data`] for the first record that cannot be used.
    pub fn read_train_data(&self) -> Result<Vec<Record>, EngineError> {
        let missing = || self.refuse("data", "`data.train` is missing; it says where the records come from");
        self.read_source(self.train_data.as_ref().ok_or_else(missing)?)
    }

    /// Reads the held-out records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] if the pipeline names no source of them; as [`read_source`](Self::read_source).
    pub fn read_test_data(&self) -> Result<Vec<Record>, EngineError> {
        self.read_source(self.test_source()?)
    }

    /// The source of held-out records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] if the pipeline names no source of them.
    pub fn test_source(&self) -> Result<&Source, EngineError> {
        let missing = || self.refuse("data", "the pipeline has no `data.test` to evaluate on");
        self.test_data.as_ref().ok_or_else(missing)
    }

    /// Reads the records of a source; picture files as the base model takes them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Data`] for the first record that cannot be used, [`EngineError::Model`] if picture files are asked for
    /// and the model's folder cannot be read.
    pub fn read_source(&self, source: &Source) -> Result<Vec<Record>, EngineError> {
        let pictures =
            if source.has_pictures() { s3t_models::picture_input(&self.model, &self.load_options())? } else { None };
        Ok(source.read_for(&self.base_dir, &self.targets(), pictures.as_ref())?)
    }

    /// The section `[server]`, read as the settings of a server; defaults if it is not there.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first key in it that cannot be used.
    pub fn server_settings<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        self.lines.read_value("server", Value::Table(self.server.clone()))
    }

    /// The error for a key of the section `[server]` whose value cannot be used.
    pub fn refuse_server(&self, key: &str, problem: &str) -> EngineError {
        self.lines.refuse(&format!("server.{key}"), format!("`server.{key}` {problem}"))
    }

    /// A section that whoever reads it checks, `attack` or `compare`; defaults if it is not there.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first key in it that cannot be used.
    pub fn settings_of<T: DeserializeOwned>(&self, section: &str) -> Result<T, EngineError> {
        let table = self.others.get(section).cloned().unwrap_or_else(|| Value::Table(Table::new()));
        self.lines.read_value(section, table)
    }

    /// The error for a key of such a section whose value cannot be used; `problem` goes on after its name.
    pub fn refuse_setting(&self, section: &str, key: &str, problem: &str) -> EngineError {
        self.lines.refuse(&format!("{section}.{key}"), format!("`{section}.{key}` {problem}"))
    }

    /// The options with which the base model is loaded.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            max_tokens: self.max_tokens,
            limits: self.limits,
            accept_fields: self.accept_fields.clone(),
            chats: self.chats,
            precision: self.training.precision,
            weights: self.weights,
        }
    }

    /// The precision of the products with frozen weights in answers.
    pub fn serving_precision(&self) -> Precision {
        self.serving.precision.unwrap_or(self.training.precision)
    }

    /// The location of the store and of its keys.
    pub fn place(&self) -> Place {
        let patience = std::time::Duration::from_secs_f64(self.wait_seconds.clamp(0.0, MAX_WAIT_SECONDS));
        Place { keys: self.keys.clone(), patience, ..Place::new(&self.store) }
    }

    /// The targets that are read of each record.
    pub fn targets(&self) -> Targets<'_> {
        Targets { task: self.task, labels: &self.labels, limits: self.limits }
    }

    /// An error at a key of this pipeline, with its line if it was read from a file.
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> EngineError {
        self.lines.refuse(key, problem)
    }

    /// A core error at the key it names inside a section.
    pub(crate) fn refuse_core(&self, section: Section, error: &CoreError) -> EngineError {
        self.lines.refuse_core(section, error)
    }

    /// A refused field of a section; `problem` goes on after its name.
    pub(crate) fn refuse_field(&self, section: Section, field: &str, problem: &str) -> EngineError {
        self.lines.refuse_field(section, field, problem)
    }
}
