//! The page of operators and auditors: rendered here, complete without JavaScript, live with it.

mod ask;
mod audit;
mod grid;
mod history;
mod layout;
mod live;
mod outlook;
mod overview;
mod promise;
mod sign_in;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Multipart, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;

use crate::access::{Ask, May, Operate};
use crate::address::{Path, Query};
use crate::app::App;
use crate::refusal::{Kind, Refusal};
use crate::routes::{blocking, receipt_body};
pub(crate) use live::places;
use view::View;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/live.js");
const ICON: &str = include_str!("page/icon.svg");

/// Nothing from elsewhere, nothing inline, no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'",
);

/// The routes of the page.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/ui") }))
        .route("/ui", get(show_overview))
        .route("/ui/ask", post(ask_box))
        .route("/ui/audits", post(audit::start))
        .route("/ui/audits/{id}", get(audit::show))
        .route("/ui/events", get(live::events))
        .route("/ui/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .route("/ui/live.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/ui/receipts/{request_id}", get(receipt))
        .route("/ui/release/{request_id}", post(history::release))
        .route("/ui/repair", post(outlook::wish))
        .route("/ui/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/ui/sign-out", post(sign_in::sign_out))
        .route("/ui/style.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, content).into_response()
}

/// A page with its headers.
fn answer(status: StatusCode, page: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // With `no-referrer` browsers send `Origin: null` with forms, which looks like a page from elsewhere.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, page.into_string()).into_response()
}

/// A refusal as a page: whoever is not signed in is led to the door.
fn refused(refusal: &Refusal) -> Response {
    if refusal.kind == Kind::Unauthorized {
        return Redirect::to("/ui/sign-in").into_response();
    }
    let (status, headers) = (refusal.kind.status(), refusal.headers());
    let page = layout::page(
        "Refused",
        false,
        &html! {
            section.card { h1 { "This cannot be done" } p { (refusal.message) } p { a href="/ui" { "Back to the overview" } } }
        },
    );
    let mut response = answer(status, page);
    response.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)).collect::<Vec<_>>());
    response
}

/// The part of the history that is shown.
#[derive(Deserialize)]
pub(super) struct OverviewQuery {
    #[serde(default)]
    search: String,
    before: Option<i64>,
}

async fn show_overview(
    State(app): State<Arc<App>>,
    caller: Result<May<Operate>, Refusal>,
    query: Result<Query<OverviewQuery>, Refusal>,
) -> Response {
    let May { caller, .. } = match caller {
        Ok(caller) => caller,
        Err(refusal) => return refused(&refusal),
    };
    let query = match query {
        Ok(Query(query)) => query,
        Err(refusal) => return refused(&refusal),
    };
    let working = Arc::clone(&app);
    let view = blocking(move || View::new(&working, &query.search, query.before)).await;
    match view {
        Ok(view) => answer(StatusCode::OK, overview::markup(&app, &view, &caller, None)),
        Err(refusal) => refused(&refusal),
    }
}

/// Answers a question from the box, and shows the overview with the answer.
async fn ask_box(
    State(app): State<Arc<App>>,
    operator: Result<May<Operate>, Refusal>,
    caller: Result<May<Ask>, Refusal>,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    let (May { caller: operator, .. }, May { caller, .. }) = match (operator, caller) {
        (Ok(operator), Ok(caller)) => (operator, caller),
        (Err(refusal), _) | (_, Err(refusal)) => return refused(&refusal),
    };
    let asked = ask::asked(&app, &caller, form).await;
    let working = Arc::clone(&app);
    match blocking(move || View::new(&working, "", None)).await {
        Ok(view) => answer(StatusCode::OK, overview::markup(&app, &view, &operator, Some(&asked))),
        Err(refusal) => refused(&refusal),
    }
}

/// A receipt as a file.
async fn receipt(
    State(app): State<Arc<App>>,
    caller: Result<May<Operate>, Refusal>,
    Path(id): Path<String>,
) -> Response {
    let found = async {
        caller?;
        receipt_body(&app, id, serde_json::to_vec_pretty).await
    };
    match found.await {
        Err(refusal) => refused(&refusal),
        Ok(body) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"receipt.json\"")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (headers, body).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_sheet_and_the_script_are_small_and_take_nothing_from_elsewhere() {
        assert!(STYLE.len() < 15_000, "{} bytes", STYLE.len());
        for text in [STYLE, SCRIPT] {
            assert!(
                !text.contains("http:")
                    && !text.contains("https:")
                    && !text.contains("@import")
                    && !text.contains("url(")
            );
        }
    }
}
