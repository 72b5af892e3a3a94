//! Requests that are refused: one type for all routes, with the HTTP status as a table.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use s3t_api::{ApiError, ErrorKind};
use s3t_engine::EngineError;
use s3t_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// The kind of a refusal, as clients read it in `error_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The request cannot be read, or asks for what does not exist.
    Validation,
    /// No token, or an unknown one.
    Unauthorized,
    /// A token whose roles do not allow the request.
    Forbidden,
    /// Nothing of this name.
    NotFound,
    /// The request id was used for another request, or the state does not allow the change.
    Conflict,
    /// The server has not reached the epoch that the caller demands.
    EpochNotReached,
    /// More bytes or records than allowed.
    TooLarge,
    /// A media type or encoding that is not read.
    UnsupportedMedia,
    /// A well-formed question that the model cannot take.
    Unprocessable,
    /// Too many requests wait.
    Overloaded,
    /// No shard can answer, or the server stops.
    Unavailable,
    /// The answer took longer than the deadline.
    Deadline,
    /// The store is in use by another process.
    Busy,
    /// A file, device or thread failed.
    Failed,
}

impl Kind {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Validation => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::EpochNotReached => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The seconds after which it may be tried again.
    pub(crate) retry_after: Option<u64>,
}

/// The body of a refusal, in the shape of text-embeddings-inference; the Open Inference Protocol reads `error` alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The problem, and the way out.
    error: String,
    /// The kind of the problem.
    error_type: Kind,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Validation, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(crate) fn overloaded(message: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..Self::new(Kind::Overloaded, message) }
    }

    /// The headers beside the body.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        headers.extend(self.retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
        if self.kind == Kind::Unauthorized {
            headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"s3t\"")));
        }
        headers
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = self.headers();
        let refusal = self.clone();
        let body = ErrorBody { error: self.message, error_type: self.kind };
        let mut response = (self.kind.status(), Json(body)).into_response();
        // For routes that write refusals in another shape.
        response.extensions_mut().insert(refusal);
        response.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)).collect::<Vec<_>>());
        response
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        // A question that the model cannot take is well-formed; no other fault of the model reaches a request.
        let is_of_the_model = matches!(error, EngineError::Model(_));
        let error = ApiError::from(error);
        let kind = if is_of_the_model { Kind::Unprocessable } else { of_kind(error.kind()) };
        let retry_after = matches!(kind, Kind::Busy | Kind::Unavailable).then_some(1);
        Self { kind, message: error.to_string(), retry_after }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

/// The table from kinds of failures to kinds of refusals, and by [`Kind::status`] to HTTP codes.
const fn of_kind(kind: ErrorKind) -> Kind {
    match kind {
        ErrorKind::Refused => Kind::Validation,
        ErrorKind::Unknown => Kind::NotFound,
        ErrorKind::RequestIdTaken => Kind::Conflict,
        ErrorKind::Store => Kind::Busy,
        ErrorKind::NothingServes | ErrorKind::Interrupted => Kind::Unavailable,
        ErrorKind::Failed | ErrorKind::DoesNotHold => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_status_and_headers() {
        let refused = Refusal::overloaded("512 records wait", 0).into_response();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        let unauthorized = Refusal::new(Kind::Unauthorized, "no token").into_response();
        assert_eq!(unauthorized.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"s3t\"");
        assert_eq!(Refusal::from(EngineError::NothingServes).kind.status(), StatusCode::SERVICE_UNAVAILABLE);
        let taken = Refusal::from(StoreError::OtherRequest("ticket-1".into()));
        assert_eq!((taken.kind, taken.kind.status()), (Kind::Conflict, StatusCode::CONFLICT));
    }
}
