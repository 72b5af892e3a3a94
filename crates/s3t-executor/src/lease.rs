//! The lease of a worker on another machine.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time for which a worker may remember records without a word of the owner.
///
/// # Proof note
///
/// *Before*: the owner has dropped the link to a worker at some moment. *After*: at most `length` later the worker has ended, however
/// late its connection delivers. *Why*: the worker counts from the moment at which it *sent* the request that was answered, on its own
/// clock, which counts the time too for which its machine sleeps; the owner answered that request after it was sent and before it dropped
/// the link.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// The length.
    pub length: Duration,
    /// The moment at which the worker asked for the lease.
    pub since: Instant,
}

/// A lease that is renewed.
pub(crate) struct LeaseClock {
    length: Duration,
    state: Mutex<State>,
    ended: Condvar,
}

/// The time between two looks at the clock, which somebody's machine may have slept through.
const LOOK: Duration = Duration::from_secs(1);

/// A moment, with the time since the machine was started where the system tells: that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moment {
    at: Instant,
    since_start: Option<f64>,
}

impl Moment {
    fn now() -> Self {
        Self { at: Instant::now(), since_start: since_start() }
    }

    fn elapsed(&self) -> Duration {
        let slept = self.since_start.zip(since_start()).map_or(0.0, |(then, now)| now - then);
        self.at.elapsed().max(Duration::try_from_secs_f64(slept).unwrap_or_default())
    }
}

fn since_start() -> Option<f64> {
    std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()
}

struct State {
    since: Moment,
    /// Requests that are not answered yet, with the moments at which they were sent.
    asked: VecDeque<(u64, Moment)>,
    number: u64,
    /// The worker ends by itself.
    is_over: bool,
}

impl LeaseClock {
    pub(crate) fn new(lease: Lease) -> Self {
        let since = Moment { at: lease.since, since_start: since_start() };
        let state = State { since, asked: VecDeque::new(), number: 0, is_over: false };
        Self { length: lease.length, state: Mutex::new(state), ended: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a request that is sent now.
    pub(crate) fn ask(&self) -> u64 {
        let mut state = self.lock();
        state.number += 1;
        let asked = (state.number, Moment::now());
        state.asked.push_back(asked);
        asked.0
    }

    /// The owner has answered a request.
    pub(crate) fn renewed(&self, number: u64) {
        let mut state = self.lock();
        while let Some((asked, since)) = state.asked.front().copied().filter(|(asked, _)| *asked <= number) {
            state.asked.pop_front();
            if asked == number {
                state.since = since;
            }
        }
    }

    /// Ends the watch: the worker has ended, and remembers nothing.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.ended.notify_all();
    }

    /// Waits until the lease has ended, which gives `true`, or the watch.
    pub(crate) fn wait_for_end(&self) -> bool {
        let mut state = self.lock();
        loop {
            let left = self.length.saturating_sub(state.since.elapsed());
            if state.is_over || left.is_zero() {
                return !state.is_over;
            }
            state = self.ended.wait_timeout(state, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_the_answered_request_was_sent() {
        let since = Instant::now();
        let clock = LeaseClock::new(Lease { length: Duration::from_secs(3600), since });
        let (first, second) = (clock.ask(), clock.ask());
        let sent: Vec<Moment> = clock.lock().asked.iter().map(|(_, sent)| *sent).collect();
        clock.renewed(first);
        assert_eq!(clock.lock().since, sent[0]);
        clock.renewed(second);
        assert_eq!(clock.lock().since, sent[1]);
        // Late and unknown answers change nothing.
        clock.renewed(first);
        clock.renewed(99);
        assert_eq!(clock.lock().since, sent[1]);
        clock.end();
        assert!(!clock.wait_for_end());
    }

    #[test]
    fn a_lease_that_nobody_renews_ends() {
        let clock = LeaseClock::new(Lease { length: Duration::from_millis(20), since: Instant::now() });
        clock.ask();
        assert!(clock.wait_for_end());
    }
}
