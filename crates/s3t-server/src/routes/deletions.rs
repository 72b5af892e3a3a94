//! Deletions: request, state, receipt, list, cancel.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::Receipt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::predict::blocking;
use crate::access::{Audit, Delete, May, Run, See};
use crate::address::{Path, Query};
use crate::app::App;
use crate::body;
use crate::clock::moment;
use crate::desk::NewDeletion;
use crate::refusal::{ErrorBody, Kind, Refusal};
use crate::requests::{Names, Origin, Phase, Row};
use crate::tokens::Caller;

/// The most names of a request.
const MAX_NAMES: usize = 100_000;

/// The most requests of a list.
const MAX_LISTED: u32 = 200;

/// A request to delete.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeletionRequest {
    /// An id, for example a ticket's, which must not name a person: asking again under it does nothing twice. One is drawn if it is not
    /// given.
    request_id: Option<String>,
    /// Records.
    #[serde(default)]
    records: Vec<String>,
    /// Subjects: all of their records.
    #[serde(default)]
    subjects: Vec<String>,
    /// The moment at which it has to be done (RFC 3339). Requests with a due time are done in batches, where the server collects them.
    due: Option<String>,
}

/// A deletion request as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deletion {
    /// The id of the request.
    request_id: String,
    /// The phase.
    phase: Phase,
    /// When it arrived (RFC 3339).
    received: String,
    /// When it has to be done, if that was said.
    due: Option<String>,
    /// Since when no answer that begins uses what was deleted.
    in_effect: Option<String>,
    /// When the bytes were gone.
    erased: Option<String>,
    /// The deletion's number, for those who may know: every answer of at least this epoch knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// The number of records that it took, for those who may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
}

/// Deletion requests, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deletions {
    deletions: Vec<Deletion>,
    /// Give it as `before` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// The part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// A part of the request id.
    #[serde(default)]
    search: String,
    /// The number before which the list begins.
    before: Option<i64>,
}

impl Deletion {
    pub(crate) fn new(row: &Row, caller: &Caller) -> Self {
        let may_know = caller.may_know();
        Self {
            request_id: row.id.clone(),
            phase: row.phase,
            received: moment(row.received),
            due: row.due.map(moment),
            in_effect: row.effective.map(moment),
            erased: row.erased.map(moment),
            epoch: row.epoch.filter(|_| may_know).map(|epoch| epoch.0),
            records: row.records.filter(|_| may_know),
        }
    }
}

/// Delete records or subjects.
///
/// Answers when the deletion is in effect, here and at every follower: no answer that begins from then on uses a stage that saw one of
/// the records. A request with a
/// due time may wait for its batch; then the answer is 202. For a token that may not know who is among the records (without the role
/// `audit` or `operate`), unknown names are passed over.
#[utoipa::path(post, path = "/deletions", operation_id = "create_deletion", tag = "deletions",
    request_body = DeletionRequest,
    responses(
        (status = 201, description = "In effect, or erased already.", body = Deletion),
        (status = 202, description = "It waits for its batch, is held, or waits for a follower longer than a lease lasts: see `phase`.", body = Deletion),
        (status = 400, description = "The request cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not delete.", body = ErrorBody),
        (status = 404, description = "A name is unknown; nothing was deleted. Only for those who may know.", body = ErrorBody),
        (status = 409, description = "The request id was used for other names.", body = ErrorBody),
        (status = 413, description = "Too many bytes or names.", body = ErrorBody),
        (status = 415, description = "A media type that is not read.", body = ErrorBody),
        (status = 429, description = "More requests than the token may make.", body = ErrorBody),
        (status = 503, description = "The store is in use by another process.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    May { caller, .. }: May<Delete>,
    body::Json(request): body::Json<DeletionRequest>,
) -> Result<Response, Refusal> {
    let new = read(request)?;
    let known = caller.clone();
    let working = Arc::clone(&app);
    let row = blocking(move || working.desk.submit(new, &known)).await?;
    let row = in_effect(&app, row).await?;
    let status =
        if row.phase.waits() || row.phase == Phase::Accepted { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    let location = format!("/deletions/{}", encoded(&row.id));
    let mut response = (status, Json(Deletion::new(&row, &caller))).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The request when it is in effect everywhere; as it is, if followers take longer than a lease.
async fn in_effect(app: &Arc<App>, mut row: Row) -> Result<Row, Refusal> {
    if row.phase != Phase::Accepted {
        return Ok(row);
    }
    let mut changes = app.desk.changes();
    let until = tokio::time::Instant::now() + app.followers.longest_wait()?;
    loop {
        let (working, id) = (Arc::clone(app), row.id.clone());
        row = blocking(move || Ok(working.desk.requests().row(&id)?)).await?.unwrap_or(row);
        if row.phase != Phase::Accepted || tokio::time::timeout_at(until, changes.changed()).await.is_err() {
            return Ok(row);
        }
    }
}

/// The state of a deletion request.
#[utoipa::path(get, path = "/deletions/{request_id}", operation_id = "get_deletion", tag = "deletions",
    params(("request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 200, description = "The request as it is.", body = Deletion),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not see deletions.", body = ErrorBody),
        (status = 404, description = "No request of this id, or another token's.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    May { caller, .. }: May<See>,
    Path(id): Path<String>,
) -> Result<Json<Deletion>, Refusal> {
    let row = row_of(&app, &caller, id).await?;
    Ok(Json(Deletion::new(&row, &caller)))
}

/// Take a deletion request back, while it waits for its batch.
#[utoipa::path(delete, path = "/deletions/{request_id}", operation_id = "cancel_deletion", tag = "deletions",
    params(("request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 200, description = "It is cancelled.", body = Deletion),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not delete.", body = ErrorBody),
        (status = 404, description = "No request of this id, or another token's.", body = ErrorBody),
        (status = 409, description = "It is in effect already.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    May { caller, .. }: May<Delete>,
    Path(id): Path<String>,
) -> Result<Json<Deletion>, Refusal> {
    let row = row_of(&app, &caller, id).await?;
    let row = blocking(move || app.desk.cancel(&row.id)).await?;
    Ok(Json(Deletion::new(&row, &caller)))
}

/// Do a deletion request that is held, although a shard will have less left than `min_budget`.
#[utoipa::path(post, path = "/deletions/{request_id}/release", operation_id = "release_deletion", tag = "deletions",
    params(("request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 200, description = "It is in effect.", body = Deletion),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not operate.", body = ErrorBody),
        (status = 404, description = "No request of this id.", body = ErrorBody),
        (status = 409, description = "It is not held.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn release(
    State(app): State<Arc<App>>,
    May { caller, .. }: May<Run>,
    Path(id): Path<String>,
) -> Result<Json<Deletion>, Refusal> {
    let working = Arc::clone(&app);
    let row = blocking(move || working.desk.release(&id)).await?;
    let row = in_effect(&app, row).await?;
    Ok(Json(Deletion::new(&row, &caller)))
}

/// The deletion requests, newest first: a token's own, or all for those who may know.
#[utoipa::path(get, path = "/deletions", operation_id = "list_deletions", tag = "deletions", params(ListQuery),
    responses(
        (status = 200, description = "The requests.", body = Deletions),
        (status = 400, description = "The query cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not see deletions.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    May { caller, .. }: May<See>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Deletions>, Refusal> {
    let known = caller.clone();
    let rows = blocking(move || {
        let own = (!known.may_know()).then_some(&*known.id);
        let before = query.before.unwrap_or(i64::MAX);
        Ok(app.desk.requests().list(own, &query.search, before, MAX_LISTED)?)
    });
    let rows = rows.await?;
    let next = rows.last().map(|row| row.number).filter(|_| rows.len() == MAX_LISTED as usize);
    Ok(Json(Deletions { deletions: rows.iter().map(|row| Deletion::new(row, &caller)).collect(), next }))
}

/// The receipt of a deletion: a proof for whoever has the ledger's public key. For those who may know.
///
/// The first receipt that is sent after the erasure is the last one with the key to the names in it; `s3t delete` with the id and those
/// of its names that were there brings it back.
#[utoipa::path(get, path = "/deletions/{request_id}/receipt", operation_id = "get_receipt", tag = "deletions",
    params(("request_id" = String, Path, description = "The request's id.")),
    responses(
        (status = 200, description = "The receipt; `s3t receipt verify` checks it.", body = Object),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not audit.", body = ErrorBody),
        (status = 404, description = "No deletion of this id.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn receipt(
    State(app): State<Arc<App>>,
    _caller: May<Audit>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let body = receipt_body(&app, id, serde_json::to_vec).await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// A receipt as the body of an answer. The store forgets the key in it when the body begins to be sent: a question for the head alone and
/// a caller that has gone leave it.
pub(crate) async fn receipt_body(
    app: &Arc<App>,
    id: String,
    write: fn(&Receipt) -> serde_json::Result<Vec<u8>>,
) -> Result<Body, Refusal> {
    let (asked, of) = (Arc::clone(app), id.clone());
    let receipt = blocking(move || {
        let mut receipt = asked.service.receipt(&of)?;
        // The ledger speaks for the store. What a follower may still answer with, or remember, is neither in effect nor erased yet.
        if asked.desk.has_followers()? {
            let is_erased = match asked.desk.requests().row(&of)?.map(|row| row.phase) {
                Some(Phase::InEffect) => false,
                Some(phase) if phase != Phase::Erased => {
                    receipt.effective = None;
                    false
                }
                Some(_) => true,
                // It came to the store by another way, and followers learn of it from the store's state.
                None => {
                    let is_erased = asked.desk.followers_have_erased(receipt.effect.epoch)?;
                    receipt.effective = receipt.effective.filter(|_| is_erased);
                    is_erased
                }
            };
            receipt.erased = receipt.erased.filter(|_| is_erased);
        }
        Ok(receipt)
    })
    .await?;
    let text = write(&receipt).map_err(|error| Refusal::new(Kind::Failed, error.to_string()))?;
    if receipt.erased.is_none() || receipt.opening.is_none() {
        return Ok(Body::from(text));
    }
    let app = Arc::clone(app);
    let sent = async move {
        let forgotten = blocking(move || Ok(app.service.receipt_delivered(&id)?)).await;
        forgotten.map(|()| text).map_err(|refusal| std::io::Error::other(refusal.message))
    };
    Ok(Body::from_stream(futures_util::stream::once(sent)))
}

/// A request that a caller may see.
async fn row_of(app: &Arc<App>, caller: &Caller, id: String) -> Result<Row, Refusal> {
    let (app, caller) = (Arc::clone(app), caller.clone());
    blocking(move || {
        let row = app.desk.requests().row(&id)?.filter(|row| caller.may_know() || *row.caller == *caller.id);
        row.ok_or_else(|| Refusal::not_found("no deletion request of this id"))
    })
    .await
}

fn read(request: DeletionRequest) -> Result<NewDeletion, Refusal> {
    let DeletionRequest { request_id, records, subjects, due } = request;
    let count = records.len() + subjects.len();
    if count > MAX_NAMES {
        return Err(Refusal::new(
            Kind::TooLarge,
            format!("the request has {count} names, and at most {MAX_NAMES} are taken"),
        ));
    }
    let invalid = |error: s3t_core::CoreError| Refusal::invalid(error.to_string());
    let names = Names {
        records: records.into_iter().map(RecordId::new).collect::<Result<_, _>>().map_err(invalid)?,
        subjects: subjects.into_iter().map(SubjectId::new).collect::<Result<_, _>>().map_err(invalid)?,
    };
    let id = match request_id {
        Some(id) if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) => {
            return Err(s3t_store::StoreError::RequestId(id).into());
        }
        Some(id) => id,
        None => crate::random::random_name::<12>()?,
    };
    let due = due.map(|due| {
        let moment = due.parse::<jiff::Timestamp>();
        moment.map(jiff::Timestamp::as_millisecond).map_err(|error| Refusal::invalid(format!("`due`: {error}")))
    });
    Ok(NewDeletion { id, names, due: due.transpose()?, origin: Origin::Api, callbacks: Vec::new() })
}

/// A request id as a part of a path.
pub(crate) fn encoded(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
