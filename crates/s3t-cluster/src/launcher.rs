//! Engines that people have already: they provide machines, and are told nothing of stages.

use std::fmt::Debug;

use crate::{ClusterError, Invitation};

/// The program that a worker runs: `s3t worker --connect ADDRESS`, with the invitation in the variable
/// [`INVITATION`](crate::INVITATION).
#[derive(Debug, Clone)]
pub struct Call {
    /// The host and the port of the owner.
    pub address: String,
    /// The secret that lets the worker join. It is never an argument, because everybody on a machine can read those.
    pub invitation: Invitation,
}

/// A worker, as its engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The engine's name for it, which the worker tells the owner.
    pub name: String,
    /// Its state.
    pub state: TaskState,
}

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// It waits for a machine.
    Queued,
    /// It runs, or the engine thinks so.
    Running,
    /// It has ended, in the engine's own words.
    Ended(Ending, String),
}

/// The meaning of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The worker has nothing to do with it: its machine was needed or failed, or its time was up. Another is started.
    Again,
    /// The worker failed. Another is started, a bounded number of times.
    Failed,
    /// Another would end in the same way, or somebody does not want it. No other is started.
    Final,
}

/// An engine that starts workers.
///
/// # Contract
///
/// Every call returns within a time of its own, whatever the engine does. A worker that was started twice, or whose end the engine has
/// not noticed, is harmless.
pub trait Launcher: Debug + Send + Sync {
    /// The name of the engine, for messages.
    fn engine(&self) -> &str;

    /// The step that the user has to take so that workers come, where the engine does not start them itself.
    fn to_do(&self) -> Option<String> {
        None
    }

    /// Starts up to this many workers, and returns the number that the engine took: fewer where its limits allow no more.
    ///
    /// A call that failed may have started workers all the same. It is repeated with the same `number`, and then looks for these first.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoAnswer`] if the engine does not answer now, [`ClusterError::Engine`] if it refuses.
    fn submit(&self, number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError>;

    /// The workers that were started, as far as the engine still knows them.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    fn tasks(&self) -> Result<Vec<Task>, ClusterError>;

    /// Ends all workers that were started.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    fn cancel(&self) -> Result<(), ClusterError>;

    /// The end of what a worker wrote, where the engine keeps it.
    fn log(&self, task: &str) -> Option<String>;
}

/// The words of an engine and of a worker's log about its end, for a message.
pub(crate) fn words_about(launcher: &dyn Launcher, task: &str) -> String {
    if task.is_empty() {
        return String::new();
    }
    let tasks = launcher.tasks().unwrap_or_default();
    let state = tasks.into_iter().find(|found| found.name == task).map(|task| task.state);
    let words = match state {
        Some(TaskState::Ended(_, words)) => format!("; {} says {words}", launcher.engine()),
        _ => String::new(),
    };
    words + &log_of(launcher, task)
}

/// The end of a worker's log, for a message.
pub(crate) fn log_of(launcher: &dyn Launcher, task: &str) -> String {
    launcher.log(task).map(|log| format!("; the end of its log: {log}")).unwrap_or_default()
}
