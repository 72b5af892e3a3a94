//! Audits: a list, a button, and the report as a page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use s3t_engine::{AuditReport, AuditRequest, VerifyScope};

use super::view::{View, plural, span};
use super::{answer, layout, refused};
use crate::access::{May, Operate};
use crate::address::Path;
use crate::app::App;
use crate::auditing;
use crate::audits::{Audit, Outcome};
use crate::clock::moment;
use crate::refusal::Refusal;

/// Starts an audit of files and lineages, which trains nothing.
pub(super) async fn start(State(app): State<Arc<App>>, caller: Result<May<Operate>, Refusal>) -> Response {
    let started = caller
        .and_then(|_| auditing::start(&app, AuditRequest { scope: VerifyScope::Lineages, ..AuditRequest::default() }));
    match started {
        Ok(audit) => Redirect::to(&format!("/ui/audits/{}", audit.id)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Result<May<Operate>, Refusal>,
    Path(id): Path<String>,
) -> Response {
    let found =
        caller.and_then(|_| app.audits.get(&id).ok_or_else(|| Refusal::not_found("There is no audit of this id.")));
    match found {
        Ok(audit) => answer(StatusCode::OK, layout::page("Audit", !app.tokens.is_empty(), &whole(&audit))),
        Err(refusal) => refused(&refusal),
    }
}

pub(super) fn list(view: &View) -> Markup {
    html! {
        section #audits .card aria-labelledby="audits-title" {
            h2 #audits-title { "Is it proven?" }
            @if view.audits.is_empty() { p.note { "No audit was made since the server started." } }
            ul.plain { @for audit in &view.audits {
                li {
                    a href={ "/ui/audits/" (audit.id) } { time datetime=(moment(audit.started)) title=(moment(audit.started)) { (span(view.now - audit.started)) " ago" } }
                    " " (outcome(audit))
                }
            } }
            form method="post" action="/ui/audits" { button type="submit" { "Audit now" } }
            p.note { "An audit checks ledger, files and lineages and changes nothing. " a href="/ledger/checkpoint" { "Checkpoint" } " \u{b7} " a href="/ledger/key.pub" { "Public key" } }
        }
    }
}

fn outcome(audit: &Audit) -> String {
    match &audit.outcome {
        Outcome::Running(0) => "goes on".to_owned(),
        Outcome::Running(stages) => format!("goes on, {} trained again so far", plural(*stages as u64, "stage")),
        Outcome::Done(report) if report.passed() => "everything that was checked holds".to_owned(),
        Outcome::Done(_) => "something does not hold".to_owned(),
        Outcome::Failed(problem) => format!("could not be made: {problem}"),
    }
}

fn whole(audit: &Audit) -> Markup {
    let kept = match &audit.outcome {
        Outcome::Done(report) if report.passed() => "promise kept",
        Outcome::Running(_) => "promise",
        _ => "promise broken",
    };
    html! {
        section class=(kept) { h1.headline { "Audit: " (outcome(audit)) } }
        @match &audit.outcome {
            Outcome::Running(_) => { p { "Look again in a moment: " a href={ "/ui/audits/" (audit.id) } { "reload" } "." } }
            Outcome::Failed(_) => {}
            Outcome::Done(report) => { (of_report(report)) }
        }
        p { a href="/ui" { "Back to the overview" } }
    }
}

fn of_report(report: &AuditReport) -> Markup {
    html! {
        section.card {
            h2 { "The store" }
            dl {
                div { dt { "Store" } dd { code { (report.store) } } }
                div { dt { "Public key" } dd { code { (report.key) } } }
                div { dt { "Deletions" } dd { (report.epoch) } }
                @if let Some(at) = report.newest_entry { div { dt { "Newest entry" } dd { (moment(at.0 as i64)) } } }
            }
        }
        section.card {
            h2 { "Checks" }
            ul.checks { @for check in &report.checks {
                li {
                    @match check.passed {
                        Some(true) => { span.mark.good { "\u{2713} holds" } }
                        Some(false) => { span.mark.bad { "\u{2715} does not hold" } }
                        None => { span.mark { "\u{2013} not checked" } }
                    }
                    strong { (check.what) }
                    span.note { (check.detail) }
                    @for problem in &check.problems { span.bad { (problem) } }
                }
            } }
        }
        @if !report.stages.is_empty() {
            section.card {
                h2 { "Stages trained again" }
                ul.plain { @for stage in &report.stages {
                    li { code { (stage.stage.key) } " " @match &stage.difference { None => "every bit equal", Some(difference) => { span.bad { (difference.to_string()) } } } }
                } }
            }
        }
        section.card {
            h2 { "What is claimed, and what is not" }
            @if report.passed() { p { (report.guarantee) } }
            ul { @for limit in report.limits { li { (limit) } } }
        }
    }
}
