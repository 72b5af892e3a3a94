//! Bodies of requests: whole, within their limit, and in time.

use axum::body::Bytes;
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use crate::answers::Answers;
use crate::refusal::{Kind, Refusal};

/// The bytes of a body.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for Body
where
    Answers: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let app = Answers::from_ref(state);
        let (max, time) = (app.settings.body_bytes, app.settings.read_time());
        let too_large = || Refusal::new(Kind::TooLarge, format!("the body has more than {max} bytes"));
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        // Refused before it is sent.
        if length.is_some_and(|length| length > max as u64) {
            return Err(too_large());
        }
        let late = || Refusal::invalid(format!("the body did not arrive within {} s", time.as_secs_f64()));
        let read = tokio::time::timeout(time, Limited::new(request.into_body(), max).collect()).await;
        match read.map_err(|_| late())? {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Refusal::invalid("the body ended before its end")),
        }
    }
}

/// The type and subtype of a body, without parameters; empty if it is not given.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body of this media type as a JSON object. A list of the fields by their order, which the types would take, is refused.
pub(crate) fn read_json<T: DeserializeOwned>(media_type: &str, bytes: &[u8]) -> Result<T, Refusal> {
    if !(media_type.is_empty() || media_type == "application/json" || media_type.ends_with("+json")) {
        let message = format!("the body is `{media_type}`; send `application/json`");
        return Err(Refusal::new(Kind::UnsupportedMedia, message));
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Refusal::invalid("the body is a JSON list; send an object with the fields by their names"));
    }
    serde_json::from_slice(bytes).map_err(|error| Refusal::invalid(format!("the body cannot be read as JSON: {error}")))
}

/// A body that was read as JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T>
where
    Answers: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let media_type = media_type(request.headers());
        let Body(bytes) = Body::from_request(request, state).await?;
        read_json(&media_type, &bytes).map(Self)
    }
}
