use std::path::PathBuf;

use s3t_engine::EngineError;
use s3t_models::ModelError;
use s3t_peft::PeftError;
use s3t_store::StoreError;
use s3t_train::TrainError;

/// Everything that can be wrong with an adapter or an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// A file that cannot be read.
    #[error(
        "cannot read `{path}`: {cause}; an adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write `{path}`: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A folder for an export that is there already.
    #[error("`{0}` exists already; an export goes to a new folder, so that no older one is taken for it")]
    Exists(PathBuf),
    /// A configuration that cannot be used.
    #[error("`{path}`: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// Tensors that the configuration asks for and the file lacks, or the other way round.
    #[error("`{path}`: {problem}")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A deletion while the export was written.
    #[error("a deletion has hit what was being exported; nothing was kept, export again")]
    Overtaken,
    /// A model on which another library would compute something else.
    #[error("the adapter cannot be exported: {0}; use a model that was saved with all its layers")]
    Head(&'static str),
    /// A method without a form in PEFT.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// A model or a weight file that cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A system that cannot be exported.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A store that cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stage that cannot be used.
    #[error(transparent)]
    Train(#[from] TrainError),
}
