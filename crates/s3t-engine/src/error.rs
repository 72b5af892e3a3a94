use std::path::PathBuf;

use s3t_backends::BackendError;
use s3t_core::{CoreError, NumericEnvironment, RecordId, StageKey};
use s3t_data::DataError;
use s3t_executor::ExecutorError;
use s3t_ledger::Epoch;
use s3t_models::ModelError;
use s3t_store::StoreError;
use s3t_train::TrainError;

/// Everything that can go wrong in the system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A pipeline file that cannot be read.
    #[error("cannot read the pipeline file `{path}`: {cause}; `s3t init` writes one to start from")]
    ReadPipeline {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A pipeline file that cannot be used.
    #[error("{file}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Pipeline {
        /// The file.
        file: String,
        /// The line, from 1, of a pipeline that was read from a file.
        line: Option<usize>,
        /// The key, as `section.key`.
        key: String,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A store that was made with other settings.
    #[error(
        "the store `{store}` was made with {key} = {stored}, but the pipeline says {asked}; give another store path, or \
         use --fresh to delete the store and start again"
    )]
    StoreMismatch {
        /// The store.
        store: PathBuf,
        /// The setting.
        key: String,
        /// Its value in the store.
        stored: String,
        /// Its value in the pipeline.
        asked: String,
    },
    /// Training or verifying on another arithmetic than the store's.
    #[error(
        "the store was trained with {stored}, but the executor computes with {here}; bits are comparable on equal arithmetic only: serving and deleting work here. Train, repair and verify with the version of s3t and the kind of device that made it, or train a new store"
    )]
    Environment {
        /// The store's.
        stored: Box<NumericEnvironment>,
        /// The executor's.
        here: Box<NumericEnvironment>,
    },
    /// A failure after a deletion was accepted.
    #[error(
        "deletion {epoch} stands: it is accepted and in effect. After that: {cause}; the same request under the same id gives \
         its receipt"
    )]
    Unfinished {
        /// The deletion.
        epoch: Epoch,
        /// The failure.
        cause: StoreError,
    },
    /// Starting afresh would bring deleted records back.
    #[error(
        "the store `{store}` has accepted {deletions}, and --fresh would train again on what the source of the data holds: if the \
         deleted records are still in it, they come back; take them out, then say --yes"
    )]
    Resurrection {
        /// The store.
        store: PathBuf,
        /// The deletions, in words.
        deletions: String,
    },
    /// Starting afresh would forget where adapters were written.
    #[error(
        "the store `{store}` has written {}, of {} in all, which a deletion would remove; a new store would not know of them: remove them, or say \
         --yes to leave them where they are",
        folders.iter().take(8).map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(", "),
        folders.len()
    )]
    LeavesExports {
        /// The store.
        store: PathBuf,
        /// The folders of the adapters.
        folders: Vec<PathBuf>,
    },
    /// A folder that is to be deleted as a store and is not a store.
    #[error("`{0}` is not a store, so --fresh does not delete it")]
    NotAStoreToDelete(PathBuf),
    /// A file for a receipt that cannot be made.
    #[error("cannot write the receipt `{path}`: {cause}; nothing was done")]
    ReserveReceipt {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file for a receipt that holds something else.
    #[error("`{0}` exists already; a receipt is a new file, or the one of the same request")]
    ReceiptExists(PathBuf),
    /// A receipt that cannot be written after its deletion.
    #[error(
        "deletion {epoch} stands: it is accepted and in effect; but its receipt `{path}` cannot be written: {cause}; the same \
         request under the same id, `{request}`, gives it again"
    )]
    DeliverReceipt {
        /// The request's id.
        request: String,
        /// The deletion.
        epoch: Epoch,
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A pipeline whose store was not made yet, where a store is needed.
    #[error("there is no store at `{store}`; `s3t train{file}` makes it")]
    NoStore {
        /// The store.
        store: PathBuf,
        /// The pipeline file, after a blank; empty for a pipeline that was not read from a file.
        file: String,
    },
    /// A text that cannot be continued.
    #[error(transparent)]
    Generate(#[from] s3t_generate::GenerateError),
    /// Too many texts wait.
    #[error(
        "{waiting} texts wait to be continued, as many as may wait; ask again later, or raise `serving.generation.max_waiting`"
    )]
    Busy {
        /// The texts that wait.
        waiting: usize,
    },
    /// No shard can answer.
    #[error(
        "no shard has a live sequence, so nothing can answer; run `s3t repair`, unless no record is left to learn from"
    )]
    NothingServes,
    /// A state of the leader that cannot be used.
    #[error("the leader's state cannot be used: {problem}")]
    LeaderState {
        /// The problem.
        problem: String,
    },
    /// A stage of the leader that cannot be used.
    #[error("stage {key} of the leader cannot be used: {problem}")]
    LeaderStage {
        /// The stage.
        key: StageKey,
        /// The problem.
        problem: String,
    },
    /// A follower that does not have its leader's stages yet.
    #[error("this follower catches up with its leader: {held} of {wanted} stages are there")]
    CatchingUp {
        /// The stages that have arrived.
        held: usize,
        /// The live stages of the leader.
        wanted: usize,
    },
    /// No records where some are needed.
    #[error("no record to work on: {0}")]
    NoRecords(String),
    /// A token to which the combined answer gives no probability, where its logarithm is needed.
    #[error(
        "the aggregator gives token {token} of record `{record}` a probability of 0, so the record has no likelihood; use \
         `mean-logits` as `serving.aggregator`"
    )]
    NoLikelihood {
        /// The record.
        record: String,
        /// The number of the token.
        token: u32,
    },
    /// A record with a target that the task does not learn.
    #[error("record `{record}` has {found}, which task `{task}` cannot learn; see `data.task`")]
    WrongTarget {
        /// The record.
        record: RecordId,
        /// The task.
        task: &'static str,
        /// The kind of target that the record has.
        found: &'static str,
    },
    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A device that cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A model that cannot be used, or a record that it cannot take.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A store that cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model or a thread that could not be made for answers.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A stage that could not be trained, a cancellation, or an executor that failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// Settings that make no sense.
    #[error(transparent)]
    Core(#[from] CoreError),
}
