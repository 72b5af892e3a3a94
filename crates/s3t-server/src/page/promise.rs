//! The first line of the page: whether every promise is kept.

use maud::{Markup, html};
use s3t_core::wording::with_commas;

use super::view::{View, plural, span};

/// The line, and whether all is well.
pub(super) struct Promise {
    pub(super) is_kept: bool,
    pub(super) headline: String,
    /// The first thing that is not as it should be, and the remedy.
    pub(super) todo: Option<String>,
}

/// The milliseconds after which an erasure is late.
const LATE_MS: i64 = 60_000;

impl Promise {
    pub(super) fn of(view: &View) -> Self {
        let counts = &view.counts;
        let mut parts = vec![match view.epoch.0 {
            0 => "Nothing was deleted yet".to_owned(),
            1 if counts.accepted == 0 => "The deletion is in effect".to_owned(),
            epoch if counts.accepted > 0 => format!("{} accepted", plural(epoch, "deletion")),
            epoch => format!("All {} are in effect", plural(epoch, "deletion")),
        }];
        if counts.accepted > 0 {
            parts.push(format!("{} waiting for followers", are(counts.accepted)));
        }
        let age = counts.oldest.map(|oldest| view.now - oldest);
        if view.unerased > 0 {
            let age = age.map(|age| format!(", the oldest for {}", span(age))).unwrap_or_default();
            parts.push(format!("{} being erased{age}", are(view.unerased as u64)));
        } else if view.epoch.0 > 0 {
            parts.push("every byte is erased".to_owned());
        }
        if counts.queued > 0 {
            parts.push(format!("{} waiting for a batch", are(counts.queued)));
        }
        if counts.held > 0 {
            parts.push(format!("{} held", are(counts.held)));
        }
        if counts.callbacks > 0 {
            let waits = if counts.callbacks == 1 { "waits" } else { "wait" };
            parts.push(format!("{} {waits}", plural(counts.callbacks, "callback")));
        }
        let headline = format!("{}.", parts.join("; "));
        let dead = view.dead();
        let todo = if dead == view.shards.len() {
            Some("No shard can answer. Run s3t repair on this pipeline.".to_owned())
        } else if let Some(problem) = &view.problem {
            Some(format!("An erasure does not finish: {problem}. It is tried again by itself."))
        } else if view.unerased > 0 && age.is_some_and(|age| age > LATE_MS) {
            Some("An erasure takes longer than a minute. See the server's log.".to_owned())
        } else if counts.held > 0 {
            let held = plural(counts.held, "request");
            Some(format!("{held} would bring a shard too near to its end. Repair, or release below what cannot wait."))
        } else if counts.failed > 0 {
            let failed = plural(counts.failed, "request");
            Some(format!("{failed} could not be done: their ids were used for other names. Ask again under new ids."))
        } else if counts.undelivered > 0 {
            Some(format!("{} given up: the other side did not take them.", plural(counts.undelivered, "callback")))
        } else if dead > 0 {
            Some(format!("{} cannot answer. Run s3t repair on this pipeline.", plural(dead as u64, "shard")))
        } else {
            None
        };
        Self { is_kept: todo.is_none(), headline, todo }
    }

    pub(super) fn markup(&self) -> Markup {
        let class = if self.is_kept { "promise kept" } else { "promise broken" };
        html! {
            section #promise class=(class) aria-label="State of the promises" {
                p.headline {
                    span.mark aria-hidden="true" { @if self.is_kept { "\u{2713}" } @else { "!" } }
                    span { (self.headline) }
                }
                @if let Some(todo) = &self.todo { p.todo { (todo) } }
            }
        }
    }
}

fn are(number: u64) -> String {
    if number == 1 { "1 is".to_owned() } else { format!("{} are", with_commas(number)) }
}
