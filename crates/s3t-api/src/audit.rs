//! `audit`: checks everything that can be checked about a store's deletions.

use std::path::PathBuf;

use s3t_core::{RecordId, SubjectId};
use s3t_engine::VerifyScope;
use s3t_eval::attack::{AttackObserver, AttackSettings, MembershipAudit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attack::attack_in;
use crate::open::to_read;
use crate::parts::{VerifiedStage, all};
use crate::receipt::{read_checkpoint, read_key, read_receipt};
use crate::reply::{Reply, unless};
use crate::{ApiError, ErrorKind};

/// The request to audit, with the evidence that the auditor brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The store's public key as the auditor has it: the line itself, or a file that holds it.
    #[serde(default)]
    pub key: Option<String>,
    /// Files of checkpoints that were seen before.
    #[serde(default)]
    pub checkpoints: Vec<PathBuf>,
    /// Files of receipts that were given out.
    #[serde(default)]
    pub receipts: Vec<PathBuf>,
    /// Records that must not be there.
    #[serde(default)]
    pub absent_records: Vec<String>,
    /// Subjects that must not be there.
    #[serde(default)]
    pub absent_subjects: Vec<String>,
    /// The stages that are trained again.
    #[serde(default)]
    pub scope: VerifyScope,
    /// `true` attacks a copy of the store too, by the pipeline's section `[attack]`, if nothing else is wrong.
    #[serde(default)]
    pub attack: bool,
}

/// The answer to `audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditAnswer {
    /// The audit.
    pub audit: Audit,
}

impl Reply for AuditAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        unless(self.audit.passed)
    }
}

/// An audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// `true` if nothing that was checked is wrong.
    pub passed: bool,
    /// The report.
    pub report: AuditReport,
    /// The audit by attack, if it was asked for and nothing else was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<MembershipAudit>,
}

/// The report of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditReport {
    /// The public name of the store.
    pub store: String,
    /// The public key of the ledger.
    pub key: String,
    /// Deletions that the store has accepted.
    pub epoch: u64,
    /// The moment of the ledger's newest entry, in milliseconds since the start of 1970, UTC.
    pub newest_entry: Option<u64>,
    /// The checks, in order.
    pub checks: Vec<AuditCheck>,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// The claim if all checks passed.
    pub guarantee: String,
    /// The limits of the claim.
    pub limits: Vec<String>,
}

/// A check of the audit, with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditCheck {
    /// The statement that was checked.
    pub what: String,
    /// `true` if it holds; `null` if it was not checked.
    pub passed: Option<bool>,
    /// The things that were looked at, or the reason why they were not.
    pub detail: String,
    /// Everything that does not hold.
    pub problems: Vec<String>,
}

impl From<s3t_engine::AuditCheck> for AuditCheck {
    fn from(check: s3t_engine::AuditCheck) -> Self {
        let s3t_engine::AuditCheck { what, passed, detail, problems } = check;
        Self { what, passed, detail, problems }
    }
}

impl From<s3t_engine::AuditReport> for AuditReport {
    fn from(report: s3t_engine::AuditReport) -> Self {
        Self {
            store: report.store.to_string(),
            key: report.key,
            epoch: report.epoch.0,
            newest_entry: report.newest_entry.map(|at| at.0),
            checks: all(report.checks),
            stages: all(report.stages),
            guarantee: report.guarantee.to_owned(),
            limits: report.limits.iter().map(|limit| (*limit).to_owned()).collect(),
        }
    }
}

impl AuditRequest {
    /// The evidence, read from its files.
    fn read(&self) -> Result<s3t_engine::AuditRequest, ApiError> {
        Ok(s3t_engine::AuditRequest {
            key: self.key.as_deref().map(read_key).transpose()?,
            checkpoints: self.checkpoints.iter().map(|path| read_checkpoint(path)).collect::<Result<_, _>>()?,
            receipts: self.receipts.iter().map(|path| read_receipt(path)).collect::<Result<_, _>>()?,
            absent_records: self.absent_records.iter().map(RecordId::new).collect::<Result<_, _>>()?,
            absent_subjects: self.absent_subjects.iter().map(SubjectId::new).collect::<Result<_, _>>()?,
            scope: self.scope,
        })
    }
}

/// Audits a store. Changes nothing.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for evidence that cannot be read; [`ErrorKind::Store`] if there is no store, or stages are to be trained on
/// another arithmetic than the store's. Findings are not errors: see [`Reply::failure`].
pub fn audit(request: &AuditRequest, observer: &dyn AttackObserver) -> Result<AuditAnswer, ApiError> {
    let evidence = request.read()?;
    let system = to_read(&request.pipeline)?;
    if request.attack {
        // Settings that cannot be used are refused before any work.
        AttackSettings::of(system.pipeline())?;
    }
    let report = system.audit(&evidence, observer)?;
    let attacks = request.attack && report.passed();
    let attack = attacks.then(|| attack_in(&request.pipeline, &system, observer)).transpose()?;
    let passed = report.passed() && attack.as_ref().is_none_or(MembershipAudit::passed);
    Ok(AuditAnswer { audit: Audit { passed, report: report.into(), attack } })
}
