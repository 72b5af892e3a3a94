use s3t_core::{Digest, NumericEnvironment, StageKey};

/// Everything that can go wrong where a stage is trained. Failures of the place (a worker that died, a damaged frame) are apart from
/// failures of training, which another place would repeat.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// A field of an executor that cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field, as it is written in a pipeline file.
        field: &'static str,
        /// The mistake, and the values that are allowed.
        problem: String,
    },
    /// An executor or a worker that could not be started.
    #[error("{place} cannot be started: {problem}")]
    StartFailed {
        /// The executor or the worker.
        place: String,
        /// The cause, and a remedy.
        problem: String,
    },
    /// A worker that ended before it answered.
    #[error("{worker} ended before it answered: {problem}")]
    WorkerDied {
        /// The worker.
        worker: String,
        /// The way in which the worker ended.
        problem: String,
    },
    /// A stage with which every worker ended that was given it.
    #[error(
        "stage {key}: {workers} workers ended while they trained it, the last like this: {last}; look for lack of memory, or \
         raise `executor.restarts`"
    )]
    GaveUp {
        /// The stage.
        key: StageKey,
        /// The number of workers.
        workers: usize,
        /// The last failure.
        last: Box<Self>,
    },
    /// A worker that showed no sign of life for too long.
    #[error(
        "{worker} has shown no sign of life for {seconds} seconds; raise `executor.silence_seconds` if its machine is slow"
    )]
    TimedOut {
        /// The worker.
        worker: String,
        /// The time that was waited.
        seconds: f64,
    },
    /// A job that a worker does not take.
    #[error("{worker} refused the job: {problem}")]
    Refused {
        /// The worker.
        worker: String,
        /// The reason.
        problem: String,
    },
    /// A worker of which the arithmetic is not that of the executor.
    #[error(
        "{worker} computes with {found}, the executor with {expected}; bits are comparable on equal arithmetic only: use machines \
         and programs of one kind"
    )]
    OtherArithmetic {
        /// The worker.
        worker: String,
        /// The arithmetic of the executor.
        expected: Box<NumericEnvironment>,
        /// The arithmetic of the worker.
        found: Box<NumericEnvironment>,
    },
    /// A base model that is not the one of the job or of the store.
    #[error("the base model is {found}, and the stages are trained on {expected}; give the worker the same files")]
    OtherModel {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the model that is there.
        found: Digest,
    },
    /// A worker that answered for another stage than it was asked for.
    #[error("{worker} was asked for stage {asked} and answered for {answered}; its answer was dropped")]
    WrongAnswer {
        /// The worker.
        worker: String,
        /// The stage that it was asked for.
        asked: StageKey,
        /// The stage that it answered for.
        answered: StageKey,
    },
    /// A frame that was changed on its way, or that holds something else than a frame.
    #[error("a damaged frame: {0}; it was dropped")]
    Damaged(String),
    /// A frame of another version of the protocol.
    #[error("a frame of version {found}, and this program speaks version {expected}; use one build on both sides")]
    OtherVersion {
        /// The version of the frame.
        found: u16,
        /// The version of this program.
        expected: u16,
    },
    /// Object storage that does not do what it is asked for.
    #[error("object storage {place} {problem}")]
    Storage {
        /// Its address.
        place: String,
        /// The failure, and a remedy.
        problem: String,
    },
    /// An object that is not there.
    #[error(
        "object storage {place} has no object `{name}`; while stages are trained, nothing else may remove what is below that address"
    )]
    NoObject {
        /// The address of its folder.
        place: String,
        /// Its name.
        name: String,
    },
    /// An object that is not the one that was left.
    #[error(
        "the object `{name}` in object storage {place} is not the one that was left there: {problem}; while stages are trained, nothing \
         else may write below that address"
    )]
    OtherObject {
        /// The address of its folder.
        place: String,
        /// Its name.
        name: String,
        /// The difference.
        problem: String,
    },
    /// A worker that could not fetch a part of its job.
    #[error("{worker} could not fetch its job: {problem}")]
    Unfetched {
        /// The worker.
        worker: String,
        /// The failure.
        problem: String,
    },
    /// A stage that nobody wants any more, or a caller that asked to stop.
    #[error("stopped before stage {0} was finished; finished stages are kept, run the same command to go on")]
    Cancelled(StageKey),
    /// Training itself failed, where the stage was trained. It would fail everywhere.
    #[error("{message}")]
    Training {
        /// The stage.
        key: StageKey,
        /// The message of the failure; it names the stage.
        message: String,
    },
}

impl ExecutorError {
    /// Returns `true` for a failure of the place alone: another worker may train the stage.
    ///
    /// ```
    /// use s3t_executor::ExecutorError;
    ///
    /// let died = ExecutorError::WorkerDied { worker: "worker 1".into(), problem: "signal 9".into() };
    /// let refused = ExecutorError::Refused { worker: "worker 1".into(), problem: "no such model".into() };
    /// assert!(died.is_of_the_worker() && !refused.is_of_the_worker());
    /// ```
    pub fn is_of_the_worker(&self) -> bool {
        matches!(self, Self::WorkerDied { .. } | Self::TimedOut { .. } | Self::Damaged(_))
    }
}
