//! The deletions that the system still lasts, and repair.

use s3t_core::wording::with_commas;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::refused;
use super::view::{View, plural, span};
use crate::access::{May, Run};
use crate::app::App;
use crate::body::Body;
use crate::clock::moment;
use crate::refusal::Refusal;
use crate::repairs::{RepairView, Wish};
use crate::requests::Depth;

/// The size of the picture of depths.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 36.0;

pub(super) fn markup(view: &View, operates: bool) -> Markup {
    let worst = view.shards.iter().min_by_key(|shard| shard.worst);
    let served: usize =
        view.shards.iter().filter_map(|shard| shard.serving.iter().map(|member| member.depth).max()).sum();
    let planned: usize = view.shards.iter().map(|shard| shard.planned_depth).sum();
    let share = 100 * served / planned.max(1);
    html! {
        section #how-long .card aria-labelledby="how-long-title" {
            h2 #how-long-title { "How long will it last?" }
            dl {
                div { dt { "Depth" } dd { (share) " % of the plan " meter min="0" max=(planned.max(1)) value=(served) aria-label="Depth of the plan" { (share) " %" } } }
                @if let Some(outlook) = &view.outlook {
                    div { dt { "First shard" } dd { (expected(outlook.first_dead)) " until it cannot answer" } }
                    div { dt { "All shards" } dd { (expected(outlook.all_dead)) " until none can answer" } }
                }
                div {
                    dt { "At worst" }
                    dd { @match worst {
                        Some(shard) => { (plural(shard.worst as u64, "more request")) " until shard " (shard.shard) " cannot answer" }
                        None => "\u{2013}"
                    } }
                }
                div { dt { "Missing" } dd { (plural((view.planned_stages.saturating_sub(view.live_stages)) as u64, "stage")) " of " (with_commas(view.planned_stages as u64)) } }
            }
            (depths(&view.depths))
            h3 { "Repair" }
            (repair(&view.repair, view.now))
            @if operates { (buttons(&view.repair)) }
        }
    }
}

/// An expected number of requests as people say it.
fn expected(requests: f64) -> String {
    if requests == 0.0 {
        "0 requests".to_owned()
    } else if requests < 10.0 {
        format!("{requests:.1} requests expected")
    } else if requests < 1e15 {
        format!("{} expected", plural(requests.round() as u64, "request"))
    } else {
        "no number of requests".to_owned()
    }
}

/// The depths of the last weeks as a line, and in words.
fn depths(depths: &[Depth]) -> Markup {
    let share = |depth: &Depth| depth.served as f64 / depth.planned.max(1) as f64;
    let (Some(first), Some(last)) = (depths.first(), depths.last()) else { return html! {} };
    let hours = last.hour - first.hour;
    if hours == 0 {
        return html! {};
    }
    let point = |depth: &Depth| {
        let x = WIDTH * (depth.hour - first.hour) as f64 / hours as f64;
        format!("{x:.1},{:.1}", 1.0 + (HEIGHT - 2.0) * (1.0 - share(depth).min(1.0)))
    };
    let points: Vec<String> = depths.iter().map(point).collect();
    let lowest = depths.iter().map(share).fold(1.0, f64::min);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let words = format!(
        "Depth over the last {}: {} at first, {} now, {} at the lowest",
        span(3_600_000 * hours),
        percent(share(first)),
        percent(share(last)),
        percent(lowest)
    );
    html! {
        svg.depths viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(words) {
            title { (words) }
            polyline points=(points.join(" ")) vector-effect="non-scaling-stroke" {}
        }
        p.note { (words) "." }
    }
}

fn repair(repair: &RepairView, now: i64) -> Markup {
    let policy = match (repair.is_paused, repair.has_policy) {
        (true, _) => "Paused: no repair starts until it is resumed.",
        (false, true) => "The policy of this server starts repairs.",
        (false, false) => "No policy is set: a repair starts when you ask for it.",
    };
    html! {
        @if let Some(running) = &repair.running {
            p {
                "Building stage " (with_commas((running.stages_done + 1).min(running.stages) as u64)) " of " (with_commas(running.stages as u64)) " for " (span(now - running.started)) " "
                meter min="0" max=(running.steps.max(1)) value=(running.steps_done) aria-label="Progress of the repair" { (100 * running.steps_done / running.steps.max(1)) " %" }
                " " (100 * running.steps_done / running.steps.max(1)) " %"
            }
        }
        @if repair.running.is_none() || repair.is_paused { p.note { (policy) } }
        @if let Some(last) = &repair.last {
            p.note {
                "Last: " (plural(last.trained as u64, "stage")) " built because " (last.reason) ", "
                time datetime=(moment(last.ended)) title=(moment(last.ended)) { (span(now - last.ended)) " ago" }
                @if last.out_of_time { "; its time for this hour was over" }
                "."
            }
        }
        @if let Some(problem) = &repair.problem { p.todo { "The last attempt failed: " (problem) } }
    }
}

fn buttons(repair: &RepairView) -> Markup {
    let button = |wish: &str, words: &str| html! { button type="submit" name="wish" value=(wish) { (words) } };
    html! {
        form.row method="post" action="/ui/repair" {
            @if repair.running.is_none() { (button("run", "Repair now")) }
            @if repair.is_paused { (button("resume", "Resume")) } @else { (button("pause", "Pause")) }
        }
    }
}

/// An operator's wish, from a button.
pub(super) async fn wish(
    State(app): State<Arc<App>>,
    caller: Result<May<Run>, Refusal>,
    body: Result<Body, Refusal>,
) -> Response {
    let wish = caller.and(body).and_then(|Body(body)| match &body[..] {
        b"wish=run" => Ok(Wish::Run),
        b"wish=pause" => Ok(Wish::Pause),
        b"wish=resume" => Ok(Wish::Resume),
        _ => Err(Refusal::invalid("the wish is not run, pause or resume")),
    });
    match wish {
        Ok(wish) => {
            app.repairs.wish(wish);
            app.desk.tell();
            Redirect::to("/ui#how-long").into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_told_in_words_too() {
        let depth = |hour, served| Depth { hour, served, planned: 4 };
        let drawn = depths(&[depth(100, 4), depth(110, 1), depth(148, 3)]).into_string();
        assert!(drawn.contains("Depth over the last 2 days: 100 % at first, 75 % now, 25 % at the lowest."), "{drawn}");
        assert!(depths(&[depth(100, 4)]).into_string().is_empty());
    }

    #[test]
    fn expected_requests_read_as_people_say_them() {
        let texts = [0.0, 3.26, 1234.4, f64::INFINITY].map(expected);
        assert_eq!(texts, ["0 requests", "3.3 requests expected", "1,234 requests expected", "no number of requests"]);
    }
}
