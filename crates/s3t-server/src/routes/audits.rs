//! Audits: started, watched, read.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use s3t_core::{RecordId, SubjectId};
use s3t_engine::{AuditRequest, VerifyScope};
use s3t_ledger::{Checkpoint, Receipt, VerifyingKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{Audit, May};
use crate::address::Path;
use crate::app::App;
use crate::auditing;
use crate::audits::{self, Outcome};
use crate::body;
use crate::clock::moment;
use crate::refusal::{ErrorBody, Refusal};

/// The evidence that an auditor brings along. Everything may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct NewAudit {
    /// The public key of the ledger, got from elsewhere.
    key: Option<String>,
    /// Checkpoints of the ledger that were seen before.
    checkpoints: Vec<String>,
    /// Receipts that were given out.
    #[schema(value_type = Vec<Object>)]
    receipts: Vec<Receipt>,
    /// Records that must not be there.
    absent_records: Vec<String>,
    /// Subjects that must not be there.
    absent_subjects: Vec<String>,
    /// The stages that are trained again: `lineages` trains no stage, `serving` those that answer, `all` every stage.
    scope: Scope,
}

/// The stages that an audit trains again.
#[derive(Serialize, Deserialize, ToSchema, Default)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    /// No stage: lineages and files only.
    #[default]
    Lineages,
    /// The stages that answer.
    Serving,
    /// All that are on disk.
    All,
}

/// An audit as it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditState {
    id: String,
    /// When it was started (RFC 3339).
    started: String,
    /// `running`, `done` or `failed`.
    state: &'static str,
    /// The stages that were trained again so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<usize>,
    /// `true` if everything that was checked holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<bool>,
    /// The report, as `s3t audit --json` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    report: Option<serde_json::Value>,
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<audits::Audit> for AuditState {
    fn from(audit: audits::Audit) -> Self {
        let mut state = Self {
            id: audit.id,
            started: moment(audit.started),
            state: "running",
            stages: None,
            passed: None,
            report: None,
            problem: None,
        };
        match audit.outcome {
            Outcome::Running(stages) => state.stages = Some(stages),
            Outcome::Done(report) => {
                state.state = "done";
                state.passed = Some(report.passed());
                state.report = serde_json::to_value(s3t_api::AuditReport::from((*report).clone())).ok();
            }
            Outcome::Failed(problem) => (state.state, state.problem) = ("failed", Some(problem)),
        }
        state
    }
}

/// Start an audit of everything that can be checked about the store's deletions.
#[utoipa::path(post, path = "/audits", operation_id = "start_audit", tag = "proofs", request_body = NewAudit,
    responses(
        (status = 202, description = "It goes on; `Location` says where to look.", body = AuditState),
        (status = 400, description = "The request cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not audit.", body = ErrorBody),
        (status = 409, description = "Another audit goes on.", body = ErrorBody),
        (status = 413, description = "Too many bytes.", body = ErrorBody),
        (status = 415, description = "A media type that is not read.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    _caller: May<Audit>,
    body::Json(request): body::Json<NewAudit>,
) -> Result<Response, Refusal> {
    let audit = auditing::start(&app, read(request)?)?;
    let location = HeaderValue::try_from(format!("/audits/{}", audit.id));
    let mut response = (StatusCode::ACCEPTED, Json(AuditState::from(audit))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// An audit, with its report when it is done.
#[utoipa::path(get, path = "/audits/{id}", operation_id = "get_audit", tag = "proofs",
    params(("id" = String, Path, description = "The audit's id.")),
    responses(
        (status = 200, description = "The audit as it is.", body = AuditState),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not audit.", body = ErrorBody),
        (status = 404, description = "No audit of this id; the newest 20 are kept until the server stops.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    _caller: May<Audit>,
    Path(id): Path<String>,
) -> Result<Json<AuditState>, Refusal> {
    let audit = app.audits.get(&id).ok_or_else(|| Refusal::not_found("no audit of this id"))?;
    Ok(Json(audit.into()))
}

fn read(request: NewAudit) -> Result<AuditRequest, Refusal> {
    let NewAudit { key, checkpoints, receipts, absent_records, absent_subjects, scope } = request;
    let invalid = |error: s3t_core::CoreError| Refusal::invalid(error.to_string());
    for (place, checkpoint) in checkpoints.iter().enumerate() {
        Checkpoint::read(checkpoint).map_err(|error| Refusal::invalid(format!("`checkpoints[{place}]`: {error}")))?;
    }
    Ok(AuditRequest {
        key: key
            .map(|key| key.parse::<VerifyingKey>().map_err(|error| Refusal::invalid(format!("`key`: {error}"))))
            .transpose()?,
        checkpoints,
        receipts,
        absent_records: absent_records.into_iter().map(RecordId::new).collect::<Result<_, _>>().map_err(invalid)?,
        absent_subjects: absent_subjects.into_iter().map(SubjectId::new).collect::<Result<_, _>>().map_err(invalid)?,
        scope: match scope {
            Scope::Lineages => VerifyScope::Lineages,
            Scope::Serving => VerifyScope::Serving,
            Scope::All => VerifyScope::All,
        },
    })
}
