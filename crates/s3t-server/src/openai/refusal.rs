//! Refusals in the shape that OpenAI's clients read.

use axum::response::{IntoResponse as _, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::refusal::{Kind, Refusal};

/// The body of a refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: ErrorFields,
}

/// The content of a refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorFields {
    /// The problem, and the way out.
    message: String,
    /// The kind of error, by OpenAI's names.
    r#type: &'static str,
    /// The field, where the message does not name it.
    param: Option<String>,
    /// The kind of the problem, by this server's names.
    code: Kind,
}

impl OpenAiError {
    pub(crate) fn new(refusal: &Refusal) -> Self {
        let kind = match refusal.kind {
            Kind::Unauthorized => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::NotFound => "not_found_error",
            Kind::Overloaded => "rate_limit_error",
            Kind::Unavailable | Kind::Busy | Kind::Deadline | Kind::Failed => "server_error",
            _ => "invalid_request_error",
        };
        Self { error: ErrorFields { message: refusal.message.clone(), r#type: kind, param: None, code: refusal.kind } }
    }
}

/// A refusal of a route below `/v1` in OpenAI's shape; other answers as they are.
pub(crate) fn in_openai_shape(response: Response) -> Response {
    let Some(refusal) = response.extensions().get::<Refusal>() else { return response };
    let body = Json(OpenAiError::new(refusal)).into_response().into_body();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}
