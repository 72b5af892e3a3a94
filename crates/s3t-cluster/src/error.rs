use std::time::Duration;

use s3t_executor::ExecutorError;

/// Everything that can go wrong between the owner of a store, its workers and the engine that starts them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A text that is no invitation.
    #[error(
        "the invitation {0}; give the text that the owner of the store wrote, which begins with `s3t-invitation-1.`"
    )]
    Invitation(&'static str),
    /// An owner that cannot be reached.
    #[error("no owner of a store answers at {address} for {} seconds: {problem}; look at the address, and at firewalls between the machines", patience.as_secs())]
    Unreachable {
        /// The address.
        address: String,
        /// The time that was waited.
        patience: Duration,
        /// The last failure.
        problem: String,
    },
    /// A connection that is not secure, or ended while the two sides greeted each other.
    #[error("the connection with {peer} failed: {problem}")]
    Connection {
        /// The other side.
        peer: String,
        /// The failure.
        problem: String,
    },
    /// An owner that does not take this worker.
    #[error("the owner of the store refuses this worker: {0}")]
    Refused(String),
    /// An address on which nobody can listen.
    #[error(
        "`listen` is {address}, where this machine cannot listen: {problem}; give an address of this machine and a free port, such as 0.0.0.0:0"
    )]
    Listen {
        /// The address.
        address: String,
        /// The failure.
        problem: String,
    },
    /// A file or a folder that cannot be used.
    #[error("cannot {action} {path}: {problem}")]
    File {
        /// The action.
        action: &'static str,
        /// The path.
        path: String,
        /// The failure.
        problem: String,
    },
    /// An engine that did not answer in time. It may have done what it was asked for.
    #[error("{engine} did not answer `{command}` within {} seconds", limit.as_secs_f64())]
    NoAnswer {
        /// The engine.
        engine: String,
        /// The command or the address.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// An engine that refused.
    #[error("{engine} refused `{command}`: {problem}")]
    Engine {
        /// The engine.
        engine: String,
        /// The command or the address.
        command: String,
        /// The engine's own words.
        problem: String,
    },
    /// A machine that does not give what is needed.
    #[error("{0}")]
    Machine(String),
}

impl ClusterError {
    /// The same as an error of an executor that cannot be started.
    pub fn of_start(self, place: &str) -> ExecutorError {
        ExecutorError::StartFailed { place: place.to_owned(), problem: self.to_string() }
    }
}
