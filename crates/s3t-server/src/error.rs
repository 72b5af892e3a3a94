use std::path::PathBuf;

use s3t_api::{ApiError, ErrorKind};
use s3t_engine::EngineError;

/// The reasons for which a server does not start, or tokens cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A system that cannot be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Settings that cannot be used.
    #[error("the server's `{key}` {problem}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// The problem, and the values that are taken.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("cannot {action} `{path}`: {source}")]
    File {
        /// The action.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file whose content cannot be used.
    #[error("`{path}` cannot be used: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem, and the way out.
        problem: String,
    },
    /// The server's own database.
    #[error("the server's database `{path}`: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}; give another in `server.address` or `--address`")]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// An address that others reach, without tokens.
    #[error(
        "{address} can be reached from other machines, but there is no token in `{tokens}`: make one with `s3t token create`, or \
         listen on 127.0.0.1"
    )]
    Open {
        /// The address.
        address: String,
        /// The file of tokens.
        tokens: PathBuf,
    },
    /// A thread, or the operating system's random numbers, that cannot be had.
    #[error("cannot {action}: {problem}")]
    System {
        /// The action.
        action: &'static str,
        /// The cause.
        problem: String,
    },
    /// A token that is not in the file.
    #[error("no token `{id}` in `{path}`; `s3t token list` shows the ids")]
    UnknownToken {
        /// The id.
        id: String,
        /// The file.
        path: PathBuf,
    },
}

impl ServerError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn content(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Content { path: path.into(), problem: problem.into() }
    }
}

impl From<ServerError> for ApiError {
    fn from(error: ServerError) -> Self {
        let message = error.to_string();
        match error {
            ServerError::Engine(error) => error.into(),
            ServerError::Setting { .. } | ServerError::Content { .. } | ServerError::Open { .. } => {
                Self::new(ErrorKind::Refused, message)
            }
            ServerError::UnknownToken { .. } => Self::new(ErrorKind::Unknown, message),
            _ => Self::new(ErrorKind::Failed, message),
        }
    }
}
