use std::path::PathBuf;

use s3t_core::CoreError;

/// The refusals of a simulation or a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// A field whose value cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field.
        field: String,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A recorded stream that cannot be read.
    #[error("{}:{line}: {problem}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The problem with the line.
        problem: String,
    },
    /// A refusal of the mathematics.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl SimulationError {
    /// A [`SimulationError::InvalidField`].
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }
}
