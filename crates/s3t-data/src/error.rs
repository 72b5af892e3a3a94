use std::path::PathBuf;

/// Everything that can be wrong with data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that cannot be read.
    #[error("cannot read `{path}`: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file whose bytes are not what its format asks for.
    #[error("`{path}`: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// The problem, and the form that was expected.
        problem: String,
    },
    /// A line that cannot be used.
    #[error("`{path}` line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1, as an editor shows it.
        line: u64,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A list of labels that cannot be used.
    #[error("the list of labels {0}")]
    Labels(String),
    /// A measure of near-duplicates that cannot be used.
    #[error("{0}")]
    Duplicates(String),
}

impl DataError {
    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn line(path: impl Into<PathBuf>, line: u64, problem: impl Into<String>) -> Self {
        Self::Line { path: path.into(), line, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// A message contains its cause, so the cause is not given as a source too: whoever prints a chain would print it twice.
    #[test]
    fn no_cause_is_printed_twice() {
        let error = DataError::Read { path: "place".into(), cause: std::io::Error::other("the cause") };
        assert!(error.to_string().contains("the cause") && error.source().is_none(), "{error}");
    }
}
