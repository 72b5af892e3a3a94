//! Access: the caller of each request with the roles, and the log of requests, which names nobody.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::answers::Answers;
use crate::openai::in_openai_shape;
use crate::refusal::{Kind, Refusal};
use crate::token_file::Role;
use crate::tokens::Caller;

/// The caller of a request, or the reason for which nobody is known.
#[derive(Clone)]
struct Identity(Result<Caller, Refusal>);

/// A caller who has a role. The role is a type, so that each handler's signature says what it takes.
pub(crate) struct May<R> {
    pub(crate) caller: Caller,
    right: PhantomData<R>,
}

/// A role as a type.
pub(crate) trait Right {
    const ROLES: &'static [Role];
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $roles:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;
        impl Right for $name {
            const ROLES: &'static [Role] = &$roles;
        }
    )*};
}

rights! {
    /// Whoever may ask.
    Ask = [Role::Ask];
    /// Whoever may request deletions.
    Delete = [Role::Delete];
    /// Whoever may see deletions: their own, or all of them.
    See = [Role::Delete, Role::Audit, Role::Operate];
    /// Whoever may see proofs of single requests, and audit.
    Audit = [Role::Audit, Role::Operate];
    /// Whoever may change what the server does.
    Run = [Role::Operate];
    /// Whoever may follow.
    Follow = [Role::Follow];
    /// Whoever may see the page.
    Operate = [Role::Audit, Role::Operate];
}

impl<R: Right, S: Sync> FromRequestParts<S> for May<R> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::new(Kind::Unauthorized, "no token; send `Authorization: Bearer TOKEN`");
        let Identity(identity) = parts.extensions.get::<Identity>().ok_or_else(missing)?;
        let caller = identity.clone()?;
        if !R::ROLES.iter().any(|role| caller.has(*role)) {
            let names: Vec<&str> = R::ROLES.iter().map(|role| role.name()).collect();
            let message = format!("this token lacks the role {}", names.join(" or "));
            return Err(Refusal::new(Kind::Forbidden, message));
        }
        caller.count()?;
        Ok(Self { caller, right: PhantomData })
    }
}

/// Finds out who makes a request, counts it and notes it in the log: method, route, status, time and the id of the token. No path,
/// query, body, address or name is noted, since each may name a person.
pub(crate) async fn identify(State(app): State<Answers>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let identity = of_request(&app, request.headers()).await;
    let caller = identity.as_ref().map_or_else(|_| "-".into(), |caller| Arc::clone(&caller.id));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(Identity(identity));
    let is_openai = request.uri().path().starts_with("/v1/");
    let in_flight = app.metrics.request_started();
    // The log has the span's end, with these fields.
    let span = tracing::info_span!(
        target: "s3t::access", "request", %method, route, status = Empty, seconds = Empty, caller = &*caller
    );
    continue_trace(&span, request.headers());
    let response = match refuse_encoding(request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).instrument(span.clone()).await,
    };
    drop(in_flight);
    let response = if is_openai { in_openai_shape(response) } else { response };
    let (status, seconds) = (response.status(), start.elapsed().as_secs_f64());
    app.metrics.request(&route, status.as_u16(), seconds);
    span.record("status", status.as_u16()).record("seconds", seconds);
    response
}

/// Makes a request's span a part of its caller's trace, if the caller names one (`traceparent`).
#[cfg(feature = "otel")]
fn continue_trace(span: &tracing::Span, headers: &HeaderMap) {
    use opentelemetry::propagation::TextMapPropagator as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    struct Headers<'a>(&'a HeaderMap);
    impl opentelemetry::propagation::Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(axum::http::HeaderName::as_str).collect()
        }
    }
    let parent = opentelemetry_sdk::propagation::TraceContextPropagator::new().extract(&Headers(headers));
    // A span that nobody listens to has no parent either.
    let _ = span.set_parent(parent);
}

#[cfg(not(feature = "otel"))]
const fn continue_trace(_: &tracing::Span, _: &HeaderMap) {}

/// No body is unpacked, so that no small request becomes a large one.
fn refuse_encoding(headers: &HeaderMap) -> Option<Refusal> {
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value.as_bytes() != b"identity");
    encoded
        .then(|| Refusal::new(Kind::UnsupportedMedia, "a body with `Content-Encoding` is not read; send it as it is"))
}

async fn of_request(app: &Answers, headers: &HeaderMap) -> Result<Caller, Refusal> {
    if app.tokens.is_empty() {
        return if is_loopback_host(headers) && !is_foreign(headers) {
            Ok(Caller::local())
        } else {
            let message = "without tokens this server answers this machine only, and no page from elsewhere";
            Err(Refusal::new(Kind::Forbidden, message))
        };
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let missing = || Refusal::new(Kind::Unauthorized, "`Authorization` is not `Bearer TOKEN`");
        return app.tokens.verify(token.ok_or_else(missing)?).await;
    }
    let session = app.sessions.caller(headers).filter(|_| !is_foreign(headers)).and_then(|id| app.tokens.by_id(&id));
    session.ok_or_else(|| Refusal::new(Kind::Unauthorized, "no token; send `Authorization: Bearer TOKEN`"))
}

/// `true` if a request names this machine as its host. A page from elsewhere whose name was made to lead here names another.
fn is_loopback_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `true` if a page from elsewhere has its browser send the request.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).map(axum::http::HeaderValue::as_bytes);
    let of_origin = origin.as_bytes().splitn(2, |byte| *byte == b':').nth(1).and_then(|rest| rest.strip_prefix(b"//"));
    of_origin.is_none() || of_origin != host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback_hosts() {
        let host = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, name.parse().unwrap());
            is_loopback_host(&headers)
        };
        for name in ["localhost", "LocalHost:3000", "127.0.0.1:1", "127.1.2.3", "[::1]:80", "[::1]"] {
            assert!(host(name), "{name}");
        }
        for name in ["example.com", "localhost.example.com:80", "10.0.0.1", "127.0.0.1.evil.com", "", "[::2]"] {
            assert!(!host(name), "{name}");
        }
        assert!(!is_loopback_host(&HeaderMap::new()));
    }
}
