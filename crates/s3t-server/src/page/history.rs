//! The history: requests with their times and receipts.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::refused;
use super::view::{View, span};
use crate::access::{May, Run};
use crate::address::Path;
use crate::app::App;
use crate::clock::moment;
use crate::refusal::Refusal;
use crate::requests::{Phase, Row};
use crate::routes::{blocking, encoded};

pub(super) fn markup(view: &View, operates: bool) -> Markup {
    html! {
        section #history .card aria-labelledby="history-title" {
            h2 #history-title { "What happened" }
            form.search method="get" action="/ui" role="search" {
                label for="search" { "Request id" }
                input #search type="search" name="search" value=(view.search) maxlength="256";
                button type="submit" { "Search" }
                @if !view.search.is_empty() || view.before.is_some() { a href="/ui" { "Show the newest" } }
            }
            @if view.rows.is_empty() {
                p.note { @if view.search.is_empty() { "No deletion was requested here yet." } @else { "No request has this in its id." } }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Deletion requests" {
                    table.rows {
                        thead { tr {
                            th scope="col" { "Request" } th scope="col" { "Phase" } th scope="col" { "Received" }
                            th scope="col" { "In effect" } th scope="col" { "Erased" } th scope="col" { "Records" } th scope="col" { "Receipt" }
                        } }
                        tbody { @for row in &view.rows { (of_row(row, view.now, operates)) } }
                    }
                }
                @if let Some(next) = view.next {
                    p { a href={ "/ui?before=" (next) "&search=" (encoded(&view.search)) } { "Older requests" } }
                }
            }
        }
    }
}

fn of_row(row: &Row, now: i64, operates: bool) -> Markup {
    let after = |moment_: Option<i64>| match moment_ {
        Some(at) => html! { time datetime=(moment(at)) title=(moment(at)) { "after " (span(at - row.received)) } },
        None => html! { "\u{2013}" },
    };
    html! {
        tr {
            td.id data-label="Request" { code { (row.id) } }
            td data-label="Phase" {
                span class={ "phase " (row.phase.name()) } { (phase(row.phase)) }
                @if operates && row.phase == Phase::Held {
                    form.row method="post" action={ "/ui/release/" (encoded(&row.id)) } { button.plain type="submit" { "Release" span.hidden { " " (row.id) } } }
                }
            }
            td data-label="Received" { time datetime=(moment(row.received)) title=(moment(row.received)) { (span(now - row.received)) " ago" } }
            td data-label="In effect" { (after(row.effective)) }
            td data-label="Erased" { (after(row.erased)) }
            td.number data-label="Records" { @match (row.epoch, row.records) { (Some(_), Some(records)) => (records), (None, Some(_)) => "unknown", _ => "\u{2013}" } }
            td data-label="Receipt" { @if row.epoch.is_some() { a href={ "/ui/receipts/" (encoded(&row.id)) } { "Receipt" span.hidden { " of " (row.id) } } } @else { "\u{2013}" } }
        }
    }
}

/// Does a request that is held.
pub(super) async fn release(
    State(app): State<Arc<App>>,
    caller: Result<May<Run>, Refusal>,
    Path(id): Path<String>,
) -> Response {
    let released = async {
        caller?;
        blocking(move || app.desk.release(&id)).await
    };
    match released.await {
        Ok(_) => Redirect::to("/ui#history").into_response(),
        Err(refusal) => refused(&refusal),
    }
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "waits",
        Phase::Held => "held",
        Phase::Accepted => "accepted, waits for followers",
        Phase::InEffect => "in effect",
        Phase::Erased => "erased",
        Phase::Cancelled => "cancelled",
        Phase::Failed => "failed",
    }
}
