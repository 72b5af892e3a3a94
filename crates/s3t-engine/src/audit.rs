//! The audit: everything that can be checked about a store's deletions, in one report.
//!
//! # Proof note
//!
//! *Before*: the auditor has the store, its keys, the pipeline and the base model, and perhaps checkpoints and receipts kept elsewhere.
//! *After* every check has passed: the ledger is the one that was signed and continues what the auditor saw before; each
//! accepted deletion was erased; every stage that serves is named by a lineage over the records that are there, and trained
//! again from them it has the same bits. *Why*: each check computes both sides of its comparison anew. [`LIMITS`] says what no
//! audit of a store can show.

mod absent;
mod history;
mod report;

use s3t_core::spelling::{ConfusableIds, DIFFERENCES, beside};
use s3t_core::wording::counted;
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::{Receipt, VerifyingKey};
use s3t_store::Snapshot;

use self::history::{read_history, snapshot_facts};
use crate::jobs::Observer;
use crate::settings::VerifyScope;
use crate::verify::{VerifiedStage, VerifyReport};
use crate::{EngineError, System};

pub use report::{AuditCheck, AuditReport, GUARANTEE, LIMITS};

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

    /// Checks that no two ids can be taken for each other: a request for one would leave the other.
    fn look_for_spellings(&self) -> AuditCheck {
        let what = "No two records and no two subjects have ids that a person cannot tell apart".to_owned();
        let problem = |ConfusableIds { kind, ids }: ConfusableIds<&str>| {
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

/// The deletions that are not erased yet, in words.
fn waiting(snapshot: &Snapshot) -> String {
    match snapshot.unerased().len() {
        0 => String::new(),
        number => format!("; {} in effect and not erased yet", counted(number, "deletion")),
    }
}
