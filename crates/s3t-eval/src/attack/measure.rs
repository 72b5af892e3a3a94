//! Reports from signals.

use std::collections::{BTreeMap, BTreeSet};

use s3t_attack::AttackError;
use s3t_attack::baseline::blind_by_halves;
use s3t_attack::epsilon::{EpsilonBound, Guesses, lower_bound};
use s3t_attack::lira::{Deviation, offline};
use s3t_attack::power::Power;
use s3t_attack::report::{Attack, AttackReport, Audited, LowFpr, Performance, PlantedLeak, RATES, ReferenceKind};
use s3t_attack::roc::Scores;
use s3t_attack::subjects::by_subject;
use s3t_core::Record;

use super::groups::{Groups, features};
use super::leaks::Leak;
use super::references::{ReferenceSet, Role};
use super::scores::Ground;
use super::signals::Signals;
use super::targets::Targets;
use super::{AttackSettings, draw};
use crate::EvalError;

/// The delta of the bound on epsilon.
const DELTA: f64 = 1e-5;

/// The records on either side for each guess of the bound on epsilon. Guesses are about the records of which the attack is surest.
const GUESSED: usize = 10;

/// The resamples by which the power against planted leaks is estimated.
const RESAMPLES: u32 = 200;

/// The subjects of a report.
const SUBJECTS: usize = 20;

/// The share of the most vulnerable records.
const VULNERABLE: f64 = 0.2;

/// The fewest members and non-members of a part that is reported.
const FEWEST: usize = 20;

/// The signals that reports are made from.
pub(crate) struct Evidence<'a> {
    pub before: &'a Signals,
    pub after: &'a Signals,
    pub oracle: &'a Signals,
    pub base: Option<&'a Signals>,
    pub leaks: &'a [Leak],
    pub references: &'a ReferenceSet,
}

/// The reports of all attacks.
pub(crate) struct Measured {
    pub attacks: Vec<AttackReport>,
    pub by_subject: Option<AttackReport>,
}

/// Reports of every attack that the references allow, the strongest before the deletion first.
pub(crate) fn measure(
    targets: &Targets,
    evidence: &Evidence<'_>,
    settings: &AttackSettings,
) -> Result<Measured, EvalError> {
    let ground = Ground {
        references: evidence.references,
        base: evidence.base,
        members: targets.members.len(),
        non_members: targets.non_members.len(),
        all: evidence.before.scaled.len(),
    };
    let attacks = ground.attacks();
    if attacks.is_empty() {
        return Err(EvalError::NoReferences);
    }
    // Power is shown by the best of several attacks: each has a share of the error.
    let share = 1.0 - (1.0 - settings.confidence) / attacks.len() as f64;
    let blind = without_a_model(targets, settings.confidence)?;
    let epsilon = epsilon(targets, evidence.references, settings.confidence)?;
    let mut reports = Vec::new();
    for attack in attacks {
        let mut report = report(&ground, targets, evidence, attack, settings, share)?;
        report.power = Power::measure(&ground.scores(attack, evidence.before)?, &RATES, share)?;
        report.blind.clone_from(&blind);
        report.epsilon = epsilon;
        reports.push(report);
    }
    reports.sort_by(|one, other| stronger(other, one));
    let strongest = reports.first().map(|report| report.attack);
    let grouped = Groups::of(targets).zip(strongest);
    let by_subject = grouped
        .map(|(groups, attack)| of_groups(&ground, &groups, evidence, attack, settings.confidence))
        .transpose()?;
    Ok(Measured { attacks: reports, by_subject })
}

/// The order of attacks: by success at a low false positive rate before the deletion, then by the area.
fn stronger(one: &AttackReport, other: &AttackReport) -> std::cmp::Ordering {
    let low = |report: &AttackReport| match report.before.low_fpr.first() {
        Some(LowFpr::Measured(measured)) => measured.interval.low,
        _ => 0.0,
    };
    let area = |report: &AttackReport| report.before.auc.interval.low;
    low(one).total_cmp(&low(other)).then(area(one).total_cmp(&area(other)))
}

fn report(
    ground: &Ground<'_>,
    targets: &Targets,
    evidence: &Evidence<'_>,
    attack: Attack,
    settings: &AttackSettings,
    share: f64,
) -> Result<AttackReport, EvalError> {
    let AttackSettings { confidence, seed, .. } = *settings;
    let scores = |signals: &Signals| ground.scores(attack, signals);
    let audited = Audited {
        before: scores(evidence.before)?,
        after: scores(evidence.after)?,
        oracle: Some(scores(evidence.oracle)?),
    };
    let mut report = AttackReport::new(attack, &audited, confidence)?;
    report.references = evidence.references.counted(evidence.base.is_some());
    report.most_vulnerable = vulnerable(ground, &audited.before, confidence)?;
    for leak in evidence.leaks {
        let scores = scores(&leak.signals)?;
        report.planted.push(PlantedLeak {
            name: leak.name.to_owned(),
            performance: Performance::measure(&scores, confidence)?,
            power: Power::measure(&scores, &RATES, share)?,
            detection: Power::detection(&scores, &RATES, share, RESAMPLES, seed)?,
            equals_oracle: leak.signals.bits == evidence.oracle.bits,
        });
    }
    let owned: Vec<(f64, &str)> = audited
        .after
        .members
        .iter()
        .zip(&targets.members)
        .filter_map(|(score, (_, record))| Some((*score, record.subject.as_ref()?.as_str())))
        .collect();
    if !owned.is_empty() {
        let (scores, subjects): (Vec<f64>, Vec<&str>) = owned.into_iter().unzip();
        report.subjects = by_subject(&scores, &subjects)?;
        report.subjects.truncate(SUBJECTS);
    }
    Ok(report)
}

fn of_groups(
    ground: &Ground<'_>,
    groups: &Groups,
    evidence: &Evidence<'_>,
    attack: Attack,
    confidence: f64,
) -> Result<AttackReport, AttackError> {
    let largest = |signals: &Signals| ground.scores(attack, signals).map(|scores| groups.largest(&scores));
    let audited = Audited {
        before: largest(evidence.before)?,
        after: largest(evidence.after)?,
        oracle: Some(largest(evidence.oracle)?),
    };
    let mut report = AttackReport::new(attack, &audited, confidence)?;
    report.references = evidence.references.counted(evidence.base.is_some());
    Ok(report)
}

/// The success before the deletion on the records that models which never saw them find hardest: chosen without a look at the system.
fn vulnerable(ground: &Ground<'_>, before: &Scores, confidence: f64) -> Result<Option<Performance>, AttackError> {
    let Some(ease) = ground.ease() else { return Ok(None) };
    let mut sorted = ease.clone();
    sorted.sort_by(f64::total_cmp);
    let limit = sorted[((sorted.len() as f64 * VULNERABLE) as usize).min(sorted.len() - 1)];
    let hard = |scores: &[f64], ease: &[f64]| -> Vec<f64> {
        scores.iter().zip(ease).filter(|(_, ease)| **ease < limit).map(|(score, _)| *score).collect()
    };
    let (of_members, of_non_members) = ease.split_at(ground.members);
    let scores =
        Scores { members: hard(&before.members, of_members), non_members: hard(&before.non_members, of_non_members) };
    if scores.members.len() < FEWEST || scores.non_members.len() < FEWEST {
        return Ok(None);
    }
    Performance::measure(&scores, confidence).map(Some)
}

/// The success of a classifier that sees records and no model; `None` if there are too few or they have no features in common.
fn without_a_model(targets: &Targets, confidence: f64) -> Result<Option<Performance>, AttackError> {
    let [fitted_members, members] = halves(targets.members.iter().map(|(_, record)| record));
    let [fitted_non_members, non_members] = halves(targets.non_members.iter());
    let fewest = [&fitted_members, &members, &fitted_non_members, &non_members].map(Vec::len).into_iter().min();
    if fewest.is_none_or(|fewest| fewest < FEWEST / 2) {
        return Ok(None);
    }
    match blind_by_halves([&fitted_members, &fitted_non_members], [&members, &non_members]) {
        Ok(scores) => Performance::measure(&scores, confidence).map(Some),
        // Pictures of unlike sizes.
        Err(AttackError::Length { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The features of records in two halves of about one size, that no subject has records in both of.
fn halves<'a>(records: impl Iterator<Item = &'a Record>) -> [Vec<Vec<f64>>; 2] {
    let mut groups: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        groups.entry(draw::group(record)).or_default().push(record);
    }
    let mut halves = [Vec::new(), Vec::new()];
    for group in groups.values() {
        let smaller = usize::from(halves[1].len() < halves[0].len());
        halves[smaller].extend(group.iter().map(|record| features(record)));
    }
    halves
}

/// A lower bound on epsilon from one run: the first reference system is attacked, whose records were included by coins, with the help of
/// the others. One record of each subject counts, as a coin decides about a subject. `None` without such systems.
fn epsilon(targets: &Targets, references: &ReferenceSet, confidence: f64) -> Result<Option<EpsilonBound>, AttackError> {
    let Some(attacked) = references.0.iter().position(|reference| reference.kind == ReferenceKind::Trained) else {
        return Ok(None);
    };
    let records = targets.members.iter().map(|(_, record)| record).chain(&targets.non_members);
    let mut seen = BTreeSet::new();
    let is_first = |record: &Record| seen.insert(draw::group(record));
    let firsts: Vec<bool> = records.map(is_first).collect();
    let outside = |at: usize| references.without(Some(attacked), at, Role::Outside, |signals, at| signals.scaled[at]);
    let chosen: Vec<usize> = (0..firsts.len()).filter(|at| firsts[*at] && !outside(*at).is_empty()).collect();
    let count = chosen.len() / GUESSED;
    let values: Vec<Vec<f64>> = chosen.iter().map(|at| outside(*at)).collect();
    if count == 0 || values.iter().all(|values| values.len() < 2) {
        return Ok(None);
    }
    let target: Vec<f64> = chosen.iter().map(|at| references.0[attacked].signals.scaled[*at]).collect();
    let mut scored: Vec<(f64, bool)> = offline(&target, &values, Deviation::Pooled)?
        .into_iter()
        .zip(&chosen)
        .map(|(score, at)| (score.deviations, references.0[attacked].roles[*at] == Role::Inside))
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0));
    let sure_in = scored[..count].iter().filter(|(_, is_in)| *is_in).count();
    let sure_out = scored[scored.len() - count..].iter().filter(|(_, is_in)| !*is_in).count();
    let guesses =
        Guesses { records: chosen.len() as u64, guesses: 2 * count as u64, right: (sure_in + sure_out) as u64 };
    lower_bound(guesses, DELTA, confidence).map(Some)
}
