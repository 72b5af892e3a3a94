//! The records that are attacked.

use std::collections::{BTreeSet, HashSet};

use s3t_core::{Record, RecordId, SliceAddress, SliceId, SubjectId};
use s3t_engine::{EngineError, System, serving_chains};
use s3t_ledger as ledger;

use super::{AttackSettings, draw};
use crate::EvalError;

/// The records that an audit deletes from its copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Records by id.
    pub records: Vec<RecordId>,
    /// Subjects, with all their records.
    pub subjects: Vec<SubjectId>,
}

impl Named {
    /// `true` if nothing is named: then records are drawn.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.subjects.is_empty()
    }
}

/// The records of an attack.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Records that the system has seen and that are deleted, with the slices that they are in.
    pub members: Vec<(SliceAddress, Record)>,
    /// The names by which they are deleted: what was named, or the subjects of what was drawn and its records without one.
    pub deleted: Named,
    /// Held-out records that they are told from.
    pub non_members: Vec<Record>,
    /// Further held-out records.
    pub population: Vec<Record>,
}

impl Targets {
    /// The targets of a system that is about to be changed.
    pub(crate) fn choose(
        system: &System,
        held_out: Vec<Record>,
        named: &Named,
        settings: &AttackSettings,
    ) -> Result<Self, EvalError> {
        let members = if named.is_empty() { drawn(system, settings)? } else { of_names(system, named)? };
        let wanted = settings.non_members.saturating_add(settings.population);
        let held_out = draw::records("held-out", settings.seed, held_out, wanted);
        // Where there are few held-out records, a fifth of them is the population.
        let share = (held_out.len() as u128 * settings.population as u128).div_ceil(wanted as u128) as usize;
        let (population, non_members) = held_out.split_at(share);
        if members.len() < 2 || non_members.len() < 2 || population.is_empty() {
            let (members, held_out) = (members.len(), held_out.len());
            return Err(EvalError::TooFewTargets { members, held_out });
        }
        if members.len() > AttackSettings::MOST_MEMBERS {
            return Err(EvalError::TooManyTargets { members: members.len(), most: AttackSettings::MOST_MEMBERS });
        }
        let mut targets = Self {
            members,
            deleted: named.clone(),
            non_members: non_members.to_vec(),
            population: population.to_vec(),
        };
        if named.is_empty() {
            // A subject's records were drawn together.
            let without = targets.members.iter().filter(|(_, record)| record.subject.is_none());
            let records = without.map(|(_, record)| record.id.clone()).collect();
            targets.deleted = Named { records, subjects: targets.subjects().into_iter().collect() };
        }
        Ok(targets)
    }

    /// All records in the order in which signals are kept: members, non-members, population.
    pub(crate) fn all(&self) -> Vec<Record> {
        let members = self.members.iter().map(|(_, record)| record);
        members.chain(&self.non_members).chain(&self.population).cloned().collect()
    }

    /// The slices that the deletion hits.
    pub(crate) fn slices(&self) -> BTreeSet<SliceAddress> {
        self.members.iter().map(|(address, _)| *address).collect()
    }

    /// The distinct subjects of the members.
    pub(crate) fn subjects(&self) -> BTreeSet<SubjectId> {
        self.members.iter().filter_map(|(_, record)| record.subject.clone()).collect()
    }
}

/// The records that are named; a name that nobody has is refused, as in a deletion.
fn of_names(system: &System, named: &Named) -> Result<Vec<(SliceAddress, Record)>, EvalError> {
    let store = system.store();
    let mut members = Vec::new();
    for address in store.slices_of(&named.records, &named.subjects).map_err(EngineError::from)? {
        for (_, record) in store.records(address).map_err(EngineError::from)? {
            let is_named = named.records.contains(&record.id)
                || record.subject.as_ref().is_some_and(|subject| named.subjects.contains(subject));
            if is_named {
                members.push((address, record));
            }
        }
    }
    let unknown = |name: ledger::Named<'_>| EvalError::from(EngineError::from(store.unknown(name)));
    let ids: HashSet<&RecordId> = members.iter().map(|(_, record)| &record.id).collect();
    if let Some(record) = named.records.iter().find(|record| !ids.contains(record)) {
        return Err(unknown(ledger::Named::Record(record)));
    }
    let owners: HashSet<&SubjectId> = members.iter().filter_map(|(_, record)| record.subject.as_ref()).collect();
    if let Some(subject) = named.subjects.iter().find(|subject| !owners.contains(subject)) {
        return Err(unknown(ledger::Named::Subject(subject)));
    }
    Ok(members)
}

/// Records of one slice of each shard, drawn by subjects: the slice that leaves the shard deepest when it is deleted from, among those
/// that answers depend on now. Where every slice takes the whole shard, one shard stays whole.
fn drawn(system: &System, settings: &AttackSettings) -> Result<Vec<(SliceAddress, Record)>, EvalError> {
    let snapshot = system.snapshot()?;
    let mut chosen = Vec::new();
    let shards: BTreeSet<_> =
        serving_chains(&snapshot, &*system.pipeline().serving.members).into_iter().map(|(shard, ..)| shard).collect();
    for shard in &shards {
        let seen: BTreeSet<SliceId> = serving_chains(&snapshot, &*system.pipeline().serving.members)
            .into_iter()
            .filter(|(of, ..)| of == shard)
            .filter_map(|(_, _, keys)| snapshot.plan().stage(keys.last()?))
            .flat_map(|stage| stage.slices.clone())
            .collect();
        let depth_without = |slice: &SliceId| {
            let mut availability = snapshot.availability();
            availability.hit(SliceAddress { shard: *shard, slice: *slice });
            availability.serving(*shard).map_or(0, |serving| serving.depth)
        };
        let best = seen.into_iter().map(|slice| (depth_without(&slice), slice));
        // The deepest, and the first of equals.
        if let Some((depth, slice)) = best.max_by_key(|(depth, slice)| (*depth, std::cmp::Reverse(*slice))) {
            chosen.push((depth, SliceAddress { shard: *shard, slice }));
        }
    }
    if !settings.repair && chosen.iter().all(|(depth, _)| *depth == 0) {
        if chosen.len() < 2 {
            return Err(EvalError::NothingLeft);
        }
        chosen.pop();
    }
    let of_slice = settings.members.div_ceil(chosen.len().max(1));
    let mut members = Vec::new();
    for (_, address) in chosen {
        let records = system.store().records(address).map_err(EngineError::from)?;
        let records = records.into_iter().map(|(_, record)| record).collect();
        members.extend(
            draw::records("members", settings.seed, records, of_slice).into_iter().map(|record| (address, record)),
        );
    }
    Ok(members)
}
