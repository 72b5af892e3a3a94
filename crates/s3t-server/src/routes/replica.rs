//! The routes for followers: the state, stages, confirmation.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use s3t_core::StageKey;
use s3t_store::StoreError;
use serde::Deserialize;
use utoipa::IntoParams;

use super::predict::blocking;
use crate::access::{Follow, May};
use crate::address::{Path, Query};
use crate::app::App;
use crate::body;
use crate::refusal::{ErrorBody, Refusal};
use crate::replication::{Confirmation, Confirmed, FOLLOWER, Published};

/// The time between two looks at the store for what other processes do.
const LOOK: Duration = Duration::from_millis(100);

/// The longest time that a follower may wait for a state in milliseconds.
const MAX_WAIT_MS: u64 = 60_000;

/// The state that a follower has.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateQuery {
    /// The version of the state that is known already.
    after: Option<String>,
    /// The milliseconds to wait for another one, at most 60,000.
    #[serde(default)]
    wait_ms: u64,
}

/// The stages that answer, by epoch. Waits for a state after the one that is known.
#[utoipa::path(get, path = "/replica/state", tag = "followers", params(StateQuery),
    responses(
        (status = 200, description = "A state that is not the known one.", body = Published),
        (status = 204, description = "The known state is still the newest."),
        (status = 400, description = "The query cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not follow, or this server takes no followers.", body = ErrorBody),
        (status = 503, description = "The store is in use by another process.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    _caller: May<Follow>,
    Query(query): Query<StateQuery>,
) -> Result<Response, Refusal> {
    let until = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms.min(MAX_WAIT_MS));
    let mut changes = app.followers.changes();
    loop {
        changes.mark_unchanged();
        let working = Arc::clone(&app);
        let published = blocking(move || working.followers.published(&working.service)).await?;
        if query.after.as_ref() != Some(&published.version) {
            return Ok(Json(published).into_response());
        }
        if tokio::time::Instant::now() >= until || app.life.is_stopping() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let next = until.min(tokio::time::Instant::now() + LOOK);
        let _ = tokio::time::timeout_at(next, changes.changed()).await;
    }
}

/// A live stage: the content of its file, with its lineage. For a follower that has a lease.
#[utoipa::path(get, path = "/replica/stages/{key}", tag = "followers",
    params(
        ("key" = String, Path, description = "The stage's key."),
        ("x-s3t-follower" = String, Header, description = "The follower's name."),
    ),
    responses(
        (status = 200, description = "The bytes.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not follow, or this server takes no followers.", body = ErrorBody),
        (status = 404, description = "No live stage of this key.", body = ErrorBody),
        (status = 409, description = "The follower has no lease.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn stage(
    State(app): State<Arc<App>>,
    _caller: May<Follow>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = headers.get(FOLLOWER).and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    let read = blocking(move || {
        app.followers.check_lease(&name)?;
        let missing = || Refusal::not_found("no live stage of this key");
        let key: StageKey = key.parse().map_err(|_| missing())?;
        match app.service.system().store().stage_content(&key) {
            Err(StoreError::MissingStage(_)) => Err(missing()),
            content => Ok(content?),
        }
    });
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], read.await?).into_response())
}

/// Confirm that no other stages than those of a state answer any more, and get a lease.
#[utoipa::path(post, path = "/replica/confirm", tag = "followers", request_body = Confirmation,
    responses(
        (status = 200, description = "The lease, or that the newest state has to be taken over first.", body = Confirmed),
        (status = 400, description = "The request cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not follow, or this server takes no followers.", body = ErrorBody),
        (status = 409, description = "The store has not reached this epoch.", body = ErrorBody),
        (status = 413, description = "Too many bytes.", body = ErrorBody),
        (status = 415, description = "A media type that is not read.", body = ErrorBody),
        (status = 429, description = "Too many followers.", body = ErrorBody),
        (status = 503, description = "The store is in use by another process.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    _caller: May<Follow>,
    body::Json(confirmation): body::Json<Confirmation>,
) -> Result<Json<Confirmed>, Refusal> {
    Ok(Json(blocking(move || app.followers.confirm(&app.service, &confirmation)).await?))
}
