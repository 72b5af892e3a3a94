//! The history that the ledger tells, compared with the state that it must lead to.

use std::collections::BTreeSet;

use s3t_core::wording::counted;
use s3t_core::{Digest, StageKey};
use s3t_ledger::{Entry, Epoch, Event};
use s3t_store::{Snapshot, digest_of_stages};

/// The state that the history must lead to.
pub(super) struct Facts<'a> {
    epoch: Epoch,
    stages: &'a BTreeSet<StageKey>,
    /// The digest of the plan; `None` while a deletion waits to be erased.
    plan: Option<Digest>,
    /// The deletions that wait to be erased.
    waiting: &'a [Epoch],
}

pub(super) fn snapshot_facts(snapshot: &Snapshot) -> Facts<'_> {
    let plan = || digest_of_stages(snapshot.plan().stages().map(|stage| &stage.key));
    let waiting = snapshot.unerased();
    Facts { epoch: snapshot.epoch(), stages: snapshot.stages(), plan: waiting.is_empty().then(plan), waiting }
}

/// Reads the entries in order: what is wrong with the history that they tell.
pub(super) fn read_history(entries: &[Entry], facts: &Facts<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut accepted, mut effective, mut erased) = (Epoch::default(), BTreeSet::new(), BTreeSet::new());
    let (mut built, mut plan) = (BTreeSet::new(), None);
    for (index, entry) in entries.iter().enumerate() {
        let mut wrong = |problem: String| problems.push(format!("ledger entry {index}: {problem}"));
        match &entry.event {
            Event::Created { .. } if index > 0 => wrong("a second beginning".into()),
            Event::Accepted { epoch, .. } if *epoch != accepted.next() => {
                wrong(format!("deletion {epoch} follows deletion {accepted}"));
            }
            Event::Accepted { epoch, .. } => accepted = *epoch,
            Event::Effective { epoch, .. } if *epoch > accepted || !effective.insert(*epoch) => {
                wrong(format!("deletion {epoch} takes effect without being accepted, or twice"));
            }
            Event::Erased { epoch } if !effective.contains(epoch) || !erased.insert(*epoch) => {
                wrong(format!("deletion {epoch} is erased without being in effect, or twice"));
            }
            Event::Planned { plan: digest, .. } => plan = Some(*digest),
            Event::Built { stage } => drop(built.insert(*stage)),
            _ => {}
        }
    }
    if !matches!(entries.first(), Some(Entry { event: Event::Created { .. }, .. })) {
        problems.push("the ledger does not start with the making of the store".into());
    }
    if accepted != facts.epoch {
        problems.push(format!(
            "the ledger has {}, the catalogue {}",
            counted(accepted.0 as usize, "deletion"),
            facts.epoch
        ));
    }
    if facts.plan.is_some_and(|expected| plan != Some(expected)) {
        problems.push("the newest plan in the ledger is not the plan over the records that are there".into());
    }
    for epoch in (1..=accepted.0).map(Epoch).filter(|epoch| !erased.contains(epoch) && !facts.waiting.contains(epoch)) {
        problems.push(format!("deletion {epoch} was never erased"));
    }
    problems.extend(facts.stages.difference(&built).map(|key| format!("stage {key} may serve, but was never built")));
    problems
}
