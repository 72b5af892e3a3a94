//! `store check` and `store forget-export`: looking after a store.

use std::path::PathBuf;

use s3t_store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::with_store;
use crate::reply::{Reply, plain_answers, unless};
use crate::{ApiError, ErrorKind};

/// The request to check a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreCheckRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// `true` mends what can be mended without guessing.
    #[serde(default)]
    pub repair: bool,
}

/// The answer to `store check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreCheckAnswer {
    /// The check.
    pub store: CheckedStore,
}

impl Reply for StoreCheckAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        unless(self.store.passed)
    }
}

/// A store that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedStore {
    /// `true` if nothing is wrong.
    pub passed: bool,
    /// The findings.
    pub check: StoreCheck,
}

/// The findings of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreCheck {
    /// Records that were read and compared with the catalogue.
    pub records: u64,
    /// Stages that were read.
    pub stages: u64,
    /// Entries of the ledger that were compared with its signed head.
    pub entries: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Deletions that are in effect and whose erasure is not finished.
    pub waiting: Vec<String>,
    /// Things to know that are not wrong.
    pub notes: Vec<String>,
}

/// Something wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The problem, its place, and its meaning.
    pub problem: String,
    /// The way in which a repair mends it; `null` if it cannot without guessing.
    pub mend: Option<String>,
}

/// The request to take an export off the list of those that hold deleted stages, after it was removed by other means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForgetExportRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The folder of the export, or of one of its adapters.
    pub folder: PathBuf,
}

/// The answer to `store forget-export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForgetExportAnswer {
    /// Adapters that were taken off the list.
    pub forgotten: usize,
}

plain_answers!(ForgetExportAnswer);

impl From<s3t_store::StoreCheck> for CheckedStore {
    fn from(check: s3t_store::StoreCheck) -> Self {
        let passed = check.passed();
        let s3t_store::StoreCheck { records, stages, entries, findings, waiting, notes } = check;
        let finding =
            |finding: s3t_store::Finding| Finding { problem: finding.problem, mend: finding.mend.map(str::to_owned) };
        let findings = findings.into_iter().map(finding).collect();
        Self { passed, check: StoreCheck { records, stages, entries, findings, waiting, notes } }
    }
}

/// Finds every inconsistency between catalogue, files, keys and ledger, and mends what can be mended if that is asked for.
///
/// # Errors
///
/// [`ErrorKind::Store`] if there is no store, or it cannot be looked at. Findings are not errors: see [`Reply::failure`].
pub fn check_store(request: &StoreCheckRequest) -> Result<StoreCheckAnswer, ApiError> {
    let place = with_store(&request.pipeline)?.place();
    let check = if request.repair {
        Store::mend(&place)?
    } else {
        Store::open_read_only(&place).and_then(|store| store.check())?
    };
    Ok(StoreCheckAnswer { store: check.into() })
}

/// Takes an export off the list of those that hold deleted stages.
///
/// # Errors
///
/// [`ErrorKind::Unknown`] if the store knows of no export there.
pub fn forget_export(request: &ForgetExportRequest) -> Result<ForgetExportAnswer, ApiError> {
    let store = Store::open(&with_store(&request.pipeline)?.place())?;
    let forgotten = store.forget_exports(&request.folder)?;
    if forgotten == 0 {
        let folder = request.folder.display();
        let problem = format!("the store knows of no export at `{folder}`; `s3t status` names those it waits for");
        return Err(ApiError::new(ErrorKind::Unknown, problem));
    }
    Ok(ForgetExportAnswer { forgotten })
}
