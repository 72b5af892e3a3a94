//! Pipeline files.

use std::path::{Path, PathBuf};

use s3t_backends::{DeviceSpec, LoadOptions};
use s3t_core::limits::{read_text_at_most, shown, too_large};
use s3t_core::partition::KeyedHash;
use s3t_core::registry::{plugin_from_json, unknown};
use s3t_core::sequence::Cyclic;
use s3t_core::{
    Aggregator, CoreError, Limits, PartitionShape, Partitioner, PluginKind, Prior, Record, SequenceStrategy, Task,
};
use s3t_data::{Duplicates, Labels, Source, Targets};
use s3t_peft::PeftMethod;
use s3t_store::Place;
use s3t_train::{TrainError, TrainingConfig};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::EngineError;
use crate::settings::{PriorSource, Resources, RunSettings, SecretSource, ServingSettings};

/// Everything a system is made from, read from a TOML file or put together by a program.
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
    /// Whether a new store encrypts records and stages.
    pub encrypt: bool,
    /// How many seconds a command waits for another process that has the store in hand.
    pub wait_seconds: f64,
    /// Where a new store's secret comes from.
    pub secret: SecretSource,
    /// The name by which exports call the base model, such as its repository's; `None` takes the name of its folder.
    pub model_name: Option<String>,
    /// The most tokens of a text: longer ones are cut. `None` takes what the model can, and refuses what is longer.
    pub max_tokens: Option<usize>,
    /// Fields of the model's files that are passed over although they are refused or unknown.
    pub accept_fields: Vec<String>,
    /// What is learnt.
    pub task: Task,
    /// The class names; none for tasks without classes.
    pub labels: Labels,
    /// Where training records come from; read only when the store is made.
    pub train_data: Option<Source>,
    /// Where held-out records come from.
    pub test_data: Option<Source>,
    /// Which training records are copies of each other, so that a deletion takes them together.
    pub duplicates: Duplicates,
    /// What relative paths inside the data sources start from.
    pub base_dir: PathBuf,
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Places records.
    pub partitioner: Box<dyn Partitioner>,
    /// Sequences of each shard, B.
    pub budget: usize,
    /// Chooses the sequences.
    pub strategy: Box<dyn SequenceStrategy>,
    /// How likely each slice is to be hit.
    pub prior: PriorSource,
    /// Blocks of each layer group; `None` spreads all blocks over the slices.
    pub blocks_per_slice: Option<usize>,
    /// The PEFT method.
    pub peft: Box<dyn PeftMethod>,
    /// How a stage is trained.
    pub training: TrainingConfig,
    /// How the ensemble answers.
    pub serving: ServingSettings,
    /// What the machine may use.
    pub resources: Resources,
    /// The most that is read of data and of the model.
    pub limits: Limits,
    /// What `s3t run` does after training.
    pub run: RunSettings,
    /// The section `[server]`, which is checked by whoever serves: [`server_settings`](Self::server_settings).
    server: Table,
    lines: Lines,
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
            accept_fields: Vec::new(),
            task: Task::Classification { classes: labels.len() },
            labels,
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
            resources: Resources::default(),
            limits: Limits::default(),
            run: RunSettings::default(),
            server: Table::new(),
            lines: Lines::default(),
        }
    }

    /// Reads a pipeline file. Relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// [`EngineError::ReadPipeline`], or [`EngineError::Pipeline`] for the first thing in it that cannot be used.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let read = std::fs::File::open(path).and_then(|file| read_text_at_most(file, MOST_BYTES));
        let text = read.map_err(|source| EngineError::ReadPipeline { path: path.into(), source })?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), base_dir)
    }

    /// Reads a pipeline from text; `file` names it in messages, and relative paths start from `base_dir`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first thing in it that cannot be used.
    pub fn parse(text: &str, file: &str, base_dir: &Path) -> Result<Self, EngineError> {
        let mut file = PipelineText::new(text, file)?;
        let seed = file.root_value("seed", Some(0))?;
        let device: String = file.root_value("device", Some("flex".to_owned()))?;
        let device = device.parse::<DeviceSpec>().map_err(|error| file.refuse("device", error.to_string()))?;
        let mut section = file.section("model")?;
        let model: String = file.take(&mut section, "model", "path", None)?;
        let max_tokens = file.take(&mut section, "model", "max_tokens", Some(None))?;
        let model_name: Option<String> = file.take(&mut section, "model", "name", Some(None))?;
        if model_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(
                file.refuse("model.name", "`model.name` is empty; give the name by which exports call the model")
            );
        }
        let accept_fields = file.take(&mut section, "model", "accept_fields", Some(Vec::new()))?;
        file.nothing_left(&section, "model", &["accept_fields", "max_tokens", "name", "path"])?;
        let mut section = file.section("store")?;
        let store: String = file.take(&mut section, "store", "path", None)?;
        let secret = file.take(&mut section, "store", "secret", Some(SecretSource::default()))?;
        let keys: Option<String> = file.take(&mut section, "store", "keys", Some(None))?;
        let encrypt = file.take(&mut section, "store", "encrypt", Some(true))?;
        let wait_seconds: f64 =
            file.take(&mut section, "store", "wait_seconds", Some(Place::PATIENCE.as_secs_f64()))?;
        if !(0.0..=MOST_WAIT_SECONDS).contains(&wait_seconds) {
            let problem = format!("`store.wait_seconds` is {wait_seconds}; it takes 0 to {MOST_WAIT_SECONDS}");
            return Err(file.refuse("store.wait_seconds", problem));
        }
        file.nothing_left(&section, "store", &["encrypt", "keys", "path", "secret", "wait_seconds"])?;

        let limits: Limits = file.whole_section("limits")?;
        let mut data = file.section("data")?;
        let (task, labels) = file.task(&mut data, &limits)?;
        let train_data = file.source(&mut data, "train")?;
        let test_data = file.source(&mut data, "test")?;
        let duplicates: Duplicates = file.take(&mut data, "data", "duplicates", Some(Duplicates::default()))?;
        duplicates.check().map_err(|error| file.refuse("data.duplicates", format!("`data.duplicates`: {error}")))?;
        file.nothing_left(&data, "data", &["duplicates", "labels", "task", "train", "test"])?;
        if train_data.is_none() {
            return Err(file.refuse("data", "`data.train` is missing; it says where the records come from"));
        }

        let mut partition = file.section("partition")?;
        let shape = PartitionShape {
            shards: file.take_size(&mut partition, "partition", "shards")?,
            slices: file.take_size(&mut partition, "partition", "slices")?,
        };
        let partitioner = file.plugin::<dyn Partitioner>(partition, "partition", PluginKind::Partitioner)?;
        partitioner.check(shape).map_err(|error| file.refuse_core("partition", &error))?;

        let mut sequences = file.section("sequences")?;
        let budget = file.take_size(&mut sequences, "sequences", "budget")? as usize;
        check_extent(shape, budget)
            .map_err(|problem| file.refuse("partition.shards", format!("`partition.shards` {problem}")))?;
        let prior = file.prior(&mut sequences, base_dir, shape, &limits)?;
        let blocks_per_slice = file.take(&mut sequences, "sequences", "blocks_per_slice", Some(None))?;
        let strategy = file.plugin::<dyn SequenceStrategy>(sequences, "sequences", PluginKind::SequenceStrategy)?;

        let peft = file.section("peft")?;
        let peft = file.plugin::<dyn PeftMethod>(peft, "peft", PluginKind::PeftMethod)?;

        let own_seed = file.has("training.seed");
        let mut training: TrainingConfig = file.whole_section("training")?;
        training.check().map_err(|error| file.refuse_training(&error))?;
        if !own_seed {
            training.seed = seed;
        }
        let serving = file.serving()?;
        let resources = file.whole_section("resources")?;
        let run = file.whole_section("run")?;
        let server = if file.has("server") { file.section("server")? } else { Table::new() };
        file.no_unknown_sections()?;
        Ok(Self {
            seed,
            device,
            model: base_dir.join(model),
            store: base_dir.join(store),
            keys: keys.map(|keys| base_dir.join(keys)),
            encrypt,
            wait_seconds,
            secret,
            model_name,
            max_tokens,
            accept_fields,
            task,
            labels,
            train_data,
            test_data,
            duplicates,
            base_dir: base_dir.into(),
            shape,
            partitioner,
            budget,
            strategy,
            prior,
            blocks_per_slice,
            peft,
            training,
            serving,
            resources,
            limits,
            run,
            server,
            lines: file.lines,
        })
    }

    /// Reads the training records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] if the pipeline names none, [`EngineError::Data`] for the first that cannot be used.
    pub fn read_train_data(&self) -> Result<Vec<Record>, EngineError> {
        let missing = || self.refuse("data", "`data.train` is missing; it says where the records come from");
        self.read_source(self.train_data.as_ref().ok_or_else(missing)?)
    }

    /// Reads the records of a source; picture files as the base model takes them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Data`] for the first record that cannot be used, [`EngineError::Backend`] if picture files are asked for
    /// and the model's folder cannot be read.
    pub fn read_source(&self, source: &Source) -> Result<Vec<Record>, EngineError> {
        let pictures =
            if source.has_pictures() { s3t_backends::picture_input(&self.model, &self.load_options())? } else { None };
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

    /// What the pipeline chooses about its base model.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions { max_tokens: self.max_tokens, limits: self.limits, accept_fields: self.accept_fields.clone() }
    }

    /// Where the store is, with its keys.
    pub fn place(&self) -> Place {
        let patience = std::time::Duration::from_secs_f64(self.wait_seconds.clamp(0.0, MOST_WAIT_SECONDS));
        Place { keys: self.keys.clone(), patience, ..Place::new(&self.store) }
    }

    /// What is read of each record to be learnt.
    pub fn targets(&self) -> Targets<'_> {
        Targets { task: self.task, labels: &self.labels, limits: self.limits }
    }

    /// Checks that the stages of a plan fit into memory.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] saying what to lower.
    pub fn check_extent(&self) -> Result<(), EngineError> {
        check_extent(self.shape, self.budget)
            .map_err(|problem| self.refuse("partition.shards", format!("`partition.shards` {problem}")))
    }

    /// An error at a key of this pipeline, with its line if it was read from a file.
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> EngineError {
        self.lines.refuse(key, problem)
    }

    /// A core error at the key it names inside a section.
    pub(crate) fn refuse_core(&self, section: &str, error: &CoreError) -> EngineError {
        self.lines.refuse_core(section, error)
    }
}

/// The longest wait for another process: a day.
const MOST_WAIT_SECONDS: f64 = 86_400.0;

fn check_extent(shape: PartitionShape, budget: usize) -> Result<(), String> {
    let slices = u64::from(shape.shards) * u64::from(shape.slices);
    let stages = slices.saturating_mul(budget as u64);
    if stages > MOST_STAGES {
        return Err(format!("x slices x budget is {stages} stages; a plan has at most {MOST_STAGES}"));
    }
    Ok(())
}

/// Where the keys of a file are.
#[derive(Debug, Default)]
struct Lines {
    file: String,
    text: String,
}

/// The most bytes of a pipeline file.
const MOST_BYTES: u64 = 16 << 20;

/// The most stages of a plan, each of which has a lineage in memory.
const MOST_STAGES: u64 = 1_000_000;

impl Lines {
    fn refuse(&self, key: &str, problem: impl Into<String>) -> EngineError {
        let file = if self.file.is_empty() { format!("pipeline `{key}`") } else { self.file.clone() };
        EngineError::Pipeline { file, line: self.line(key), key: key.to_owned(), problem: problem.into() }
    }

    fn refuse_core(&self, section: &str, error: &CoreError) -> EngineError {
        match error {
            CoreError::InvalidField { field, problem } => {
                self.refuse(&format!("{section}.{field}"), format!("`{section}.{field}` {problem}"))
            }
            CoreError::BudgetOutOfRange { .. } => self.refuse(&format!("{section}.budget"), error.to_string()),
            _ => self.refuse(section, error.to_string()),
        }
    }

    fn read_value<T: DeserializeOwned>(&self, path: &str, value: Value) -> Result<T, EngineError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let message = error.into_inner().message().trim().to_owned();
            let mut key = if inner == "." { path.to_owned() } else { format!("{path}.{inner}") };
            if let Some(name) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
                && !key.ends_with(name)
            {
                key = format!("{key}.{name}");
            }
            self.refuse(&key, format!("`{key}`: {message}"))
        })
    }

    /// The line of a dotted key, or of the innermost table around it that is there.
    fn line(&self, key: &str) -> Option<usize> {
        // Read when there is something to say: the document takes more memory than the file.
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut table = document.as_table() as &dyn toml_edit::TableLike;
        let mut found = None;
        for part in key.split('.') {
            let Some((key, item)) = table.get_key_value(part) else { break };
            found = key.span().or_else(|| item.span()).or(found);
            match item.as_table_like() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        found.map(|span| self.text[..span.start].matches('\n').count() + 1)
    }
}

/// A pipeline file while it is being read. Sections are taken out, so that what is left is unknown.
struct PipelineText {
    lines: Lines,
    root: Table,
}

const SECTIONS: [&str; 14] = [
    "seed",
    "device",
    "model",
    "store",
    "data",
    "partition",
    "sequences",
    "peft",
    "training",
    "serving",
    "resources",
    "limits",
    "run",
    "server",
];

impl PipelineText {
    fn new(text: &str, file: &str) -> Result<Self, EngineError> {
        let lines = Lines { file: file.to_owned(), text: text.to_owned() };
        let refuse = |line: Option<usize>, message: &str| EngineError::Pipeline {
            file: file.to_owned(),
            line,
            key: String::new(),
            problem: format!("not valid TOML: {message}"),
        };
        let root: Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            refuse(line, error.message())
        })?;
        Ok(Self { lines, root })
    }

    fn refuse(&self, key: &str, problem: impl Into<String>) -> EngineError {
        self.lines.refuse(key, problem)
    }

    fn refuse_core(&self, section: &str, error: &CoreError) -> EngineError {
        self.lines.refuse_core(section, error)
    }

    fn refuse_training(&self, error: &TrainError) -> EngineError {
        match error {
            TrainError::InvalidField { field, problem } => {
                self.refuse(&format!("training.{field}"), format!("`training.{field}` {problem}"))
            }
            other => self.refuse("training", other.to_string()),
        }
    }

    fn has(&self, key: &str) -> bool {
        let mut value = self.root.get(key.split('.').next().unwrap_or_default());
        for part in key.split('.').skip(1) {
            value = value.and_then(|value| value.get(part));
        }
        value.is_some()
    }

    /// Takes a section that must be there.
    fn section(&mut self, name: &str) -> Result<Table, EngineError> {
        match self.root.remove(name) {
            Some(Value::Table(table)) => Ok(table),
            Some(other) => Err(self.refuse(name, format!("`{name}` is a {}, not a section", other.type_str()))),
            None => Err(self.refuse(name, format!("the section `[{name}]` is missing"))),
        }
    }

    /// Takes a section of which every key has a default.
    fn whole_section<T: DeserializeOwned + Default>(&mut self, name: &str) -> Result<T, EngineError> {
        if !self.root.contains_key(name) {
            return Ok(T::default());
        }
        let table = self.section(name)?;
        self.read_value(name, Value::Table(table))
    }

    fn root_value<T: DeserializeOwned>(&mut self, key: &str, default: Option<T>) -> Result<T, EngineError> {
        match (self.root.remove(key), default) {
            (Some(value), _) => self.read_value(key, value),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.refuse(key, format!("`{key}` is missing"))),
        }
    }

    /// Takes one key out of a section.
    fn take<T: DeserializeOwned>(
        &self,
        table: &mut Table,
        section: &str,
        key: &str,
        default: Option<T>,
    ) -> Result<T, EngineError> {
        match (table.remove(key), default) {
            (Some(value), _) => self.read_value(&format!("{section}.{key}"), value),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.refuse(section, format!("`{section}.{key}` is missing"))),
        }
    }

    /// Takes a number of shards, slices or sequences: 1 to a million.
    fn take_size(&self, table: &mut Table, section: &str, key: &str) -> Result<u32, EngineError> {
        let value: i64 = self.take(table, section, key, None)?;
        match u32::try_from(value) {
            Ok(size @ 1..=1_000_000) => Ok(size),
            _ => {
                let path = format!("{section}.{key}");
                Err(self.refuse(&path, format!("`{path}` is {value}; it takes 1 to 1000000")))
            }
        }
    }

    fn read_value<T: DeserializeOwned>(&self, path: &str, value: Value) -> Result<T, EngineError> {
        self.lines.read_value(path, value)
    }

    /// The task and its class names.
    fn task(&self, data: &mut Table, limits: &Limits) -> Result<(Task, Labels), EngineError> {
        let name: String = self.take(data, "data", "task", Some("classification".to_owned()))?;
        let Some(task) = Task::from_name(&name, 0) else {
            return Err(self.refuse("data.task", unknown(&format!("task `{name}`"), &name, &Task::NAMES)));
        };
        if matches!(task, Task::Regression | Task::CausalLm) {
            if data.contains_key("labels") {
                return Err(self.refuse("data.labels", format!("`data.labels` is for classes, which `{name}` has not")));
            }
            return Ok((task, Labels::none()));
        }
        let labels: Vec<String> = self.take(data, "data", "labels", None)?;
        if labels.len() as u64 > limits.labels {
            let problem =
                too_large(&format!("`data.labels` has {} names", labels.len()), &limits.labels.to_string(), "labels");
            return Err(self.refuse("data.labels", problem));
        }
        let labels = Labels::new(labels).map_err(|error| self.refuse("data.labels", error.to_string()))?;
        if matches!(task, Task::MultiLabel { .. }) {
            labels.check_separable().map_err(|error| self.refuse("data.labels", error.to_string()))?;
        }
        Ok((Task::from_name(&name, labels.len()).unwrap_or(task), labels))
    }

    fn source(&self, data: &mut Table, part: &str) -> Result<Option<Source>, EngineError> {
        let key = format!("data.{part}");
        data.remove(part).map(|value| self.read_value(&key, value)).transpose()
    }

    fn plugin<P: ?Sized>(&self, table: Table, section: &str, kind: PluginKind) -> Result<Box<P>, EngineError>
    where
        Box<P>: DeserializeOwned,
    {
        let json = serde_json::to_value(table).map_err(|error| self.refuse(section, error.to_string()))?;
        plugin_from_json(kind, &json).map_err(|error| self.refuse(&format!("{section}.{}", error.key), error.message))
    }

    /// The prior: numbers, or the name of a file with a probability for each subject.
    fn prior(
        &self,
        sequences: &mut Table,
        base_dir: &Path,
        shape: PartitionShape,
        limits: &Limits,
    ) -> Result<PriorSource, EngineError> {
        match sequences.remove("prior") {
            None => Ok(PriorSource::Given(Prior::Uniform)),
            Some(Value::String(file)) => {
                let read = s3t_data::read_probabilities(&base_dir.join(file), limits);
                let subjects = read.map_err(|error| self.refuse("sequences.prior", error.to_string()))?;
                Ok(PriorSource::Subjects(subjects))
            }
            Some(value @ Value::Array(_)) => {
                let prior = Prior::PerSlice(self.read_value("sequences.prior", value)?);
                prior.check(shape.slices).map_err(|error| self.refuse_core("sequences", &error))?;
                Ok(PriorSource::Given(prior))
            }
            Some(other) => {
                let problem = format!(
                    "`sequences.prior` is {}; give one probability for each slice, or the name of a CSV file with the columns `subject` and `probability`",
                    shown(&other.to_string())
                );
                Err(self.refuse("sequences.prior", problem))
            }
        }
    }

    fn serving(&mut self) -> Result<ServingSettings, EngineError> {
        let mut settings = ServingSettings::default();
        if !self.root.contains_key("serving") {
            return Ok(settings);
        }
        let mut table = self.section("serving")?;
        settings.dead_shard = self.take(&mut table, "serving", "dead_shard", Some(settings.dead_shard))?;
        if let Some(aggregator) = table.remove("aggregator") {
            let Value::Table(aggregator) = aggregator else {
                let example = "`serving.aggregator` is a table, for example { type = \"mean-logits\" }";
                return Err(self.refuse("serving.aggregator", example));
            };
            settings.aggregator =
                self.plugin::<dyn Aggregator>(aggregator, "serving.aggregator", PluginKind::Aggregator)?;
        }
        self.nothing_left(&table, "serving", &["aggregator", "dead_shard"])?;
        Ok(settings)
    }

    fn nothing_left(&self, table: &Table, section: &str, known: &[&str]) -> Result<(), EngineError> {
        match table.keys().next() {
            Some(key) => {
                Err(self.refuse(&format!("{section}.{key}"), unknown(&format!("key `{section}.{key}`"), key, known)))
            }
            None => Ok(()),
        }
    }

    fn no_unknown_sections(&self) -> Result<(), EngineError> {
        match self.root.keys().next() {
            Some(key) => Err(self.refuse(key, unknown(&format!("key `{key}`"), key, &SECTIONS))),
            None => Ok(()),
        }
    }
}
