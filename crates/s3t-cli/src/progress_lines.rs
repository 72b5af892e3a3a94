//! Progress as lines of a log.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use s3t::engine::{Observer, StageLabel};
use s3t::executor::Step;

use crate::progress::{Bars, catch_interrupts, flow};

/// Writes a line to standard error when a stage is finished, and what workers say.
pub(crate) struct Lines {
    finished: Mutex<(usize, usize)>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        catch_interrupts();
        Self { finished: Mutex::default() }
    }
}

impl Observer for Lines {
    fn started(&self, stages: usize, _steps: usize) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        *finished = (0, stages);
        eprintln!("{stages} stages to train");
    }

    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        flow()
    }

    fn stage_finished(&self, stage: &StageLabel) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.0 += 1;
        eprintln!("{} of {} stages: {stage}", finished.0, finished.1);
    }

    fn is_stopped(&self) -> bool {
        Bars::interrupted()
    }

    fn worker_said(&self, worker: &str, line: &str) {
        eprintln!("{worker}: {line}");
    }
}
