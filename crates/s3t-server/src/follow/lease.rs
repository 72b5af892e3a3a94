//! A follower's lease: until when it may answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A moment on both clocks. The monotonic clock stands still while a machine sleeps, the wall clock may be set; a time that has passed
/// on either of them has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The part of a time after this moment that is left now; nothing if the wall clock was set back.
    fn left_of(self, time: Duration) -> Option<Duration> {
        let passed = self.wall.elapsed().ok()?.max(self.monotonic.elapsed());
        time.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

/// The lease of a follower.
#[derive(Debug, Default)]
pub(super) struct Lease(Mutex<Option<(Moment, Duration)>>);

impl Lease {
    fn lock(&self) -> MutexGuard<'_, Option<(Moment, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that is left; `None` without a lease.
    pub(super) fn left(&self) -> Option<Duration> {
        self.lock().and_then(|(start, time)| start.left_of(time))
    }

    /// Begins a lease at a moment before it was asked for.
    pub(super) fn begin(&self, start: Moment, time: Duration) {
        *self.lock() = Some((start, time));
    }

    /// Ends a lease whose time has passed, or any if `now` is true, and does what comes with the end while no lease can begin.
    pub(super) fn end(&self, now: bool, and: impl FnOnce()) {
        let mut lease = self.lock();
        if lease.is_some_and(|(start, time)| now || start.left_of(time).is_none()) {
            *lease = None;
            and();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_itself_on_either_clock() {
        let hour = Duration::from_secs(3600);
        let lease = Lease::default();
        assert_eq!(lease.left(), None);
        lease.begin(Moment::now(), hour);
        assert!(lease.left().is_some());
        lease.end(false, || panic!("it has not ended"));
        lease.begin(Moment::now(), Duration::ZERO);
        assert_eq!(lease.left(), None);
        let now = Moment::now();
        // The machine slept: the monotonic clock stood still.
        lease.begin(Moment { wall: now.wall - hour, ..now }, hour);
        assert_eq!(lease.left(), None);
        // The wall clock was set back.
        lease.begin(Moment { wall: now.wall + hour, ..now }, hour);
        assert_eq!(lease.left(), None);
        let mut ended = 0;
        lease.end(false, || ended += 1);
        lease.end(true, || ended += 1);
        assert_eq!(ended, 1, "a lease ends once");
        lease.begin(now, hour);
        lease.end(true, || ended += 1);
        assert_eq!((ended, lease.left()), (2, None));
    }
}
