//! Progress bars and Ctrl-C.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use s3t::api::ErrorKind;
use s3t::core::StageKey;
use s3t::engine::{Observer, StageLabel};
use s3t::eval::attack::{AttackObserver, Phase};
use s3t::eval::compare::CompareObserver;
use s3t::executor::{StageProgress, Step};

use crate::exit::exit_code;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();

/// Lets Ctrl-C stop work between two steps, so that finished stages are kept. A second Ctrl-C ends the program at once,
/// which is as safe: files are there whole or not at all.
#[allow(clippy::exit, reason = "this is the command line's own interrupt handler")]
pub(crate) fn catch_interrupts() {
    HANDLER.call_once(|| {
        // Without a handler Ctrl-C ends the program at once, which loses the unfinished stages only.
        drop(ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(exit_code(ErrorKind::Interrupted)));
            }
        }));
    });
}

/// Bars for a build: one over all steps with the time left, and one for each stage under training with its loss.
pub(crate) struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    running: Mutex<HashMap<StageKey, StageBar>>,
}

struct StageBar {
    bar: ProgressBar,
    started: Instant,
    records: usize,
}

impl Bars {
    pub(crate) fn new(shown: bool) -> Self {
        catch_interrupts();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new(0));
        total.set_style(style("{prefix:26} {bar:24} {percent:>3} %  {elapsed} gone, {eta} left  {msg}"));
        Self { multi: bars, total, running: Mutex::default() }
    }

    /// A bar for training that is not a stage of the plan.
    pub(crate) fn extra(&self, name: &str, steps: usize) -> ExtraBar {
        self.total.inc_length(steps as u64);
        ExtraBar {
            bar: self.stage_bar(name, steps),
            total: self.total.clone(),
            started: Instant::now(),
            records: Mutex::new(0),
        }
    }

    /// A bar over units of work.
    pub(crate) fn units(&self) -> Units<'_> {
        Units(&self.total)
    }

    /// `true` if the program was asked to stop.
    pub(crate) fn interrupted() -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }

    fn stage_bar(&self, name: &str, steps: usize) -> ProgressBar {
        let bar = self.multi.add(ProgressBar::new(steps as u64));
        bar.set_style(style("{prefix:26} {bar:24} {pos:>5}/{len:5} steps  {msg}  {eta} left"));
        bar.set_prefix(name.to_owned());
        bar
    }
}

impl Bars {
    /// Takes the bars off the screen.
    pub(crate) fn clear(&self) {
        self.total.finish_and_clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Observer for Bars {
    fn started(&self, stages: usize, steps: usize) {
        self.total.set_prefix(format!("{stages} stages"));
        self.total.inc_length(steps as u64);
    }

    fn stage_started(&self, stage: &StageLabel, records: usize) {
        let bar = self.stage_bar(&stage.to_string(), 0);
        bar.set_message(format!("{records} records"));
        let mut stages = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        stages.insert(stage.key, StageBar { bar, started: Instant::now(), records: 0 });
    }

    fn step(&self, stage: &StageLabel, step: Step) -> ControlFlow<()> {
        let mut stages = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(StageBar { bar, started, records }) = stages.get_mut(&stage.key) {
            *records += step.records;
            bar.set_length(step.steps as u64);
            bar.set_position(step.done as u64);
            bar.set_message(message(step.loss, *records, *started));
        }
        self.total.inc(1);
        flow()
    }

    fn stage_finished(&self, stage: &StageLabel) {
        let bar = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&stage.key);
        if let Some(StageBar { bar, .. }) = bar {
            bar.finish_and_clear();
        }
    }

    fn is_stopped(&self) -> bool {
        Self::interrupted()
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.multi.suspend(|| eprintln!("{worker}: {line}"));
    }
}

impl CompareObserver for Units<'_> {
    fn begins(&self, method: &str, seed: u64, at: usize, of: usize) {
        self.0.set_length(of as u64);
        self.0.set_position(at as u64);
        self.0.set_message(format!("{method}, seed {seed}"));
        self.0.tick();
    }
}

/// A bar over units of work, of which the bar says how long the others will take. Training within a unit is not shown.
pub(crate) struct Units<'a>(&'a ProgressBar);

impl Observer for Units<'_> {
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        flow()
    }

    fn is_stopped(&self) -> bool {
        Bars::interrupted()
    }
}

impl AttackObserver for Bars {
    fn phase(&self, phase: Phase) {
        self.total.set_message(phase.to_string());
        self.total.tick();
    }
}

/// The bar of training that is not a stage of the plan.
pub(crate) struct ExtraBar {
    bar: ProgressBar,
    total: ProgressBar,
    started: Instant,
    records: Mutex<usize>,
}

impl StageProgress for ExtraBar {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        *records += step.records;
        self.bar.set_position(step.done as u64);
        self.bar.set_message(message(step.loss, *records, self.started));
        self.total.inc(1);
        if step.done == step.steps {
            self.bar.finish_and_clear();
        }
        flow()
    }

    fn is_cancelled(&self) -> bool {
        Bars::interrupted()
    }
}

pub(crate) fn flow() -> ControlFlow<()> {
    if Bars::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn message(loss: f32, records: usize, started: Instant) -> String {
    let rate = records as f64 / started.elapsed().as_secs_f64().max(1e-9);
    format!("loss {loss:.3}  {rate:>5.0} records/s")
}

fn style(template: &str) -> ProgressStyle {
    // The templates are the ones above; a mistake in one would fall back to the plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━ ")
}
