//! The workers that are there, without their connections: a function of what happens, with the time as a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use s3t_executor::s3t_core::Digest;

/// A worker that has joined. A worker that joins again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(u64);

/// The workers that are there: which is given the next stage, and until when those that were cut off may remember records.
///
/// ```
/// use std::time::Duration;
/// use s3t_cluster::Roster;
///
/// let mut roster = Roster::default();
/// let worker = roster.join();
/// assert_eq!(roster.pick(&[]), Some(worker));
/// assert_eq!(roster.pick(&[]), None);
/// roster.leave(worker, Duration::from_secs(90));
/// assert_eq!(roster.remembering_until(Duration::from_secs(60)), Some(Duration::from_secs(90)));
/// assert_eq!(roster.remembering_until(Duration::from_secs(90)), None);
/// ```
#[derive(Debug, Default)]
pub struct Roster {
    joined: u64,
    /// The slices of the last job of each worker, of which it remembers activations.
    slices: BTreeMap<WorkerId, Vec<Digest>>,
    idle: BTreeSet<WorkerId>,
    /// The ends of the leases of workers that were cut off.
    leases: Vec<Duration>,
}

impl Roster {
    /// A worker joins, and has nothing to do.
    pub fn join(&mut self) -> WorkerId {
        self.joined += 1;
        let worker = WorkerId(self.joined);
        self.slices.insert(worker, Vec::new());
        self.idle.insert(worker);
        worker
    }

    /// Gives a job on these slices to a worker that has nothing to do: the one that remembers the longest beginning of them.
    pub fn pick(&mut self, slices: &[Digest]) -> Option<WorkerId> {
        let common = |worker: &WorkerId| {
            let last = self.slices.get(worker).map_or(&[] as &[Digest], Vec::as_slice);
            last.iter().zip(slices).take_while(|(one, other)| one == other).count()
        };
        let mut best = (*self.idle.first()?, 0);
        for worker in &self.idle {
            let remembered = common(worker);
            if remembered > best.1 {
                best = (*worker, remembered);
            }
            // No stage but the same has all slices, so nothing is better.
            if remembered + 1 >= slices.len() && remembered > 0 {
                break;
            }
        }
        self.idle.remove(&best.0);
        self.slices.insert(best.0, slices.to_vec());
        Some(best.0)
    }

    /// A worker has done its job.
    pub fn give_back(&mut self, worker: WorkerId) {
        if self.slices.contains_key(&worker) {
            self.idle.insert(worker);
        }
    }

    /// A worker is cut off. It may remember records until its lease ends.
    pub fn leave(&mut self, worker: WorkerId, lease_ends: Duration) {
        self.idle.remove(&worker);
        if self.slices.remove(&worker).is_some() {
            self.leases.push(lease_ends);
        }
    }

    /// The time at which all workers that were cut off have ended; `None` if all have by now.
    pub fn remembering_until(&mut self, now: Duration) -> Option<Duration> {
        self.leases.retain(|end| *end > now);
        self.leases.iter().max().copied()
    }

    /// The number of workers that have nothing to do.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// The number of workers that are there.
    pub fn len(&self) -> usize {
        self.slices.len()
    }

    /// Returns `true` if no worker is there.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use s3t_executor::s3t_core::digest::DigestBuilder;

    use super::*;

    fn digest(number: u8) -> Digest {
        DigestBuilder::new("slice").bytes(&[number]).finish()
    }

    #[test]
    fn a_stage_goes_to_the_worker_that_remembers_its_parents_slices() {
        let mut roster = Roster::default();
        let (first, second) = (roster.join(), roster.join());
        assert_eq!(roster.pick(&[digest(1)]), Some(first));
        assert_eq!(roster.pick(&[digest(2)]), Some(second));
        roster.give_back(first);
        roster.give_back(second);
        assert_eq!(roster.pick(&[digest(2), digest(1)]), Some(second));
        assert_eq!(roster.pick(&[digest(2), digest(1)]), Some(first));
    }

    proptest! {
        /// No worker has two jobs, a worker that has left gets none, and leases are remembered until they end.
        #[test]
        fn whatever_happens_each_worker_has_a_job_at_most(events in prop::collection::vec((0_u8..4, any::<u8>()), 0..200)) {
            let mut roster = Roster::default();
            let (mut there, mut busy) = (Vec::new(), BTreeSet::new());
            let mut leases = Vec::new();
            for (now, (event, choice)) in events.into_iter().enumerate() {
                let now = Duration::from_secs(now as u64);
                let chosen = there.get(usize::from(choice) % there.len().max(1)).copied();
                match (event, chosen) {
                    (0, _) => there.push(roster.join()),
                    (1, _) => match roster.pick(&[digest(choice)]) {
                        Some(worker) => prop_assert!(there.contains(&worker) && busy.insert(worker)),
                        None => prop_assert_eq!(busy.len(), there.len()),
                    },
                    (2, Some(worker)) => {
                        busy.remove(&worker);
                        roster.give_back(worker);
                    }
                    (3, Some(worker)) => {
                        busy.remove(&worker);
                        there.retain(|other| *other != worker);
                        roster.leave(worker, now + Duration::from_secs(5));
                        roster.give_back(worker);
                        leases.push(now + Duration::from_secs(5));
                    }
                    _ => {}
                }
                prop_assert_eq!(roster.len(), there.len());
                prop_assert_eq!(roster.remembering_until(now), leases.iter().copied().filter(|end| *end > now).max());
            }
        }
    }
}
