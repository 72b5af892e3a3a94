//! The state of repair behind the answers: the policy that starts it, its time, and the operator who pauses it.
//!
//! A repair builds missing stages from the records that are left ([`System::repair`](s3t_engine::System::repair)); each answers as
//! soon as it is there. The policy of the settings starts it, or an operator; a pause stops it after the step under way, and the
//! stages that are finished stay.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_engine::{EngineError, RepairPolicy, RepairReport};
use s3t_executor::ExecutorError;
use s3t_store::StoreError;

use crate::clock::now_ms;
use crate::settings::RepairSettings;

/// The time between two looks at whether a repair is due.
const LOOK: Duration = Duration::from_millis(500);

/// The time until the next attempt after a repair that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// The time over which the minutes of repair are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// The repairs of a server.
pub(crate) struct Repairs {
    settings: Option<RepairSettings>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_paused: bool,
    /// An operator has asked for a repair, whatever the policy says.
    is_asked: bool,
    running: Option<Running>,
    last: Option<Last>,
    problem: Option<String>,
    /// No repair by policy starts before this.
    not_before: Option<Instant>,
    /// The hour in which minutes are counted now.
    hour: Option<Hour>,
}

/// An hour that began with a repair by policy.
#[derive(Debug, Clone, Copy)]
struct Hour {
    began: Instant,
    /// The time that such repairs have taken.
    used: Duration,
}

/// A repair that is to be tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Due {
    pub(crate) policy: RepairPolicy,
    /// `true` if an operator has asked for it.
    is_asked: bool,
}

/// A repair that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Running {
    /// When it started, in milliseconds since 1970.
    pub(crate) started: i64,
    /// The stages that it builds, and those that are done.
    pub(crate) stages: usize,
    pub(crate) stages_done: usize,
    /// The optimiser steps that it takes, and those that are done.
    pub(crate) steps: usize,
    pub(crate) steps_done: usize,
}

/// The repair that ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Last {
    /// When it ended, in milliseconds since 1970.
    pub(crate) ended: i64,
    /// The stages that it built.
    pub(crate) trained: usize,
    /// The reason why it was due.
    pub(crate) reason: String,
    /// `true` if its time was over before it was done.
    pub(crate) out_of_time: bool,
}

/// The state of repairs at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepairView {
    pub(crate) has_policy: bool,
    pub(crate) is_paused: bool,
    pub(crate) running: Option<Running>,
    pub(crate) last: Option<Last>,
    pub(crate) problem: Option<String>,
}

/// A wish of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Repair now, whatever the policy says.
    Run,
    /// Stop, and start none until resumed.
    Pause,
    /// Start repairs again when they are due.
    Resume,
}

impl Repairs {
    pub(crate) fn new(settings: Option<RepairSettings>) -> Self {
        Self { settings, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> RepairView {
        let state = self.lock();
        RepairView {
            has_policy: self.settings.is_some(),
            is_paused: state.is_paused,
            running: state.running.clone(),
            last: state.last.clone(),
            problem: state.problem.clone(),
        }
    }

    pub(crate) fn wish(&self, wish: Wish) {
        let mut state = self.lock();
        match wish {
            Wish::Run => (state.is_asked, state.is_paused) = (true, false),
            Wish::Pause => (state.is_asked, state.is_paused) = (false, true),
            Wish::Resume => state.is_paused = false,
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Wakes the thread of repairs, so that it notices that the server stops.
    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    /// The next repair, if one is to be tried now. A wish is given once; [`put_off`](Self::put_off) gives it back.
    pub(crate) fn next(&self) -> Option<Due> {
        let mut state = self.lock();
        if state.is_paused {
            return None;
        }
        if std::mem::take(&mut state.is_asked) {
            return Some(Due { policy: RepairPolicy::default(), is_asked: true });
        }
        if state.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let mut policy = self.settings.as_ref()?.policy();
        if let (Some(time), Some(hour)) = (&mut policy.time, state.hour.filter(|hour| hour.began.elapsed() < HOUR)) {
            *time = time.saturating_sub(hour.used);
        }
        (policy.time != Some(Duration::ZERO)).then_some(Due { policy, is_asked: false })
    }

    /// Puts off a repair that could not be tried.
    pub(crate) fn put_off(&self, due: Due) {
        self.lock().put_off(due);
    }

    /// Waits for a wish, or until it is time to look again.
    pub(crate) fn wait(&self) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.lock().is_paused
    }

    /// Notes that a repair starts.
    pub(crate) fn began(&self) {
        self.lock().running = Some(Running { started: now_ms(), ..Running::default() });
    }

    /// Changes the progress of the repair that goes on.
    pub(crate) fn progress(&self, change: impl FnOnce(&mut Running)) {
        if let Some(running) = &mut self.lock().running {
            change(running);
        }
    }

    /// Notes the end of a repair.
    pub(crate) fn ended(&self, due: Due, started: Instant, result: Result<RepairReport, EngineError>) {
        let mut state = self.lock();
        state.running = None;
        if let Some(left) = due.policy.time {
            let is_out_of_time = result.as_ref().is_ok_and(|report| report.out_of_time);
            let taken = if is_out_of_time { left } else { started.elapsed().min(left) };
            let hour = state.hour.filter(|hour| started.duration_since(hour.began) < HOUR);
            let hour = hour.unwrap_or(Hour { began: started, used: Duration::ZERO });
            state.hour = Some(Hour { used: hour.used + taken, ..hour });
        }
        let is_stopped = matches!(result, Err(EngineError::Executor(ExecutorError::Cancelled(_))));
        match result {
            Ok(report) => {
                state.problem = None;
                if let Some(build) = report.build {
                    let (trained, reason, out_of_time) = (build.trained, report.reason, report.out_of_time);
                    state.last = Some(Last { ended: now_ms(), trained, reason, out_of_time });
                }
            }
            // Paused, or the server stops.
            Err(_) if is_stopped => {}
            Err(EngineError::Store(
                error @ (StoreError::Busy { .. }
                | StoreError::Erasing { .. }
                | StoreError::Reading { .. }
                | StoreError::Elsewhere { .. }),
            )) => {
                // Another process has the store in hand, and is done soon.
                state.problem = Some(error.to_string());
                state.not_before = Some(Instant::now() + LOOK);
                state.put_off(due);
            }
            Err(error) => {
                state.problem = Some(error.to_string());
                state.not_before = Some(Instant::now() + AFTER_FAILURE);
            }
        }
    }
}

impl State {
    /// A wish stays, unless a pause has taken it back.
    fn put_off(&mut self, due: Due) {
        self.is_asked |= due.is_asked && !self.is_paused;
    }
}

#[cfg(test)]
mod tests {
    use s3t_engine::BuildReport;

    use super::*;

    fn report(out_of_time: bool) -> RepairReport {
        let build = Some(BuildReport { planned: 3, reused: 1, trained: 2 });
        RepairReport { missing: 2, reason: "2 stages are missing".into(), build, out_of_time }
    }

    #[test]
    fn a_pause_holds_until_it_is_lifted_and_a_wish_comes_before_the_policy() {
        let repairs = Repairs::new(None);
        assert!(repairs.next().is_none(), "no policy, no wish");
        repairs.wish(Wish::Run);
        let due = repairs.next().unwrap();
        assert!(due.policy == RepairPolicy::default() && repairs.next().is_none(), "a wish is served once");
        repairs.put_off(due);
        assert_eq!(repairs.next(), Some(due), "unless it could not be");
        repairs.wish(Wish::Run);
        repairs.wish(Wish::Pause);
        repairs.put_off(due);
        assert!(repairs.next().is_none());
        repairs.wish(Wish::Resume);
        assert!(repairs.next().is_none(), "the pause took the wish back");

        let settings = RepairSettings { below_depth: Some(0.5), ..RepairSettings::default() };
        let repairs = Repairs::new(Some(settings));
        assert_eq!(repairs.next().unwrap().policy.below_depth, Some(0.5));
    }

    #[test]
    fn a_repair_that_used_its_minutes_waits_for_the_next_hour_unless_asked_for() {
        let repairs = Repairs::new(Some(RepairSettings { minutes_per_hour: 5, ..RepairSettings::default() }));
        let due = repairs.next().unwrap();
        assert_eq!(due.policy.time, Some(Duration::from_secs(300)));
        // A wish that comes while it goes on is served after it.
        repairs.wish(Wish::Run);
        repairs.ended(due, Instant::now(), Ok(report(true)));
        assert_eq!(repairs.view().last.map(|last| (last.trained, last.out_of_time)), Some((2, true)));
        let wish = repairs.next().unwrap();
        assert_eq!(wish.policy, RepairPolicy::default());
        repairs.ended(wish, Instant::now(), Ok(report(false)));
        assert!(repairs.next().is_none(), "the wish is done, and the minutes are used");
    }

    #[test]
    fn repairs_that_end_in_time_share_the_minutes_of_an_hour() {
        let repairs = Repairs::new(Some(RepairSettings { minutes_per_hour: 20, ..RepairSettings::default() }));
        let ago = |minutes: u64| Instant::now().checked_sub(Duration::from_secs(60 * minutes)).unwrap();
        let minutes_left = || repairs.next().map(|due| due.policy.time.unwrap().as_secs().div_ceil(60));
        let first = repairs.next().unwrap();
        repairs.ended(first, ago(15), Ok(report(false)));
        assert_eq!(minutes_left(), Some(5));
        let second = repairs.next().unwrap();
        repairs.ended(second, ago(4), Ok(report(false)));
        assert_eq!(minutes_left(), Some(1));
        let third = repairs.next().unwrap();
        repairs.ended(third, ago(2), Ok(report(true)));
        assert_eq!(minutes_left(), None);
    }
}
