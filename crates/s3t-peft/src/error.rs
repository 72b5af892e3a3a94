/// A PEFT method whose configuration or tensors cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    /// A field whose value cannot be used.
    #[error("`{field}` {problem}")]
    InvalidField {
        /// The field, as it is written in a pipeline file.
        field: String,
        /// The problem, and the values that are accepted.
        problem: String,
    },
    /// A missing parameter.
    #[error("parameter `{name}` is missing; present: {}", .present.join(", "))]
    MissingParameter {
        /// The parameter asked for.
        name: String,
        /// The parameters that are present.
        present: Vec<String>,
    },
    /// A parameter of another shape than its method declares.
    #[error("parameter `{name}` has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The parameter.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape it must have.
        expected: Vec<usize>,
    },
    /// An adapter of Hugging Face PEFT that no linked method reads.
    #[error("{0}")]
    UnknownAdapter(String),
    /// A method that the files of Hugging Face PEFT cannot hold.
    #[error("`{method}` cannot be written as a Hugging Face PEFT adapter: {reason}")]
    NoInterchange {
        /// The method.
        method: String,
        /// The reason.
        reason: String,
    },
}

impl PeftError {
    /// A [`PeftError::InvalidField`].
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }
}
