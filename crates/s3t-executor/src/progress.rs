//! Watching a stage while it is trained.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An optimiser step that is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    /// Records in this step.
    pub records: usize,
    /// The mean loss of the batch.
    pub loss: f32,
}

/// Watches a stage while it is trained, and may stop it.
pub trait StageProgress: Sync {
    /// Called after each step. `Break` stops the stage, which then leaves nothing behind.
    fn step(&self, step: Step) -> ControlFlow<()>;

    /// The number of threads the stage may compute on, asked before each step. The bits of a stage do not depend on it.
    fn threads(&self) -> usize {
        1
    }

    /// Returns `true` once nobody wants the stage any more. Asked again and again while a worker is waited for, also where no step
    /// ends.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Returns `true` if a worker that is in the middle of a step of a cancelled job may finish the step. Otherwise it is given up after a
    /// moment.
    fn waits_for_step(&self) -> bool {
        false
    }

    /// The time between two looks at [`is_cancelled`](Self::is_cancelled) and [`threads`](Self::threads).
    fn look_every(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// Called with each line that a worker writes to its standard error.
    fn worker_said(&self, _worker: &str, _line: &str) {}
}

/// A progress that watches nothing and stops nothing.
///
/// ```
/// use s3t_executor::{Silent, StageProgress, Step};
///
/// let step = Step { done: 1, steps: 2, records: 8, loss: 0.7 };
/// assert!(Silent.step(step).is_continue() && !Silent.is_cancelled());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl StageProgress for Silent {
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
