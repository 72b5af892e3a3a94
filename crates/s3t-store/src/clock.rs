//! The time: of day, and since the machine was started.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use s3t_ledger::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

/// A moment as two clocks tell it, so that it can be compared by another process: the time of day, which somebody may set, and the time since
/// the machine was started, which runs while the machine sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moment {
    day: u64,
    since_start: Option<SinceStart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SinceStart {
    /// The system's name for this run of the machine.
    run: String,
    milliseconds: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { day: now().0, since_start: since_start() }
    }

    pub(crate) fn plus(&self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let later = |start: &SinceStart| SinceStart {
            run: start.run.clone(),
            milliseconds: start.milliseconds.saturating_add(milliseconds),
        };
        Self { day: self.day.saturating_add(milliseconds), since_start: self.since_start.as_ref().map(later) }
    }

    /// The time from `now` to this moment, by each clock that can tell.
    fn left(&self, now: &Self) -> (Duration, Option<Duration>) {
        let day = Duration::from_millis(self.day.saturating_sub(now.day));
        let since_start = self.since_start.as_ref().zip(now.since_start.as_ref());
        let same_run = since_start.filter(|(this, now)| this.run == now.run);
        (day, same_run.map(|(this, now)| Duration::from_millis(this.milliseconds.saturating_sub(now.milliseconds))))
    }

    /// The time to this moment by the clock that says more: after it, nobody can say that the moment is not over.
    pub(crate) fn left_by_any_clock(&self, now: &Self) -> Duration {
        let (day, since_start) = self.left(now);
        day.max(since_start.unwrap_or_default())
    }

    /// The time to this moment by the clock that says less.
    pub(crate) fn left_by_each_clock(&self, now: &Self) -> Duration {
        let (day, since_start) = self.left(now);
        day.min(since_start.unwrap_or(day))
    }
}

/// The time since the machine was started, where the system tells.
fn since_start() -> Option<SinceStart> {
    static RUN: OnceLock<Option<String>> = OnceLock::new();
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let run = RUN.get_or_init(|| read("/proc/sys/kernel/random/boot_id").map(|run| run.trim().to_owned()));
    let seconds: f64 = read("/proc/uptime")?.split_whitespace().next()?.parse().ok()?;
    Some(SinceStart { run: run.clone()?, milliseconds: (seconds * 1000.0) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(day: u64, run: &str, milliseconds: u64) -> Moment {
        Moment { day, since_start: Some(SinceStart { run: run.into(), milliseconds }) }
    }

    #[test]
    fn a_clock_that_somebody_sets_ends_nothing_too_early() {
        let seconds = Duration::from_secs;
        let until = moment(1_000_000, "one", 50_000).plus(seconds(10));
        let left = |now: &Moment| (until.left_by_any_clock(now), until.left_by_each_clock(now));
        assert_eq!(left(&moment(1_004_000, "one", 54_000)), (seconds(6), seconds(6)));
        // The clock was set forward, and back.
        assert_eq!(left(&moment(9_000_000, "one", 54_000)), (seconds(6), seconds(0)));
        assert_eq!(left(&moment(1_000_000, "one", 58_000)), (seconds(10), seconds(2)));
        // The machine was started anew, and a system that tells no such time.
        assert_eq!(left(&moment(1_004_000, "two", 0)), (seconds(6), seconds(6)));
        assert_eq!(left(&Moment { day: 1_011_000, since_start: None }), (seconds(0), seconds(0)));
        let now = Moment::now();
        assert!(now.plus(seconds(60)).left_by_each_clock(&Moment::now()) > seconds(30));
    }
}
