//! Life, readiness and figures.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::predict::blocking;
use crate::answers::Answers;
use crate::app::App;
use crate::model::Model;
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
pub(crate) async fn ready(State(app): State<Answers>) -> Result<Json<Ready>, Refusal> {
    app.readiness()?;
    Ok(Json(Ready { epoch: app.model.epoch()?.0 }))
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
    Ok(prometheus(text.await?))
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics_of_follower(State(app): State<Answers>) -> Result<Response, Refusal> {
    if let Model::Leader(follower) = &app.model {
        follower.look(&app.metrics);
    }
    app.count_answering(app.model.epoch()?);
    Ok(prometheus(app.metrics.text()?))
}

fn prometheus(text: Vec<u8>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
