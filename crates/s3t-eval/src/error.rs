use std::path::PathBuf;

use s3t_attack::AttackError;
use s3t_data::DataError;
use s3t_engine::EngineError;

/// Everything that can go wrong in an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file of a task or of canaries that cannot be read.
    #[error("cannot read `{path}`: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file of a task or of canaries that cannot be used.
    #[error("{file}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// The file.
        file: String,
        /// The line, from 1, where one line is at fault.
        line: Option<usize>,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A system that does not continue texts.
    #[error("the pipeline's task is `{0}`; {1} needs `data.task = \"causal-lm\"`")]
    NotCausal(&'static str, &'static str),
    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A system that cannot answer, or a text that its model cannot take.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Figures from which no measure can be computed.
    #[error(transparent)]
    Attack(#[from] AttackError),
}
