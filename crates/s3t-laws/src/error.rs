use std::path::PathBuf;

/// Every failure of a system under test, and every refused input of the tester.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LawsError {
    /// A command that cannot be started.
    #[error(
        "cannot start `{command}`: {error}; give the command after `--`, for example `s3t-laws check -- python3 system.py`"
    )]
    Start {
        /// The command.
        command: String,
        /// The cause.
        #[source]
        error: std::io::Error,
    },
    /// A process that ended before it answered.
    #[error("the system ended during `{op}` ({status}) without a response{}", tail(stderr))]
    Died {
        /// The request it did not answer.
        op: String,
        /// The exit status.
        status: String,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// A process that did not answer in time.
    #[error(
        "the system did not answer `{op}` within {seconds} s and was killed; allow more with `--time-limit`{}",
        tail(stderr)
    )]
    Hung {
        /// The request it did not answer.
        op: String,
        /// The time limit.
        seconds: f64,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// A response that does not follow the protocol.
    #[error("the response to `{op}` is not one of protocol 1: {problem}; the line was `{line}`{}", tail(stderr))]
    Nonsense {
        /// The request.
        op: String,
        /// The fault, and the expected form.
        problem: String,
        /// The start of the line.
        line: String,
        /// The last lines of the system's standard error.
        stderr: String,
    },
    /// A request that the system refused or failed to do.
    #[error("the system refused `{op}`: {message}")]
    Refused {
        /// The request.
        op: String,
        /// The system's own words.
        message: String,
    },
    /// A setting that cannot be used.
    #[error("`{setting}` {problem}")]
    InvalidSetting {
        /// The setting, as the command line names it.
        setting: &'static str,
        /// The fault, and the allowed values.
        problem: String,
    },
    /// A line of a data file that cannot be used.
    #[error("{}, line {line}: {problem}", path.display())]
    InvalidLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The fault.
        problem: String,
    },
    /// A file or folder of the tester that cannot be read or made.
    #[error("cannot {action} {}: {error}", path.display())]
    File {
        /// `read` or `make`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        error: std::io::Error,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it wrote to its standard error:\n{stderr}") }
}
