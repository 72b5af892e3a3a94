use s3t_backends::BackendError;
use s3t_core::{BlockRange, CoreError, StageKey};
use s3t_executor::ExecutorError;
use s3t_models::ModelError;
use s3t_peft::PeftError;

/// Everything that can go wrong while a stage is trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A training setting that cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field, as it is written in a pipeline file.
        field: &'static str,
        /// The mistake, and the values that are allowed.
        problem: String,
    },
    /// A lineage whose settings cannot be read back.
    #[error("stage {key}: its lineage cannot be read: {problem}; it was written by another version of this program")]
    Lineage {
        /// The stage.
        key: StageKey,
        /// The mistake.
        problem: String,
    },
    /// A stage in another precision than that in which the base model was loaded.
    #[error(
        "stage {key} is trained in {wanted}, but the base model was loaded in {loaded}; load it with `LoadOptions::precision`"
    )]
    OtherPrecision {
        /// The stage.
        key: StageKey,
        /// The precision of the stage.
        wanted: &'static str,
        /// The precision of the loaded model.
        loaded: &'static str,
    },
    /// A stage without records.
    #[error("stage {0} has no records to train on; use fewer slices or more data")]
    NoRecords(StageKey),
    /// A layer of the base model that a method divides by, and that has nothing to divide by.
    #[error(
        "the weights of output {output} of `{site}` in block {block} are all 0, and the method divides by their length; leave `{site}` out of \
         `peft.targets`, or take another method"
    )]
    NoLength {
        /// The block.
        block: usize,
        /// The layer.
        site: &'static str,
        /// The output.
        output: usize,
    },
    /// A loss that is not a number.
    #[error("stage {key}: the loss is {loss} in step {step}; lower `learning_rate` or raise `warmup`")]
    Diverged {
        /// The stage.
        key: StageKey,
        /// The step, from 1.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// A parameter with a value that is not finite.
    #[error("stage {key}: parameter `{tensor}` is not finite after training; lower `learning_rate`")]
    NotFinite {
        /// The stage.
        key: StageKey,
        /// The parameter.
        tensor: String,
    },
    /// Parameters that training did not change.
    #[error("stage {key}: no parameter of `{part}` moved in training; raise `learning_rate` or `epochs`")]
    NotMoved {
        /// The stage.
        key: StageKey,
        /// A block (`blocks.4`) or `head`.
        part: String,
    },
    /// A stage with tensors outside its own layer group.
    #[error(
        "stage {key} holds `{tensor}`, but its group is the blocks {group}; a stage holds its group, its head and its centroid only"
    )]
    Isolation {
        /// The stage.
        key: StageKey,
        /// The tensor that does not belong.
        tensor: String,
        /// The stage's group.
        group: BlockRange,
    },
    /// A stage whose centroid is not what its lineage asks for.
    #[error("stage {key} has {found}, but `training.centroid` is {wanted} in its lineage; train it again")]
    Centroid {
        /// The stage.
        key: StageKey,
        /// The centroid in words.
        found: String,
        /// The setting.
        wanted: bool,
    },
    /// The caller asked to stop.
    #[error("stopped before stage {0} was finished; finished stages are kept, run the same command to go on")]
    Interrupted(StageKey),
    /// Stages that do not make a chain.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A PEFT method that failed.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// A model that failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A device that was not compiled in.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The machine starts no thread, and the caller's cannot be used.
    #[error("no thread can be started for tensor operations; raise the limit of processes (`ulimit -u`)")]
    NoThread,
}

impl TrainError {
    /// The error as an executor tells it: training that failed with a message, or a stage that was cancelled.
    pub(crate) fn of_stage(self, key: StageKey) -> ExecutorError {
        match self {
            Self::Interrupted(key) => ExecutorError::Cancelled(key),
            Self::NoThread => ExecutorError::Refused { worker: "this process".into(), problem: self.to_string() },
            other => ExecutorError::Training { key, message: other.to_string() },
        }
    }
}
