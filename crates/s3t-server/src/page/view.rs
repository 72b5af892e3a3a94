//! The facts that the page shows, all looked up at once.

use s3t_core::wording::with_commas;
use std::sync::Arc;

use s3t_core::budget::lifetime::Lifetime;
use s3t_core::members::members_of_shard;
use s3t_core::{Members, Serving, ShardId, StageKey};
use s3t_ledger::Epoch;
use s3t_store::Snapshot;

use crate::app::App;
use crate::audits::Audit;
use crate::clock::now_ms;
use crate::metrics::Summary;
use crate::refusal::Refusal;
use crate::repairs::RepairView;
use crate::requests::{Counts, Depth, Row};

/// The most shards that are drawn.
pub(super) const MAX_SHARDS: usize = 48;

/// The requests on a page of the history.
const PER_PAGE: u32 = 20;

/// The hours for which depths are drawn: four weeks.
const HOURS_SHOWN: i64 = 28 * 24;

/// The milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;

/// The facts that the page shows.
pub(super) struct View {
    pub(super) now: i64,
    pub(super) epoch: Epoch,
    pub(super) records: u64,
    pub(super) subjects: u64,
    pub(super) shards: Vec<ShardView>,
    pub(super) live_stages: usize,
    pub(super) planned_stages: usize,
    /// Deletions that are in effect and not erased, by whatever process they were accepted.
    pub(super) unerased: usize,
    pub(super) counts: Counts,
    pub(super) problem: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) search: String,
    pub(super) before: Option<i64>,
    pub(super) next: Option<i64>,
    pub(super) summary: Summary,
    pub(super) queued: usize,
    pub(super) audits: Vec<Audit>,
    /// The deletions that the system lasts from now on; `None` if that cannot be told.
    pub(super) outlook: Option<Lifetime>,
    /// The depths of the last weeks, oldest first.
    pub(super) depths: Vec<Depth>,
    pub(super) repair: RepairView,
}

/// A shard as it is drawn.
pub(super) struct ShardView {
    pub(super) shard: ShardId,
    pub(super) records: u64,
    /// The sequences that answer, each with its depth.
    pub(super) serving: Vec<Serving>,
    /// The stages of its longest sequence.
    pub(super) planned_depth: usize,
    /// The requests that it survives at worst.
    pub(super) worst: usize,
    pub(super) sequences: Vec<Vec<Cell>>,
}

/// A stage as it is drawn.
pub(super) struct Cell {
    pub(super) key: StageKey,
    pub(super) slices: Vec<u32>,
    pub(super) records: u64,
    pub(super) state: CellState,
}

/// The state of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellState {
    /// It is part of what answers.
    Serving,
    /// It is there, and answers when a shallower sequence is cut.
    Reserve,
    /// It is there, behind one that is missing.
    Behind,
    /// It is missing: cut by a deletion, or not trained yet.
    Missing,
}

impl CellState {
    pub(super) const ALL: [Self; 4] = [Self::Serving, Self::Reserve, Self::Behind, Self::Missing];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Serving => "answers",
            Self::Reserve => "in reserve",
            Self::Behind => "behind a gap",
            Self::Missing => "missing",
        }
    }

    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Reserve => "reserve",
            Self::Behind => "behind",
            Self::Missing => "missing",
        }
    }

    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Serving => "\u{25cf}",
            Self::Reserve => "\u{25cb}",
            Self::Behind => "\u{25cc}",
            Self::Missing => "\u{2715}",
        }
    }
}

impl View {
    pub(super) fn new(app: &Arc<App>, search: &str, before: Option<i64>) -> Result<Self, Refusal> {
        let snapshot = app.service.snapshot()?;
        let requests = app.desk.requests();
        let rows = requests.list(None, search, before.unwrap_or(i64::MAX), PER_PAGE)?;
        Ok(Self {
            now: now_ms(),
            epoch: snapshot.epoch(),
            records: snapshot.records(),
            subjects: app.service.status()?.subjects,
            shards: shards(&snapshot, &*app.service.system().pipeline().serving.members),
            live_stages: snapshot.stages().len(),
            planned_stages: snapshot.plan().stages().len(),
            unerased: snapshot.unerased().len(),
            counts: requests.counts()?,
            problem: app.desk.problem(),
            next: rows.last().map(|row| row.number).filter(|_| rows.len() == PER_PAGE as usize),
            rows,
            search: search.to_owned(),
            before,
            summary: app.metrics.summary(),
            queued: app.queue.waiting(),
            audits: app.audits.all(),
            outlook: app.service.outlook(&snapshot).ok(),
            depths: requests.depths(now_ms() / HOUR_MS - HOURS_SHOWN)?,
            repair: app.repairs.view(),
        })
    }

    /// The shards that cannot answer.
    pub(super) fn dead(&self) -> usize {
        self.shards.iter().filter(|shard| shard.serving.is_empty()).count()
    }
}

fn shards(snapshot: &Snapshot, members: &dyn Members) -> Vec<ShardView> {
    let availability = snapshot.availability();
    let of_shard = |plan: &s3t_core::ShardPlan| {
        let sizes = &snapshot.sizes()[plan.shard.index()];
        let serving = members_of_shard(members, plan, &availability);
        let sequence = |(index, keys): (usize, &[StageKey])| {
            let depth = keys.iter().take_while(|key| snapshot.has_stage(key)).count();
            let cell = |(position, key): (usize, &StageKey)| {
                let slices = snapshot.plan().stage(key).map(|stage| stage.slices.clone()).unwrap_or_default();
                let answers = serving.iter().any(|member| member.sequence == index && position < member.depth);
                let state = match (answers, position < depth, snapshot.has_stage(key)) {
                    (true, ..) => CellState::Serving,
                    (_, true, _) => CellState::Reserve,
                    (_, _, true) => CellState::Behind,
                    _ => CellState::Missing,
                };
                let records = slices.iter().map(|slice| sizes[slice.index()]).sum();
                Cell { key: *key, slices: slices.iter().map(|slice| slice.0).collect(), records, state }
            };
            keys.iter().enumerate().map(cell).collect()
        };
        ShardView {
            shard: plan.shard,
            records: sizes.iter().sum(),
            serving: serving.clone(),
            planned_depth: plan.sequences.iter().map(|sequence| sequence.keys.len()).max().unwrap_or(0),
            worst: availability.adversarial_budget(plan.shard),
            sequences: plan.sequences.iter().map(|sequence| &sequence.keys[..]).enumerate().map(sequence).collect(),
        }
    };
    snapshot.plan().shards().iter().map(of_shard).collect()
}

/// A number with its noun: "1 record", "2,000 records".
pub(super) fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", with_commas(number))
}

/// A time in milliseconds as people say it.
pub(super) fn span(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// Seconds as people say them, for an upper bound of a bucket.
pub(super) fn bound(seconds: Option<f64>) -> String {
    match seconds {
        None => "\u{2013}".to_owned(),
        Some(seconds) if seconds.is_infinite() => "over 16 s".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("under {} ms", seconds * 1000.0),
        Some(seconds) => format!("under {}", span((seconds * 1000.0).round() as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_people_say_them() {
        assert_eq!([plural(1, "record"), plural(1_234_567, "record")], ["1 record", "1,234,567 records"]);
        assert_eq!([span(-5), span(999), span(2500), span(59_999)], ["0 ms", "999 ms", "2.5 s", "59 s"]);
        assert_eq!([span(600_000), span(86_400_000), span(400_000_000)], ["10 min", "24 h", "4 days"]);
        assert_eq!([bound(None), bound(Some(0.0005)), bound(Some(0.25))], ["\u{2013}", "under 0.5 ms", "under 250 ms"]);
    }
}
