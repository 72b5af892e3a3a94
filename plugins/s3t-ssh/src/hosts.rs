//! The machine for the next worker: a function of what has happened, with the time as a number.

use std::time::Duration;

/// The max time that a machine rests after failures.
const MAX_REST: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Default)]
struct Host {
    running: usize,
    /// Workers that failed there, one after the other.
    failures: u32,
    rests_until: Duration,
}

/// The machines, by their numbers in the list.
#[derive(Debug)]
pub(crate) struct Hosts {
    list: Vec<Host>,
    room: usize,
    /// The rest after a first failure.
    rest: Duration,
}

impl Hosts {
    pub(crate) fn new(count: usize, room: usize, rest: Duration) -> Self {
        Self { list: vec![Host::default(); count], room, rest }
    }

    /// Takes a place: where the fewest workers have failed, then where the fewest run. Machines that have failed rest while others work.
    pub(crate) fn take(&mut self, now: Duration) -> Option<usize> {
        let all_are_idle = self.list.iter().all(|host| host.running == 0);
        let room = self.room;
        let has_place = |host: &Host| host.running < room && (all_are_idle || host.rests_until <= now);
        let free = self.list.iter_mut().enumerate().filter(|(_, host)| has_place(host));
        let (number, host) = free.min_by_key(|(number, host)| (host.failures, host.running, *number))?;
        host.running += 1;
        Some(number)
    }

    /// Gives a place back.
    pub(crate) fn give_back(&mut self, number: usize, has_failed: bool, now: Duration) {
        let Some(host) = self.list.get_mut(number) else { return };
        host.running = host.running.saturating_sub(1);
        if has_failed {
            host.failures = host.failures.saturating_add(1);
            host.rests_until = now + self.rest.saturating_mul(1 << host.failures.min(16)).min(MAX_REST);
        } else {
            host.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn places_are_spread_and_a_machine_that_fails_rests_while_others_work() {
        let mut hosts = Hosts::new(2, 2, SECOND);
        let at = |seconds| SECOND * seconds;
        assert_eq!([(); 5].map(|()| hosts.take(at(0))), [Some(0), Some(1), Some(0), Some(1), None]);
        hosts.give_back(0, true, at(1));
        hosts.give_back(1, false, at(1));
        // The other machine first, then nobody, until the rest of two seconds is over.
        assert_eq!([hosts.take(at(2)), hosts.take(at(2)), hosts.take(at(3))], [Some(1), None, Some(0)]);
        hosts.give_back(0, true, at(3));
        assert_eq!([hosts.take(at(6)), hosts.take(at(7))], [None, Some(0)]);
        // Where nobody works, nobody rests; the machine that has failed less is tried first.
        for number in [0, 0, 1, 1] {
            hosts.give_back(number, number == 0, at(8));
        }
        assert_eq!([hosts.take(at(8)), hosts.take(at(8)), hosts.take(at(8))], [Some(1), Some(1), None]);
    }

    #[test]
    fn a_single_machine_is_tried_again_at_once_when_nobody_works() {
        let mut hosts = Hosts::new(1, 1, SECOND);
        for failure in 0..100 {
            assert_eq!(hosts.take(Duration::ZERO), Some(0), "after {failure} failures");
            hosts.give_back(0, true, Duration::ZERO);
        }
    }
}
