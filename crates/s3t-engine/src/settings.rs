//! The sections of a pipeline file that say how to run, not what to train. They are not part of any lineage.

use s3t_core::aggregate::MeanLogits;
use s3t_core::budget::prior::rates_of_prior;
use s3t_core::digest::DigestBuilder;
use s3t_core::members::Deepest;
use s3t_core::placement::rates_of_subjects;
use s3t_core::{Aggregator, CoreError, Members, PartitionShape, Partitioner, PerShard, Prior, StoreSecret, SubjectId};
use s3t_models::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The behaviour of a shard without a live sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeadShard {
    /// The shard is left out of the ensemble.
    #[default]
    LeaveOut,
    /// The shard answers with the base model's own head: for classes, or of a language model.
    Base,
}

/// The settings of the ensemble's answers.
#[derive(Debug)]
pub struct ServingSettings {
    /// Chooses the live prefixes of each shard that answer.
    pub members: Box<dyn Members>,
    /// Combines the members' logits.
    pub aggregator: Box<dyn Aggregator>,
    /// The behaviour of a shard without a live sequence.
    pub dead_shard: DeadShard,
    /// The precision of the products with frozen weights in answers; that of training if it is left out. It changes no stage. A process
    /// that trains too keeps the base model in both.
    pub precision: Option<Precision>,
    /// Texts that are continued.
    pub generation: GenerationSettings,
}

impl Default for ServingSettings {
    fn default() -> Self {
        Self {
            members: Box::new(Deepest {}),
            aggregator: Box::new(MeanLogits {}),
            dead_shard: DeadShard::default(),
            precision: None,
            generation: GenerationSettings::default(),
        }
    }
}

/// The treatment of a text that is being continued when a deletion switches off a stage it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeletion {
    /// It ends at once, with that reason.
    #[default]
    Stop,
    /// It goes on with what lives, and says so.
    Continue,
}

/// The settings of language models that continue texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationSettings {
    /// The largest number of texts that are continued at a time.
    pub max_texts: usize,
    /// The largest number of texts that wait.
    pub max_waiting: usize,
    /// Megabytes of memory for keys and values.
    pub cache_mb: usize,
    /// The treatment of texts when a deletion switches off a stage that they come from.
    pub on_deletion: OnDeletion,
}

impl Default for GenerationSettings {
    fn default() -> Self {
        Self { max_texts: 32, max_waiting: 256, cache_mb: 512, on_deletion: OnDeletion::Stop }
    }
}

/// The source of a new store's secret. The secret decides where records go and hides the ids of deleted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// Drawn from the operating system: for stores that hold people's data.
    #[default]
    Random,
    /// Derived from the pipeline's seed, so that everybody gets the same figures: for public data only, since whoever has
    /// the pipeline file has the secret.
    FromSeed,
}

impl SecretSource {
    /// The secret; `None` if it is to be drawn.
    pub fn secret(self, seed: u64) -> Option<StoreSecret> {
        match self {
            Self::Random => None,
            Self::FromSeed => {
                let digest = DigestBuilder::new("public store secret").number(seed).finish();
                Some(StoreSecret::from_bytes(*digest.as_bytes()))
            }
        }
    }
}

/// The source of the prior of the sequences.
#[derive(Debug, Clone, PartialEq)]
pub enum PriorSource {
    /// One prior for all shards.
    Given(Prior),
    /// The probability that each subject asks: each shard has its own prior, by where the partition puts its subjects. The
    /// sequences are chosen once, when the store is made.
    Subjects(Vec<(SubjectId, f64)>),
}

impl PriorSource {
    /// The probability that a request hits each slice of each shard.
    ///
    /// # Errors
    ///
    /// As [`rates_of_subjects`].
    pub fn rates(
        &self,
        partitioner: &dyn Partitioner,
        shape: PartitionShape,
        secret: &StoreSecret,
    ) -> Result<PerShard<Vec<f64>>, CoreError> {
        match self {
            Self::Given(prior) => Ok(rates_of_prior(prior, shape)),
            Self::Subjects(subjects) => rates_of_subjects(subjects, partitioner, shape, secret),
        }
    }
}

/// The threads, memory and disk that a process may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Stages trained side by side, at most 1024; 0 for one a core.
    pub jobs: usize,
    /// Megabytes of memory for the outputs of frozen blocks.
    pub activation_memory_mb: usize,
    /// Megabytes of disk, in the store's folder while a process runs, for what does not fit into memory; beyond it they are computed
    /// again.
    pub activation_disk_mb: usize,
    /// True to keep the graph of one block at a time in memory while a stage is trained, and to compute each block twice: for long
    /// texts and large models. No bit changes.
    pub gradient_checkpointing: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self { jobs: 0, activation_memory_mb: 512, activation_disk_mb: 4096, gradient_checkpointing: false }
    }
}

impl Resources {
    /// The number of jobs, with 0 resolved.
    pub fn job_count(&self) -> usize {
        if self.jobs > 0 { self.jobs } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
    }
}

/// The stages that a verification trains again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyScope {
    /// The stages that answer now.
    #[default]
    Serving,
    /// All stages on disk.
    All,
    /// No stages: lineages and files only.
    Lineages,
}

/// The mean and standard deviation of a score, each as a share of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

/// Scores of earlier runs with several seeds, which `s3t run` prints beside those of the one run: a single seed may be a lucky one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverSeeds {
    /// The number of seeds.
    pub seeds: usize,
    /// Ordinary fine-tuning.
    pub baseline: Spread,
    /// The ensemble before a deletion.
    pub before: Spread,
    /// The ensemble after one deletion.
    pub after: Spread,
}

/// The steps of `s3t run` after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Subjects to delete.
    pub delete_subjects: Vec<String>,
    /// Records to delete.
    pub delete_records: Vec<String>,
    /// `true` fine-tunes all blocks on all data as well, for comparison.
    pub baseline: bool,
    /// The stages that are trained again to compare bits: `serving`, `all` or `lineages`.
    pub verify: VerifyScope,
    /// Prompts that a language model answers before and after the deletion: texts, or where records are chats what a user says.
    pub ask: Vec<String>,
    /// Scores of earlier runs with several seeds, to be printed beside this run's.
    pub over_seeds: Option<OverSeeds>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            delete_subjects: Vec::new(),
            delete_records: Vec::new(),
            baseline: true,
            verify: VerifyScope::Serving,
            ask: Vec::new(),
            over_seeds: None,
        }
    }
}
