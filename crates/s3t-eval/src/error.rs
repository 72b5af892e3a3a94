use std::path::PathBuf;

use s3t_core::CoreError;

/// Everything that can be wrong with a simulation, a trace or a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A field whose value cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field.
        field: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A recorded stream that cannot be read.
    #[error("{}:{line}: {problem}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A picture that could not be drawn.
    #[error("cannot draw the picture: {0}")]
    Plot(String),
    /// Something of the mathematics.
    #[error(transparent)]
    Core(#[from] CoreError),
}
