//! The stages: a table a shard, a row a sequence, a cell a stage.

use maud::{Markup, html};
use s3t_core::wording::with_commas;

use super::view::{Cell, CellState, MAX_SHARDS, ShardView, View, plural};

pub(super) fn markup(view: &View) -> Markup {
    let more = view.shards.len().saturating_sub(MAX_SHARDS);
    html! {
        section #grid .card aria-labelledby="grid-title" {
            h2 #grid-title { "What answers" }
            p.note {
                (plural(view.records, "record")) " of " (plural(view.subjects, "subject")) ", "
                (with_commas(view.live_stages as u64)) " of " (plural(view.planned_stages as u64, "stage")) " live. "
                "A cell is a stage; the digits are the slices that it was trained on."
            }
            ul.legend aria-label="Legend" {
                @for state in CellState::ALL {
                    li { span class={ "cell " (state.class()) } aria-hidden="true" { (state.mark()) } " " (state.name()) }
                }
            }
            div.shards { @for shard in view.shards.iter().take(MAX_SHARDS) { (of_shard(shard)) } }
            @if more > 0 { p.note { "and " (plural(more as u64, "shard")) " more" } }
        }
    }
}

fn of_shard(shard: &ShardView) -> Markup {
    html! {
        table.shard {
            caption {
                strong { "Shard " (shard.shard) } " "
                @match shard.serving.split_first() {
                    Some((first, others)) => {
                        "answers with sequence " (first.sequence) " at depth " (first.depth)
                        @for member in others { ", " (member.sequence) " at " (member.depth) }
                        " of " (shard.planned_depth)
                        span.note { (plural(shard.records, "record")) " \u{b7} " (plural(shard.worst as u64, "request")) " left at worst" }
                    }
                    None => { span.bad { "cannot answer" } }
                }
            }
            colgroup { col.n; @for _ in 0..shard.planned_depth { col; } }
            thead.hidden { tr { th scope="col" { "Sequence" } @for depth in 1..=shard.planned_depth { th scope="col" { "Depth " (depth) } } } }
            tbody {
                @for (index, cells) in shard.sequences.iter().enumerate() {
                    tr { th scope="row" { span.hidden { "Sequence " } (index) } @for cell in cells { td { (of_stage(cell)) } } }
                }
            }
        }
    }
}

fn of_stage(cell: &Cell) -> Markup {
    let slices: Vec<String> = cell.slices.iter().map(ToString::to_string).collect();
    let slices = slices.join(" ");
    let exact = format!("{}: slices {slices}, {}, key {}", cell.state.name(), plural(cell.records, "record"), cell.key);
    html! {
        span class={ "cell " (cell.state.class()) } title=(exact) {
            span aria-hidden="true" { (cell.state.mark()) }
            span.hidden { (cell.state.name()) ", slices " }
            span.slices { (slices) }
        }
    }
}
