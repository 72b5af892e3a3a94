//! The audit: everything that can be checked about a store's deletions, in one report.
//!
//! # Proof note
//!
//! *Before*: the auditor has the store, its keys, the pipeline and the base model, and perhaps checkpoints and receipts kept elsewhere.
//! *After* every check has passed: the ledger is the one that was signed and continues what the auditor saw before; each
//! accepted deletion was erased; every stage that serves is named by a lineage over the records that are there, and trained
//! again from them it has the same bits. *Why*: each check computes both sides of its comparison anew. [`LIMITS`] says what no
//! audit of a store can show.

use std::collections::{BTreeSet, HashMap, HashSet};

use s3t_core::spelling::{DIFFERENCES, Visible, beside, comparison_form, side_by_side};
use s3t_core::wording::counted;
use s3t_core::{Digest, Record, RecordId, StageKey, SubjectId};
use s3t_ledger::{Entry, Epoch, Event, Named, Opening, Receipt, Timestamp, VerifyingKey};
use s3t_store::{Snapshot, digest_of_stages};
use serde::Serialize;

use crate::jobs::Observer;
use crate::settings::VerifyScope;
use crate::verify::{VerifiedStage, VerifyReport};
use crate::{EngineError, System};

/// The claim of a report in which every check has passed.
pub const GUARANTEE: &str = "Every stage that answers is, bit for bit, what training from the records that are still there gives; it was \
computed without the deleted records. No record, tensor or key of what the ledger calls erased is in the store.";

/// The limits of the claim.
pub const LIMITS: [&str; 5] = [
    "An operator who is not honest can keep copies elsewhere: the audit is of this store, its keys and its ledger.",
    "What was answered, exported or copied before a deletion is out of its reach.",
    "The base model is public and was never trained on the records.",
    "Requests are assumed not to depend on the model's answers or on the secret partition.",
    "Bits are compared on the store's arithmetic; on a graphics card equality is in distribution only.",
];

/// The evidence that an auditor brings along.
#[derive(Debug, Default)]
pub struct AuditRequest {
    /// The public key that the ledger must be signed with, got from elsewhere.
    pub key: Option<VerifyingKey>,
    /// Checkpoints that were seen before.
    pub checkpoints: Vec<String>,
    /// Receipts that were given out.
    pub receipts: Vec<Receipt>,
    /// Records that must not be there.
    pub absent_records: Vec<RecordId>,
    /// Subjects that must not be there.
    pub absent_subjects: Vec<SubjectId>,
    /// The stages that are trained again.
    pub scope: VerifyScope,
}

/// A check of the audit, with its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditCheck {
    /// The statement that was checked.
    pub what: String,
    /// `true` if the statement holds; `None` if it was not checked.
    pub passed: Option<bool>,
    /// The things that were looked at, or the reason why they were not.
    pub detail: String,
    /// Everything that does not hold.
    pub problems: Vec<String>,
}

/// The findings of an audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// The store's public name.
    pub store: Digest,
    /// The ledger's public key.
    pub key: String,
    /// The deletions that the store has seen.
    pub epoch: Epoch,
    /// The moment of the ledger's newest entry.
    pub newest_entry: Option<Timestamp>,
    /// The checks, in order.
    pub checks: Vec<AuditCheck>,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// The claim if all checks passed.
    pub guarantee: &'static str,
    /// The limits of the claim.
    pub limits: [&'static str; 5],
}

impl AuditReport {
    /// `true` if nothing that was checked is wrong.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed != Some(false))
    }
}

impl System {
    /// Audits the store: changes nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] if stages are to be trained on another arithmetic than the store's; the observer's
    /// interruption. What is found wrong is in the report, not an error.
    pub fn audit(&self, request: &AuditRequest, observer: &dyn Observer) -> Result<AuditReport, EngineError> {
        // The ledger, the catalogue and what serves are looked at as they are at one moment.
        let moment = self.store().at_one_moment()?;
        let store = &moment;
        let snapshot = store.snapshot()?;
        let key = store.verifying_key();
        let mut checks = Vec::new();
        let (entries, unreadable) = match store.entries() {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        checks.push(check_key(request, &key));
        let mut add = |what: &str, detail: String, problems: Vec<String>| {
            checks.push(AuditCheck { what: what.into(), passed: Some(problems.is_empty()), detail, problems });
        };
        let seen = request
            .checkpoints
            .iter()
            .map(String::as_str)
            .chain(request.receipts.iter().map(|receipt| &*receipt.checkpoint));
        let problems = seen.clone().filter_map(|seen| store.check_continues(seen).err()).map(|error| error.to_string());
        let count = seen.clone().count();
        add(
            "The ledger continues every checkpoint and receipt that was seen before",
            format!("{count} given, and the newest one beside the keys"),
            problems.collect(),
        );
        let mut problems: Vec<String> = unreadable.into_iter().collect();
        problems.extend(read_history(&entries, &snapshot_facts(&snapshot)));
        add(
            "The ledger tells one history: every deletion accepted, in effect, erased, in order",
            format!("{}{}", counted(entries.len(), "entry"), waiting(&snapshot)),
            problems,
        );
        let mut problems = Vec::new();
        let receipts = match store.receipts() {
            Ok(receipts) => receipts,
            Err(error) => {
                problems.push(error.to_string());
                Vec::new()
            }
        };
        for receipt in receipts.iter().chain(&request.receipts) {
            if let Err(error) = receipt.verify(&key) {
                problems.push(format!("deletion {}: {error}", receipt.effect.epoch));
            }
            for cut in receipt.effect.cut.iter().filter(|cut| snapshot.has_stage(cut)) {
                problems.push(format!("stage {cut} was cut by deletion {} but may serve", receipt.effect.epoch));
            }
        }
        add(
            "Every deletion is proven by the ledger, and nothing that it cut may serve",
            format!("{}, {} given", counted(receipts.len(), "deletion"), counted(request.receipts.len(), "receipt")),
            problems,
        );
        let (store_id, newest) = (store.id(), entries.last().map(|entry| entry.at));
        drop(moment);
        let check = self.store().check()?;
        add(
            "Catalogue, files and keys agree, nothing is left over, and every lineage is of the records that are there",
            format!(
                "{}, {}, {}{}",
                counted(check.records as usize, "record"),
                counted(check.stages as usize, "stage"),
                counted(check.entries as usize, "ledger entry"),
                check.notes.iter().fold(String::new(), |all, note| all + "; " + note)
            ),
            check.findings.into_iter().map(|finding| finding.problem).collect(),
        );
        let (absent, problems) = self.look_for(request)?;
        if absent == 0 {
            checks.push(AuditCheck {
                what: "What must be gone is gone".into(),
                passed: None,
                detail: "no record or subject was named, and no receipt with the key to its names was given".into(),
                problems,
            });
        } else {
            add(
                "What must be gone is gone",
                format!("{} looked for in the catalogue and in every slice", counted(absent, "name")),
                problems,
            );
        }
        let stages = self.audit_bits(&snapshot, request.scope, observer, &mut checks)?;
        checks.push(self.look_for_spellings());
        Ok(AuditReport {
            store: store_id,
            key: key.to_string(),
            epoch: snapshot.epoch(),
            newest_entry: newest,
            checks,
            stages,
            guarantee: GUARANTEE,
            limits: LIMITS,
        })
    }

    /// Looks for what must be gone: how many names and commitments, and what was found.
    fn look_for(&self, request: &AuditRequest) -> Result<(usize, Vec<String>), EngineError> {
        // Sets: a receipt may name a hundred thousand.
        let set = |receipt: &Receipt| receipt.named.iter().copied().collect::<HashSet<Digest>>();
        let opened: Vec<(Opening, HashSet<Digest>)> =
            request.receipts.iter().filter_map(|receipt| Some((receipt.opening?, set(receipt)))).collect();
        let names = request.absent_records.len() + request.absent_subjects.len();
        let mut problems = Vec::new();
        for record in &request.absent_records {
            if self.store().address(record)?.is_some() {
                problems.push(format!("record `{}` is in the catalogue", Visible(record.as_str())));
            }
        }
        for subject in &request.absent_subjects {
            if self.store().records_of(subject)? > 0 {
                problems.push(format!("subject `{}` has records in the catalogue", Visible(subject.as_str())));
            }
        }
        if names + opened.len() > 0 {
            let absent = Absent::new(request, &opened);
            for address in self.store().settings().shape.addresses() {
                // A slice that cannot be read is told by another check.
                for (_, record) in self.store().records(address).unwrap_or_default() {
                    let id = Visible(record.id.as_str());
                    problems.extend(absent.problem(&record).map(|why| format!("record `{id}` is in {address}{why}")));
                }
            }
        }
        Ok((names + opened.len(), problems))
    }

    /// Checks that no two ids can be taken for each other: a request for one would leave the other.
    fn look_for_spellings(&self) -> AuditCheck {
        let what = "No two records and no two subjects have ids that a person cannot tell apart".to_owned();
        let problem = |(kind, ids): (&str, Vec<String>)| {
            let (first, others) = beside(&ids[0], &ids[1..]);
            format!(
                "{kind} ids `{first}`, {others} differ only in {DIFFERENCES}: a request for one leaves the others; name all of them"
            )
        };
        match self.store().confusable_ids() {
            Ok(groups) => {
                let detail = "every id in every slice, by the form in which ids are compared".to_owned();
                let problems: Vec<String> = groups.into_iter().map(problem).collect();
                AuditCheck { what, passed: Some(problems.is_empty()), detail, problems }
            }
            Err(error) => AuditCheck { what, passed: None, detail: error.to_string(), problems: Vec::new() },
        }
    }

    fn audit_bits(
        &self,
        snapshot: &Snapshot,
        scope: VerifyScope,
        observer: &dyn Observer,
        checks: &mut Vec<AuditCheck>,
    ) -> Result<Vec<VerifiedStage>, EngineError> {
        let what = "Stages that are trained again from nothing but their records have the same bits".to_owned();
        if scope == VerifyScope::Lineages || checks.iter().any(|check| check.passed == Some(false)) {
            let why = if scope == VerifyScope::Lineages { "not asked for" } else { "something else is wrong already" };
            checks.push(AuditCheck { what, passed: None, detail: why.into(), problems: Vec::new() });
            return Ok(Vec::new());
        }
        let mut report = VerifyReport::default();
        self.replay(snapshot, scope, observer, &mut report)?;
        let difference = |stage: &VerifiedStage| Some(format!("{}: {}", stage.stage, stage.difference.as_ref()?));
        let mut problems: Vec<String> = report.stages.iter().filter_map(difference).collect();
        problems.extend(report.problems);
        let overtaken = match report.overtaken {
            0 => String::new(),
            number => format!("; {} cut by deletions in the meantime", counted(number, "stage")),
        };
        let detail = format!("{} trained again{overtaken}", counted(report.stages.len(), "stage"));
        checks.push(AuditCheck { what, passed: Some(problems.is_empty()), detail, problems });
        Ok(report.stages)
    }
}

/// Compares the ledger's key with the one that the auditor has.
fn check_key(request: &AuditRequest, key: &VerifyingKey) -> AuditCheck {
    let foreign = request.key.as_ref().filter(|given| *given != key);
    let problems = foreign.map(|given| format!("the ledger is signed with {key}, not with {given}"));
    AuditCheck {
        what: "The ledger is signed with the key that the auditor has".into(),
        passed: request.key.as_ref().map(|_| foreign.is_none()),
        detail: if request.key.is_some() { key.to_string() } else { format!("no key was given; the store's is {key}") },
        problems: problems.into_iter().collect(),
    }
}

/// The names that must not be there, to compare records with.
struct Absent<'a> {
    /// The ids that must be gone, by kind and comparison form.
    forms: HashMap<(&'static str, String), Vec<&'a str>>,
    /// The openings of receipts, with the commitments under each.
    opened: &'a [(Opening, HashSet<Digest>)],
}

impl<'a> Absent<'a> {
    fn new(request: &'a AuditRequest, opened: &'a [(Opening, HashSet<Digest>)]) -> Self {
        let mut forms: HashMap<_, Vec<&str>> = HashMap::new();
        let records = request.absent_records.iter().map(Named::Record);
        for name in records.chain(request.absent_subjects.iter().map(Named::Subject)) {
            forms.entry((name.kind(), comparison_form(name.as_str()).into_owned())).or_default().push(name.as_str());
        }
        Self { forms, opened }
    }

    /// The problem with a record that is there, beyond its being there; `None` if there is no problem.
    fn problem(&self, record: &Record) -> Option<String> {
        let names = [Some(Named::Record(&record.id)), record.subject.as_ref().map(Named::Subject)];
        let (mut is_named, mut spelling) = (false, None);
        for name in names.into_iter().flatten() {
            for absent in
                self.forms.get(&(name.kind(), comparison_form(name.as_str()).into_owned())).into_iter().flatten()
            {
                is_named |= *absent == name.as_str();
                spelling = spelling
                    .or_else(|| Some((name, (*absent).to_owned())).filter(|(_, absent)| absent != name.as_str()));
            }
            for (opening, named) in self.opened {
                is_named |= named.contains(&name.commit(opening));
                let is_given = |commitment: &Digest| named.contains(commitment);
                spelling = spelling.or_else(|| Some((name, name.spelling_among(is_given, opening)?)));
            }
        }
        if is_named {
            return Some(String::new());
        }
        spelling.map(|(name, absent)| {
            let (there, absent) = side_by_side(name.as_str(), &absent);
            format!(
                ": its {} `{there}` differs from `{absent}`, which must be gone, only in {DIFFERENCES}",
                name.kind()
            )
        })
    }
}

/// The state that the history must lead to.
struct Facts<'a> {
    epoch: Epoch,
    stages: &'a BTreeSet<StageKey>,
    /// The digest of the plan; `None` while a deletion waits to be erased.
    plan: Option<Digest>,
    /// The deletions that wait to be erased.
    waiting: &'a [Epoch],
}

/// The deletions that are not erased yet, in words.
fn waiting(snapshot: &Snapshot) -> String {
    match snapshot.unerased().len() {
        0 => String::new(),
        number => format!("; {} in effect and not erased yet", counted(number, "deletion")),
    }
}

fn snapshot_facts(snapshot: &Snapshot) -> Facts<'_> {
    let plan = || digest_of_stages(snapshot.plan().stages().map(|stage| &stage.key));
    let waiting = snapshot.unerased();
    Facts { epoch: snapshot.epoch(), stages: snapshot.stages(), plan: waiting.is_empty().then(plan), waiting }
}

/// Reads the entries in order: what is wrong with the history that they tell.
fn read_history(entries: &[Entry], facts: &Facts<'_>) -> Vec<String> {
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
