//! The door: a token is exchanged for a cookie.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::{answer, layout, refused};
use crate::app::App;
use crate::body::Body;
use crate::refusal::{Kind, Refusal};
use crate::tokens::Caller;

pub(super) async fn form() -> Response {
    answer(StatusCode::OK, layout::page("Sign in", false, &markup(None)))
}

pub(super) async fn sign_in(State(app): State<Arc<App>>, body: Result<Body, Refusal>) -> Response {
    let Body(body) = match body {
        Ok(body) => body,
        Err(refusal) => return refused(&refusal),
    };
    match try_token(&app, &body).await {
        Ok(cookie) => with_cookie(cookie, Redirect::to("/ui").into_response()),
        Err(refusal) => {
            let page = layout::page("Sign in", false, &markup(Some(&refusal.message)));
            answer(refusal.kind.status(), page)
        }
    }
}

pub(super) async fn sign_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    with_cookie(app.sessions.sign_out(&headers), Redirect::to("/ui/sign-in").into_response())
}

async fn try_token(app: &App, body: &[u8]) -> Result<String, Refusal> {
    // One field, whose value has no character that a form would encode.
    let text = std::str::from_utf8(body).unwrap_or_default();
    let token = text.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default();
    let caller = if app.tokens.is_empty() { Caller::local() } else { app.tokens.verify(token).await? };
    if !caller.may_know() {
        return Err(Refusal::new(Kind::Forbidden, "This token lacks the role operate or audit, which the page needs."));
    }
    Ok(app.sessions.sign_in(&caller.id, app.settings.tls.is_some())?)
}

fn with_cookie(cookie: String, mut response: Response) -> Response {
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn markup(problem: Option<&str>) -> Markup {
    html! {
        section.card.door {
            h1 { "Sign in" }
            form method="post" action="/ui/sign-in" {
                label for="token" { "Token with the role operate or audit" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus;
                @if let Some(problem) = problem { p.todo role="alert" { (problem) } }
                button type="submit" { "Sign in" }
            }
            p.note { code { "s3t token create PIPELINE --name me --role operate" } " makes one." }
        }
    }
}
