//! Life, readiness and figures.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::predict::blocking;
use crate::app::App;
use crate::refusal::{ErrorBody, Refusal};

/// A server that can answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// The deletions that every new answer knows of.
    epoch: u64,
}

/// The life of the process: 200 until it ends, also while it stops.
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "health", responses((status = 200, description = "It lives.")))]
pub(crate) async fn live() -> StatusCode {
    StatusCode::OK
}

/// The readiness for requests: some shard can answer, and the server does not stop.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", responses(
    (status = 200, description = "Send requests.", body = Ready),
    (status = 503, description = "Send none; the body says why.", body = ErrorBody),
))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Ready>, Refusal> {
    app.readiness()?;
    Ok(Json(Ready { epoch: app.service.epoch()?.0 }))
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let text = blocking(move || {
        app.look()?;
        app.metrics.text()
    });
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text.await?).into_response())
}
