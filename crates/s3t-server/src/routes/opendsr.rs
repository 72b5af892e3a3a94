//! The routes of OpenDSR 2.0, and of OpenGDPR under its names.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::predict::blocking;
use crate::access::{Delete, May};
use crate::address::Path;
use crate::app::App;
use crate::body::{Body, media_type, read_json};
use crate::clock::moment;
use crate::clock::now_ms;
use crate::opendsr::{API_VERSION, DsrRequest, DsrState, HEADERS, OpenDsr, expected};
use crate::refusal::Refusal;
use crate::requests::{Origin, Row};
use crate::tokens::Caller;

/// The days that a request may take by law where its batch allows it.
const DAYS: i64 = 30;

/// The requests that this processor takes.
#[utoipa::path(get, path = "/v2/discovery", operation_id = "opendsr_discovery", tag = "opendsr", responses(
    (status = 200, description = "Versions, identities, types of requests and the certificate.", body = Object)))]
pub(crate) async fn discovery(State(app): State<Arc<App>>) -> Response {
    finish(&app, opendsr(&app).map(|opendsr| (StatusCode::OK, opendsr.discovery())))
}

/// The certificate of the key that signs answers and callbacks.
#[utoipa::path(get, path = "/v2/certificate.pem", operation_id = "opendsr_certificate", tag = "opendsr", responses(
    (status = 200, description = "PEM.", body = String, content_type = "application/x-pem-file")))]
pub(crate) async fn certificate(State(app): State<Arc<App>>) -> Response {
    let kind = HeaderValue::from_static("application/x-pem-file");
    match opendsr(&app) {
        Ok(opendsr) => ([(header::CONTENT_TYPE, kind)], opendsr.certificate().to_vec()).into_response(),
        Err(refusal) => finish(&app, Err(refusal)),
    }
}

/// Make a privacy request.
#[utoipa::path(post, path = "/v2/requests", operation_id = "opendsr_create_request", tag = "opendsr", request_body = DsrRequest, responses(
    (status = 201, description = "It is received.", body = Object),
    (status = 400, description = "It cannot be read, or asks for what this processor does not do.", body = Object),
    (status = 401, description = "No token, or an unknown one.", body = Object),
    (status = 403, description = "The token may not delete.", body = Object),
    (status = 409, description = "The id was used for another request.", body = Object),
    (status = 413, description = "Too many bytes.", body = Object),
    (status = 415, description = "A media type that is not read.", body = Object),
    (status = 503, description = "The store is in use by another process.", body = Object),
), security(("token" = [])))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Result<May<Delete>, Refusal>,
    headers: HeaderMap,
    body: Result<Body, Refusal>,
) -> Response {
    let made = async {
        let (May { caller, .. }, Body(body)) = (caller?, body?);
        let request: DsrRequest = read_json(&media_type(&headers), &body)?;
        let due = (app.settings.batch_minutes > 0).then(|| now_ms() + DAYS * 86_400_000);
        let new = request.check(opendsr(&app)?, due)?;
        let working = Arc::clone(&app);
        let row = blocking(move || working.desk.submit(new, &caller)).await?;
        let answer = json!({
            "controller_id": row.caller,
            "expected_completion_time": expected(&row),
            "received_time": moment(row.received),
            "encoded_request": STANDARD.encode(&body),
            "subject_request_id": row.id,
            "api_version": API_VERSION,
        });
        Ok((StatusCode::CREATED, answer))
    };
    finish(&app, made.await)
}

/// The state of a privacy request.
#[utoipa::path(get, path = "/v2/requests/{subject_request_id}", operation_id = "opendsr_get_request", tag = "opendsr",
    params(("subject_request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 200, description = "The request as it is.", body = DsrState),
        (status = 401, description = "No token, or an unknown one.", body = Object),
        (status = 403, description = "The token may not delete.", body = Object),
        (status = 404, description = "No request of this id.", body = Object),
    ), security(("token" = [])))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    caller: Result<May<Delete>, Refusal>,
    Path(id): Path<String>,
) -> Response {
    let found = async {
        let May { caller, .. } = caller?;
        let row = row_of(&app, &caller, id).await?;
        Ok((StatusCode::OK, state_of(&app, &row, &caller)?))
    };
    finish(&app, found.await)
}

/// Cancel a privacy request, while it is pending.
#[utoipa::path(delete, path = "/v2/requests/{subject_request_id}", operation_id = "opendsr_cancel_request", tag = "opendsr",
    params(("subject_request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 202, description = "It is cancelled.", body = Object),
        (status = 401, description = "No token, or an unknown one.", body = Object),
        (status = 403, description = "The token may not delete.", body = Object),
        (status = 404, description = "No request of this id.", body = Object),
        (status = 409, description = "It is not pending any more.", body = Object),
    ), security(("token" = [])))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Result<May<Delete>, Refusal>,
    Path(id): Path<String>,
) -> Response {
    let cancelled = async {
        let May { caller, .. } = caller?;
        let row = row_of(&app, &caller, id).await?;
        let working = Arc::clone(&app);
        let row = blocking(move || working.desk.cancel(&row.id)).await?;
        let mut answer = state_of(&app, &row, &caller)?;
        answer["received_time"] = moment(now_ms()).into();
        Ok((StatusCode::ACCEPTED, answer))
    };
    finish(&app, cancelled.await)
}

fn opendsr(app: &App) -> Result<&OpenDsr, Refusal> {
    app.opendsr.as_deref().ok_or_else(|| Refusal::not_found("this server does not speak OpenDSR"))
}

fn state_of(app: &App, row: &Row, caller: &Caller) -> Result<Value, Refusal> {
    let state = opendsr(app)?.state(row, caller.may_know());
    serde_json::to_value(state).map_err(|error| Refusal::new(crate::refusal::Kind::Failed, error.to_string()))
}

async fn row_of(app: &Arc<App>, caller: &Caller, id: String) -> Result<Row, Refusal> {
    let (working, caller) = (Arc::clone(app), Arc::clone(&caller.id));
    blocking(move || {
        let row = working.desk.requests().row(&id)?;
        let own = row.filter(|row| row.origin == Origin::OpenDsr && *row.caller == *caller);
        own.ok_or_else(|| Refusal::not_found("no request of this id"))
    })
    .await
}

/// An answer with its signature; refusals have the shape of the protocol.
fn finish(app: &App, answer: Result<(StatusCode, Value), Refusal>) -> Response {
    let mut headers = HeaderMap::new();
    let (status, body) = answer.unwrap_or_else(|refusal| {
        headers.extend(refusal.headers().into_iter().map(|(name, value)| (Some(name), value)).collect::<Vec<_>>());
        let status = refusal.kind.status();
        let domain = app.opendsr.as_ref().map_or("s3t", |opendsr| opendsr.domain());
        let reason = format!("{:?}", refusal.kind);
        let error = json!({
            "code": status.as_u16(),
            "message": refusal.message,
            "errors": [{ "domain": domain, "reason": reason, "message": refusal.message }],
        });
        (status, json!({ "error": error }))
    });
    let body = body.to_string().into_bytes();
    if let Some(opendsr) = &app.opendsr
        && let Ok(signature) = opendsr.sign(&body)
    {
        for (domain_name, signature_name) in HEADERS {
            for (name, value) in [(domain_name, opendsr.domain()), (signature_name, signature.as_str())] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, headers, body).into_response()
}
