//! The steps of an audit by attack.

use std::fmt;

use s3t_attack::report::ReferenceKind;
use s3t_core::digest::DigestBuilder;
use s3t_core::{Record, StoreSecret, Task};
use s3t_engine::{EngineError, Observer, Quiet, System};

use super::audit::LIMITS;
use super::copies::{Copies, Copy, PipelineSource, Steps, as_trained, in_half, records_of};
use super::leaks::{Heads, planted};
use super::measure::{Evidence, measure};
use super::oracle::live;
use super::references::{Reference, ReferenceSet, Role, of_prefixes};
use super::signals::{Signals, check_task};
use super::targets::Targets;
use super::{AttackSettings, MembershipAudit, Named, OracleEvidence};
use crate::EvalError;

/// A step of an audit by attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The store is copied, or made from the data and trained.
    Copy,
    /// The records are asked about before the deletion.
    Before,
    /// The records are deleted from the copy.
    Deletion,
    /// A system is trained without the records.
    Oracle,
    /// A reference system is trained on a random half.
    Reference {
        /// Its number, from 1.
        number: usize,
        /// The number of reference systems.
        of: usize,
    },
    /// Scores are computed.
    Scores,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("copying"),
            Self::Before => f.write_str("answers before"),
            Self::Deletion => f.write_str("deletion"),
            Self::Oracle => f.write_str("oracle"),
            Self::Reference { number, of } => write!(f, "reference {number} of {of}"),
            Self::Scores => f.write_str("scores"),
        }
    }
}

/// Watches an audit by attack. Of training it is told once, at the beginning: about how many steps there are in all.
pub trait AttackObserver: Observer {
    /// A step begins.
    fn phase(&self, _phase: Phase) {}
}

impl AttackObserver for Quiet {}

/// Audits a system by attack. `live` is the store to audit, which is not changed; without one a copy is made from the data and trained.
///
/// # Errors
///
/// [`EvalError::NotAttackable`] for a task without a right class, [`EvalError::TooFewTargets`], [`EvalError::NothingLeft`];
/// [`EvalError::Engine`] with whatever is wrong with the pipeline or the store.
pub fn attack(
    pipeline: &PipelineSource<'_>,
    live: Option<&System>,
    named: &Named,
    settings: &AttackSettings,
    observer: &dyn AttackObserver,
) -> Result<MembershipAudit, EvalError> {
    let read = pipeline()?;
    check_task(read.task)?;
    let held_out = read.read_test_data()?;
    let secret = match live {
        Some(live) => live.store().secret().clone(),
        None => read.secret.secret(read.seed).unwrap_or_else(|| secret_of(settings.seed)),
    };
    let copies = Copies::new(pipeline, &read.store, secret);
    observer.phase(Phase::Copy);
    let copy = match live {
        Some(live) => copies.of_system(live)?,
        None => copies.of_records(&read.read_train_data()?)?,
    };
    let attacked = Attacked { copies, copy, settings, observer };
    attacked.announce(live.is_none())?;
    if live.is_none() {
        attacked.copy.system.train(&Steps(observer))?;
    }
    attacked.run(live, held_out, named)
}

fn secret_of(seed: u64) -> StoreSecret {
    StoreSecret::from_bytes(*DigestBuilder::new("attack secret").number(seed).finish().as_bytes())
}

/// A system under attack: a copy that may be changed.
struct Attacked<'a> {
    copies: Copies<'a>,
    copy: Copy,
    settings: &'a AttackSettings,
    observer: &'a dyn AttackObserver,
}

impl Attacked<'_> {
    /// Tells the observer about how many steps all training will take.
    fn announce(&self, is_new: bool) -> Result<(), EvalError> {
        let system = &self.copy.system;
        let snapshot = system.snapshot()?;
        let all: std::collections::BTreeSet<_> = snapshot.plan().stages().map(|stage| stage.key).collect();
        let (whole, stages) = (system.steps(&snapshot, &all), all.len());
        let repairs = usize::from(is_new) + if self.settings.repair { 2 } else { 0 };
        // An oracle without a repair trains a part; halves of the data and of the held-out records are about half.
        let parts = self.settings.references + usize::from(!self.settings.repair);
        self.observer.started(stages * (repairs + parts), whole * repairs + whole * parts / 2);
        Ok(())
    }

    fn run(self, live: Option<&System>, held_out: Vec<Record>, named: &Named) -> Result<MembershipAudit, EvalError> {
        let (system, settings, observer) = (&self.copy.system, self.settings, self.observer);
        let targets = Targets::choose(system, held_out, named, settings)?;
        let records = targets.all();
        observer.phase(Phase::Before);
        let pool = records_of(system)?;
        let before = Signals::of_system(system, &records)?;
        let copy_equal = match live {
            Some(live) => Some(Signals::of_system(live, &records)?.bits == before.bits),
            None => None,
        };
        let is_text = system.pipeline().task == Task::CausalLm;
        let base = is_text.then(|| Signals::of_base(system, &records)).transpose()?;
        let mut references = ReferenceSet(of_prefixes(system, &targets, settings.seed)?);
        if settings.references == 0 && !is_text && !references.covers(targets.members.len() + targets.non_members.len())
        {
            return Err(EvalError::NoReferences);
        }
        let heads = Heads::of(system)?;
        let shards_before = answering(system)?;

        observer.phase(Phase::Deletion);
        let deleted = system.delete(&targets.deleted.records, &targets.deleted.subjects)?.records;
        if settings.repair {
            system.train(&Steps(observer))?;
        }
        let after = Signals::of_system(system, &records)?;
        let leaks = planted(system, &before, &heads, &records)?;

        observer.phase(Phase::Oracle);
        let left: Vec<Record> = pool.iter().filter(|record| !deleted.contains(&record.id)).cloned().collect();
        let (oracle, comparison) = self.oracle(&left, &after, &records)?;
        self.halves(&pool, &targets, &records, &mut references)?;

        observer.phase(Phase::Scores);
        let evidence = Evidence {
            before: &before,
            after: &after,
            oracle: &oracle,
            base: base.as_ref(),
            leaks: &leaks,
            references: &references,
        };
        let measured = measure(&targets, &evidence, settings)?;
        let count = |number: usize| number as u64;
        // The strongest attack speaks, unless another one alone has shown that it finds something.
        let told = measured.attacks.iter().find(|report| report.has_power()).or(measured.attacks.first());
        let mut first_line = told.map(s3t_attack::report::AttackReport::first_line).unwrap_or_default();
        if !comparison.equal() {
            first_line =
                "ANSWERS DIFFER: the system after the deletion is not the one that was trained without the records."
                    .into();
        }
        if copy_equal == Some(false) {
            first_line =
                "ANSWERS DIFFER: the store's answers are not those of a copy that was trained on its records, so that \
                 what follows is not about the store."
                    .into();
        }
        Ok(MembershipAudit {
            first_line,
            settings: settings.clone(),
            members: count(targets.members.len()),
            subjects: count(targets.subjects().len()),
            non_members: count(targets.non_members.len()),
            population: count(targets.population.len()),
            slices: count(targets.slices().len()),
            shards: [shards_before, answering(system)?],
            copy_equal,
            oracle: comparison,
            attacks: measured.attacks,
            by_subject: measured.by_subject,
            limits: LIMITS.iter().map(|limit| (*limit).to_owned()).collect(),
        })
    }

    /// The signals of a system that never saw the deleted records, and its comparison with the copy.
    fn oracle(
        &self,
        left: &[Record],
        after: &Signals,
        records: &[Record],
    ) -> Result<(Signals, OracleEvidence), EvalError> {
        let system = &self.copy.system;
        let oracle = self.copies.of_records(left)?;
        if self.settings.repair {
            oracle.system.train(&Steps(self.observer))?;
        } else {
            oracle.system.train_only(&live(system)?, &Steps(self.observer))?;
        }
        let signals = Signals::of_system(&oracle.system, records)?;
        let comparison = OracleEvidence::compare((system, after), (&oracle.system, &signals), records.len())?;
        Ok((signals, comparison))
    }

    /// Trains reference systems on random halves of the records and of the held-out records.
    fn halves(
        &self,
        pool: &[Record],
        targets: &Targets,
        records: &[Record],
        references: &mut ReferenceSet,
    ) -> Result<(), EvalError> {
        let (all, seed) = (self.settings.references, self.settings.seed);
        let examples = targets.members.len() + targets.non_members.len();
        for number in 0..all {
            self.observer.phase(Phase::Reference { number: number + 1, of: all });
            let is_in = |record: &Record| in_half(record, number / 2, number % 2, seed);
            let mut half: Vec<Record> = pool.iter().filter(|record| is_in(record)).cloned().collect();
            for (place, record) in targets.non_members.iter().enumerate().filter(|(_, record)| is_in(record)) {
                half.push(as_trained(record, place)?);
            }
            let copy = self.copies.of_records(&half)?;
            copy.system.train(&Steps(self.observer))?;
            let role = |(at, record): (usize, &Record)| {
                if at < examples && is_in(record) { Role::Inside } else { Role::Outside }
            };
            references.0.push(Reference {
                kind: ReferenceKind::Trained,
                shard: None,
                pair: Some(number / 2),
                signals: Signals::of_system(&copy.system, records)?,
                roles: records.iter().enumerate().map(role).collect(),
            });
        }
        Ok(())
    }
}

/// The number of shards that answer.
fn answering(system: &System) -> Result<u64, EvalError> {
    match system.members() {
        Ok(members) => {
            Ok(members.iter().map(|member| member.shard).collect::<std::collections::BTreeSet<_>>().len() as u64)
        }
        Err(EngineError::NothingServes) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
