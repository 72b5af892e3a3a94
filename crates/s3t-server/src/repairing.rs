//! The thread that repairs behind the answers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use s3t_engine::{Observer, StageLabel};
use s3t_executor::Step;

use crate::app::App;
use crate::priority::{TRAINING, step_back};

/// Repairs until the server stops.
pub(crate) fn work(app: &Arc<App>) {
    let repairs = &app.repairs;
    while !app.life.is_stopping() {
        let due = repairs.next().filter(|due| match app.service.snapshot() {
            // Not even what was asked for is due: there is nothing to build.
            Ok(snapshot) => due.policy.is_due(&snapshot).is_ok(),
            Err(error) => {
                tracing::warn!(target: "s3t::repair", "{error}");
                repairs.put_off(*due);
                false
            }
        });
        let Some(due) = due else {
            repairs.wait();
            continue;
        };
        let started = Instant::now();
        repairs.began();
        let result = app.service.repair(&due.policy, &Progress { app });
        if let Err(error) = &result {
            tracing::warn!(target: "s3t::repair", "{error}");
        }
        repairs.ended(due, started, result);
        app.desk.tell();
    }
}

/// Shows the progress of a repair, and stops it.
struct Progress<'a> {
    app: &'a Arc<App>,
}

impl Observer for Progress<'_> {
    fn trains(&self) {
        step_back(TRAINING);
    }

    fn started(&self, stages: usize, steps: usize) {
        self.app.repairs.progress(|running| {
            running.stages = running.stages_done + stages;
            running.steps = running.steps_done + steps;
        });
        self.app.desk.tell();
    }

    fn step(&self, _: &StageLabel, _: Step) -> ControlFlow<()> {
        self.app.repairs.progress(|running| running.steps_done += 1);
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn stage_finished(&self, _: &StageLabel) {
        self.app.repairs.progress(|running| running.stages_done += 1);
        self.app.desk.tell();
    }

    fn is_stopped(&self) -> bool {
        self.app.life.is_stopping() || self.app.repairs.is_paused()
    }
}
