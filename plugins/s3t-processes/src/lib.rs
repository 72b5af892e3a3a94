//! The executor `processes`: stages are trained by child processes on this machine.
//!
//! A child is a program that speaks the protocol of `s3t_executor::work` on its standard input and output, as `s3t worker` does.

mod child;
mod pool;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use s3t_executor::{Executor, ExecutorError, Session, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::child::Program;
use crate::pool::Pool;

/// The max number of workers.
const MAX_WORKERS: usize = 1024;

/// The max time without a sign of life, in seconds: a day.
const MAX_SILENCE: f64 = 86_400.0;

/// Trains in child processes of this machine, each with the base model in memory of its own. A child that dies is replaced.
///
/// # Proof note
///
/// *Before*: every worker trains a job by itself, from what travels with it. *After*: a stage has the bits that the trainer gives in
/// this process, or is not trained. *Why*: a frame that was changed on its way is refused; a worker with another arithmetic or another
/// base model is refused when it starts; an answer is taken for the job that it names, and for no other; a stage of which the worker
/// died is trained anew from the same job. Nothing of a record touches the disk: frames go through pipes, and workers are given no
/// folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Processes {
    /// The number of workers; 0 for `resources.jobs`.
    pub workers: usize,
    /// The program that workers run; the program that is running if it is left out. A path without a folder is looked for as a shell
    /// does.
    pub program: Option<PathBuf>,
    /// The arguments of the program.
    pub arguments: Vec<String>,
    /// The number of times that a stage is given to another worker after one died with it.
    pub restarts: usize,
    /// The seconds without a sign of life after which a worker counts as dead. A worker gives a sign every second.
    pub silence_seconds: f64,
}

impl Default for Processes {
    fn default() -> Self {
        Self { workers: 0, program: None, arguments: vec!["worker".into()], restarts: 3, silence_seconds: 60.0 }
    }
}

#[typetag::serde(name = "processes")]
impl Executor for Processes {
    fn check(&self) -> Result<(), ExecutorError> {
        let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
        if self.workers > MAX_WORKERS {
            return refuse("workers", format!("is {}; it takes 0 to {MAX_WORKERS}", self.workers));
        }
        if self.program.as_ref().is_some_and(|program| program.as_os_str().is_empty()) {
            return refuse("program", "is empty; give the path of a program, or leave it out".into());
        }
        if !(1.0..=MAX_SILENCE).contains(&self.silence_seconds) {
            return refuse("silence_seconds", format!("is {}; it takes 1 to {MAX_SILENCE}", self.silence_seconds));
        }
        Ok(())
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let workers = NonZero::new(self.workers).unwrap_or(site.threads);
        let program = Program::new(self.program.as_deref(), &self.arguments)?;
        let silence = Duration::from_secs_f64(self.silence_seconds);
        let mut settings = site.worker;
        // The memory is for all workers together.
        settings.memory /= workers.get() as u64;
        Ok(Box::new(Pool::start(program, settings, workers, self.restarts, silence)?))
    }
}

s3t_executor::plugin!(Executor, "processes", Processes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_refused() {
        let default = Processes::default;
        for (executor, field) in [
            (Processes { workers: 1025, ..default() }, "workers"),
            (Processes { program: Some("".into()), ..default() }, "program"),
            (Processes { silence_seconds: 0.0, ..default() }, "silence_seconds"),
            (Processes { silence_seconds: f64::NAN, ..default() }, "silence_seconds"),
        ] {
            let message = executor.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` is ")), "{message}");
        }
        default().check().unwrap();
    }
}
