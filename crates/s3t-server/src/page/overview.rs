//! The overview: whether promises are kept, what answers, how long it lasts, what happened, whether it is fast.

use maud::{Markup, html};
use s3t_core::wording::with_commas;

use super::ask::{self, Asked};
use super::promise::Promise;
use super::view::{View, bound, plural};
use super::{audit, grid, history, layout, outlook};
use crate::app::App;
use crate::token_file::Role;
use crate::tokens::Caller;

/// The overview, with an answer if something was asked.
pub(super) fn markup(app: &App, view: &View, caller: &Caller, asked: Option<&Asked>) -> Markup {
    let content = html! {
        h1.hidden { "Overview" }
        div #live data-events=(view.search.is_empty() && view.before.is_none()) { (live(view, caller.has(Role::Operate))) }
        (history::markup(view, caller.has(Role::Operate)))
        @if caller.has(Role::Ask) { (ask::markup(app, asked)) }
        (audit::list(view))
    };
    layout::page("Overview", !app.tokens.is_empty(), &content)
}

/// The part that follows what happens.
pub(super) fn live(view: &View, operates: bool) -> Markup {
    html! {
        (Promise::of(view).markup())
        (grid::markup(view))
        div.pair { (outlook::markup(view, operates)) (how_fast(view)) }
    }
}

fn how_fast(view: &View) -> Markup {
    let summary = &view.summary;
    html! {
        section #how-fast .card aria-labelledby="how-fast-title" {
            h2 #how-fast-title { "Is it fast?" }
            dl {
                div { dt { "Answers" } dd { (with_commas(summary.answers)) " since the start" } }
                div { dt { "Half of them" } dd { (bound(summary.p50)) } }
                div { dt { "99 of 100" } dd { (bound(summary.p99)) } }
                div { dt { "Waiting" } dd { (plural(view.queued as u64, "record")) } }
                div { dt { "Refused" } dd { (plural(summary.refused, "request")) " because too many waited" } }
            }
        }
    }
}
