//! Pipeline files: their sections, and the errors that name line and key.

use std::path::Path;

use s3t_backends::DeviceSpec;
use s3t_core::limits::{read_text_at_most, shown};
use s3t_core::registry::{plugin_from_json, unknown};
use s3t_core::{Aggregator, Limits, Members, PartitionShape, Partitioner, PluginKind, Prior, SequenceStrategy, Task};
use s3t_data::{Duplicates, Labels, Source};
use s3t_executor::{Executor, Local};
use s3t_models::WeightFormat;
use s3t_peft::PeftMethod;
use s3t_store::Place;
use s3t_train::TrainingConfig;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::checked::{CheckedPipeline, size_problem};
use crate::error::EngineError;
use crate::lines::Lines;
use crate::pipeline::Pipeline;
use crate::settings::{GenerationSettings, PriorSource, SecretSource, ServingSettings};

/// The largest size of a pipeline file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The largest value of a setting that is a number of texts or megabytes.
const MAX_SIZE: usize = 1 << 20;

impl Pipeline {
    /// Reads a pipeline file. Relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// [`EngineError::ReadPipeline`], or [`EngineError::Pipeline`] for the first thing in it that cannot be used.
    pub fn read(path: &Path) -> Result<CheckedPipeline, EngineError> {
        let read = std::fs::File::open(path).and_then(|file| read_text_at_most(file, MAX_BYTES));
        let text = read.map_err(|cause| EngineError::ReadPipeline { path: path.into(), cause })?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), base_dir)
    }

    /// Reads a pipeline from text; `file` names it in messages, and relative paths start from `base_dir`.
    ///
    /// ```
    /// # use s3t_lora as _;
    /// use s3t_engine::Pipeline;
    ///
    /// let text = r#"
    ///     [model]
    ///     path = "model"
    ///     [data]
    ///     labels = ["cat", "dog"]
    ///     train = { type = "jsonl", file = "train.jsonl" }
    ///     [partition]
    ///     type = "keyed-hash"
    ///     shards = 2
    ///     slices = 0
    ///     [sequences]
    ///     type = "cyclic"
    ///     budget = 1
    ///     [peft]
    ///     type = "lora"
    ///     [store]
    ///     path = "store"
    /// "#;
    /// let error = Pipeline::parse(text, "pets.toml", "".as_ref()).unwrap_err();
    /// assert_eq!(error.to_string(), "pets.toml line 10: `partition.slices` is 0; it takes 1 to 1000000");
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first thing in it that cannot be used.
    pub fn parse(text: &str, file: &str, base_dir: &Path) -> Result<CheckedPipeline, EngineError> {
        let mut file = PipelineText::new(text, file)?;
        let seed = file.root_value("seed", Some(0))?;
        let device: String = file.root_value("device", Some("flex".to_owned()))?;
        let device = device.parse::<DeviceSpec>().map_err(|error| file.refuse("device", error.to_string()))?;
        let mut section = file.section("model")?;
        let model: String = file.take(&mut section, "model", "path", None)?;
        let max_tokens = file.take(&mut section, "model", "max_tokens", Some(None))?;
        let weights = file.take(&mut section, "model", "weights", Some(WeightFormat::Full))?;
        let model_name: Option<String> = file.take(&mut section, "model", "name", Some(None))?;
        let accept_fields = file.take(&mut section, "model", "accept_fields", Some(Vec::new()))?;
        file.nothing_left(&section, "model", &["accept_fields", "max_tokens", "name", "path", "weights"])?;
        let mut section = file.section("store")?;
        let store: String = file.take(&mut section, "store", "path", None)?;
        let secret = file.take(&mut section, "store", "secret", Some(SecretSource::default()))?;
        let keys: Option<String> = file.take(&mut section, "store", "keys", Some(None))?;
        let encrypt = file.take(&mut section, "store", "encrypt", Some(true))?;
        let wait_seconds: f64 =
            file.take(&mut section, "store", "wait_seconds", Some(Place::PATIENCE.as_secs_f64()))?;
        file.nothing_left(&section, "store", &["encrypt", "keys", "path", "secret", "wait_seconds"])?;

        let limits: Limits = file.whole_section("limits")?;
        let mut data = file.section("data")?;
        let (task, labels) = file.task(&mut data)?;
        let train_data = file.source(&mut data, "train")?;
        let test_data = file.source(&mut data, "test")?;
        let duplicates: Duplicates = file.take(&mut data, "data", "duplicates", Some(Duplicates::default()))?;
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

        let mut sequences = file.section("sequences")?;
        let budget = file.take_size(&mut sequences, "sequences", "budget")? as usize;
        let prior = file.prior(&mut sequences, base_dir, &limits)?;
        let blocks_per_slice = file.take(&mut sequences, "sequences", "blocks_per_slice", Some(None))?;
        let strategy = file.plugin::<dyn SequenceStrategy>(sequences, "sequences", PluginKind::SequenceStrategy)?;

        let peft = file.section("peft")?;
        let peft = file.plugin::<dyn PeftMethod>(peft, "peft", PluginKind::PeftMethod)?;

        let training = file.training(seed)?;
        let serving = file.serving()?;
        let executor = file.executor()?;
        let resources = file.whole_section("resources")?;
        let run = file.whole_section("run")?;
        let server = if file.has("server") { file.section("server")? } else { Table::new() };
        let mut others = Table::new();
        for name in OTHER_SECTIONS {
            if file.has(name) {
                others.insert(name.to_owned(), Value::Table(file.section(name)?));
            }
        }
        file.no_unknown_sections()?;
        let pipeline = Self {
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
            weights,
            accept_fields,
            task,
            labels,
            chats: train_data.as_ref().is_some_and(Source::has_chats),
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
            executor,
            resources,
            limits,
            run,
            server,
            others,
            lines: file.lines,
        };
        pipeline.check()
    }
}

/// A pipeline file while it is being read. Sections are taken out, so that the keys that are left are unknown.
struct PipelineText {
    lines: Lines,
    root: Table,
}

/// Sections that are read by whoever uses them.
pub(crate) const OTHER_SECTIONS: [&str; 2] = ["attack", "compare"];

const SECTIONS: [&str; 17] = [
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
    "executor",
    "resources",
    "limits",
    "run",
    "server",
    "attack",
    "compare",
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

    /// Takes a number of shards, slices or sequences.
    fn take_size(&self, table: &mut Table, section: &str, key: &str) -> Result<u32, EngineError> {
        let value: i64 = self.take(table, section, key, None)?;
        let path = format!("{section}.{key}");
        // The range of a size is checked with the pipeline; a number beyond any integer of it is refused here.
        u32::try_from(value).map_err(|_| self.refuse(&path, size_problem(&path, value)))
    }

    fn read_value<T: DeserializeOwned>(&self, path: &str, value: Value) -> Result<T, EngineError> {
        self.lines.read_value(path, value)
    }

    /// The task and its class names.
    fn task(&self, data: &mut Table) -> Result<(Task, Labels), EngineError> {
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
        let labels = Labels::new(labels).map_err(|error| self.refuse("data.labels", error.to_string()))?;
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
    fn prior(&self, sequences: &mut Table, base_dir: &Path, limits: &Limits) -> Result<PriorSource, EngineError> {
        match sequences.remove("prior") {
            None => Ok(PriorSource::Given(Prior::Uniform)),
            Some(Value::String(file)) => {
                let read = s3t_data::read_probabilities(&base_dir.join(file), limits);
                let subjects = read.map_err(|error| self.refuse("sequences.prior", error.to_string()))?;
                Ok(PriorSource::Subjects(subjects))
            }
            Some(value @ Value::Array(_)) => {
                Ok(PriorSource::Given(Prior::PerSlice(self.read_value("sequences.prior", value)?)))
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

    /// The section `[training]`, whose seed is that of the whole pipeline if it has none.
    fn training(&mut self, seed: u64) -> Result<TrainingConfig, EngineError> {
        if self.has("training.batch_size") && self.has("training.batch_tokens") {
            let problem =
                "`training.batch_tokens` and `training.batch_size` both say how large a batch is; give one of them";
            return Err(self.refuse("training.batch_tokens", problem));
        }
        let own_seed = self.has("training.seed");
        let mut training: TrainingConfig = self.whole_section("training")?;
        if !own_seed {
            training.seed = seed;
        }
        Ok(training)
    }

    fn serving(&mut self) -> Result<ServingSettings, EngineError> {
        let mut settings = ServingSettings::default();
        if !self.root.contains_key("serving") {
            return Ok(settings);
        }
        let mut table = self.section("serving")?;
        settings.dead_shard = self.take(&mut table, "serving", "dead_shard", Some(settings.dead_shard))?;
        settings.precision = self.take(&mut table, "serving", "precision", Some(settings.precision))?;
        let (members, aggregator) = ("serving.members", "serving.aggregator");
        if let Some(value) = table.remove("members") {
            let value = self.table(value, members, "all-live")?;
            settings.members = self.plugin::<dyn Members>(value, members, PluginKind::Members)?;
        }
        if let Some(value) = table.remove("aggregator") {
            let value = self.table(value, aggregator, "mean-logits")?;
            settings.aggregator = self.plugin::<dyn Aggregator>(value, aggregator, PluginKind::Aggregator)?;
        }
        settings.generation = self.take(&mut table, "serving", "generation", Some(settings.generation))?;
        let GenerationSettings { max_texts, max_waiting, cache_mb, .. } = settings.generation;
        let sizes = [("max_texts", max_texts), ("max_waiting", max_waiting), ("cache_mb", cache_mb)];
        if let Some((name, value)) = sizes.into_iter().find(|(_, value)| !(1..=MAX_SIZE).contains(value)) {
            let problem = format!("`serving.generation.{name}` is {value}; it takes 1 to {MAX_SIZE}");
            return Err(self.refuse(&format!("serving.generation.{name}"), problem));
        }
        self.nothing_left(&table, "serving", &["aggregator", "dead_shard", "generation", "members", "precision"])?;
        Ok(settings)
    }

    /// The table of a plugin inside a section; `example` is the name of one.
    fn table(&self, value: Value, key: &str, example: &str) -> Result<Table, EngineError> {
        match value {
            Value::Table(table) => Ok(table),
            _ => Err(self.refuse(key, format!("`{key}` is a table, for example {{ type = \"{example}\" }}"))),
        }
    }

    /// The executor; without a section the one that trains in this process.
    fn executor(&mut self) -> Result<Box<dyn Executor>, EngineError> {
        if !self.root.contains_key("executor") {
            return Ok(Box::new(Local {}));
        }
        let table = self.section("executor")?;
        self.plugin::<dyn Executor>(table, "executor", PluginKind::Executor)
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
