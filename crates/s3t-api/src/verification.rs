//! `verify`: checks files and lineages, trains stages again, compares bits, and writes the verdict into the ledger.

use std::path::PathBuf;
use std::time::Instant;

use s3t_engine::{Observer, System, VerifyScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::to_change;
use crate::parts::{VerifiedStage, all};
use crate::reply::{Reply, unless};
use crate::{ApiError, ErrorKind};

/// The request to verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The stages that are trained again.
    #[serde(default)]
    pub scope: VerifyScope,
}

/// The answer to `verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyAnswer {
    /// The verification.
    pub verification: Verification,
}

impl Reply for VerifyAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        unless(self.verification.passed)
    }
}

/// A verification, with the time that it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// `true` if nothing is wrong.
    pub passed: bool,
    /// The findings.
    pub report: VerifyReport,
    /// Seconds that the verification took.
    pub seconds: f64,
}

/// The findings of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// Stages whose lineage was compared with the plan and the records as they are.
    pub lineages: usize,
    /// Records whose digest was computed again.
    pub records: usize,
    /// Deletions that the store has accepted.
    pub deletions: u64,
    /// Stages that were trained again.
    pub stages: Vec<VerifiedStage>,
    /// Stages that a deletion cut off while they were trained again: nothing is said about them.
    pub overtaken: usize,
    /// Things that wait to be finished, or could not be looked at.
    pub notes: Vec<String>,
    /// Everything else that is wrong, each in a sentence.
    pub problems: Vec<String>,
}

impl From<s3t_engine::VerifyReport> for VerifyReport {
    fn from(report: s3t_engine::VerifyReport) -> Self {
        let s3t_engine::VerifyReport { lineages, records, deletions, stages, overtaken, notes, problems } = report;
        Self { lineages, records, deletions, stages: all(stages), overtaken, notes, problems }
    }
}

/// Verifies a store, and writes the verdict into its ledger.
///
/// # Errors
///
/// As [`verify_in`]; [`ErrorKind::Store`] if there is no store. A difference is not an error: see [`Reply::failure`](crate::Reply::failure).
pub fn verify(request: &VerifyRequest, observer: &dyn Observer) -> Result<VerifyAnswer, ApiError> {
    verify_in(&to_change(&request.pipeline)?, request.scope, observer)
}

/// Verifies an open system, and writes the verdict into its ledger.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
/// # s3t_testkit::write_tiny_model(&model, 4)?;
/// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
/// # let system = s3t_engine::System::create(pipeline, &records, None)?;
/// # system.train(&s3t_engine::Quiet)?;
/// use s3t_api::Reply;
/// use s3t_engine::{Quiet, VerifyScope};
///
/// let answer = s3t_api::verify_in(&system, VerifyScope::Serving, &Quiet)?;
/// assert_eq!(answer.failure(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`System::verify_and_record`].
pub fn verify_in(system: &System, scope: VerifyScope, observer: &dyn Observer) -> Result<VerifyAnswer, ApiError> {
    let started = Instant::now();
    let report = system.verify_and_record(scope, observer)?;
    let (passed, seconds) = (report.passed(), started.elapsed().as_secs_f64());
    Ok(VerifyAnswer { verification: Verification { passed, report: report.into(), seconds } })
}
