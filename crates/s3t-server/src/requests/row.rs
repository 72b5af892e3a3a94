//! Requests as rows.

use rusqlite::{Connection, OptionalExtension as _, params};
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::Epoch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The phase of a deletion request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// It waits for its batch. Nothing was deleted, and it can be cancelled.
    Queued,
    /// It would bring a shard too near to its end, and waits for a repair, an operator or its due time. Nothing was deleted, and it
    /// can be cancelled.
    Held,
    /// The store has accepted it, and a follower that may still answer has not confirmed it.
    Accepted,
    /// No answer that begins from now on uses what was deleted. The bytes are still on disk.
    InEffect,
    /// The records, the stages that saw them and their keys are gone from disk.
    Erased,
    /// It was taken back while it waited.
    Cancelled,
    /// It could not be done.
    Failed,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] =
        [Self::Queued, Self::Held, Self::Accepted, Self::InEffect, Self::Erased, Self::Cancelled, Self::Failed];

    /// `true` before anything is deleted.
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Held)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Accepted => "accepted",
            Self::InEffect => "in-effect",
            Self::Erased => "erased",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// The interface by which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `POST /deletions`.
    Api,
    /// OpenDSR.
    OpenDsr,
}

impl Origin {
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::OpenDsr => "opendsr",
        }
    }
}

/// The names in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) records: Vec<RecordId>,
    pub(crate) subjects: Vec<SubjectId>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.subjects.is_empty()
    }
}

/// A request that is put in. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    pub(crate) id: String,
    pub(crate) caller: String,
    pub(crate) origin: Origin,
    pub(crate) names: Names,
    pub(crate) due: Option<i64>,
    /// The moment at which it is to be done at the latest.
    pub(crate) run_at: Option<i64>,
    pub(crate) received: i64,
    pub(crate) phase: Phase,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) records: Option<u64>,
    pub(crate) effective: Option<i64>,
    pub(crate) callbacks: Vec<String>,
}

/// A request. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The place in the order of arrival.
    pub(crate) number: i64,
    pub(crate) id: String,
    /// The id of the token that made it.
    pub(crate) caller: String,
    pub(crate) origin: Origin,
    pub(crate) due: Option<i64>,
    pub(crate) received: i64,
    pub(crate) phase: Phase,
    /// The deletion in the store; `None` if no name in it was known.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) records: Option<u64>,
    pub(crate) effective: Option<i64>,
    pub(crate) erased: Option<i64>,
    pub(crate) callbacks: Vec<String>,
}

/// The numbers of requests in each phase, and of callbacks in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queued: u64,
    pub(crate) held: u64,
    pub(crate) accepted: u64,
    pub(crate) in_effect: u64,
    pub(crate) erased: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    /// When the oldest request that is not erased took effect.
    pub(crate) oldest: Option<i64>,
    /// Callbacks that wait.
    pub(crate) callbacks: u64,
    /// Callbacks that were given up.
    pub(crate) undelivered: u64,
}

const COLUMNS: &str =
    "number, id, caller, origin, due, received, phase, epoch, records, effective, erased, callbacks, content";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let wrong = |column: usize, problem: String| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, problem.into())
    };
    let (origin, phase): (String, String) = (row.get(3)?, row.get(6)?);
    let origin = [Origin::Api, Origin::OpenDsr].into_iter().find(|known| known.name() == origin);
    let phase = Phase::ALL.into_iter().find(|known| known.name() == phase);
    let number = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|number| number as u64));
    Ok(Row {
        number: row.get(0)?,
        id: row.get(1)?,
        caller: row.get(2)?,
        origin: origin.ok_or_else(|| wrong(3, "unknown origin".into()))?,
        due: row.get(4)?,
        received: row.get(5)?,
        phase: phase.ok_or_else(|| wrong(6, "unknown phase".into()))?,
        epoch: number(7)?.map(Epoch),
        records: number(8)?,
        effective: row.get(9)?,
        erased: row.get(10)?,
        callbacks: serde_json::from_str(&row.get::<_, String>(11)?).map_err(|error| wrong(11, error.to_string()))?,
    })
}

pub(super) fn get(connection: &Connection, id: &str) -> rusqlite::Result<Option<Row>> {
    Ok(with_content(connection, id)?.map(|(row, _)| row))
}

/// A request with the hash of its content.
pub(super) fn with_content(connection: &Connection, id: &str) -> rusqlite::Result<Option<(Row, Vec<u8>)>> {
    let statement = format!("SELECT {COLUMNS} FROM requests WHERE id = ?");
    connection.prepare_cached(&statement)?.query_row([id], |row| Ok((read(row)?, row.get(12)?))).optional()
}

pub(super) fn insert(connection: &Connection, new: &NewRow, content: &[u8; 32]) -> rusqlite::Result<()> {
    let failed = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let names = new.phase.waits().then(|| serde_json::to_string(&new.names)).transpose().map_err(failed)?;
    let callbacks = serde_json::to_string(&new.callbacks).map_err(failed)?;
    let statement = "INSERT INTO requests
        (id, caller, origin, content, names, due, run_at, received, phase, epoch, records, effective, callbacks)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let number = |value: Option<u64>| value.map(|value| value as i64);
    let values = params![
        new.id,
        new.caller,
        new.origin.name(),
        content.as_slice(),
        names,
        new.due,
        new.run_at,
        new.received,
        new.phase.name(),
        number(new.epoch.map(|epoch| epoch.0)),
        number(new.records),
        new.effective,
        callbacks,
    ];
    connection.prepare_cached(statement)?.execute(values).map(drop)
}

pub(super) fn of_phase(connection: &Connection, phase: Phase) -> rusqlite::Result<Vec<Row>> {
    let statement = format!("SELECT {COLUMNS} FROM requests WHERE phase = ? ORDER BY number");
    connection.prepare_cached(&statement)?.query_map([phase.name()], read)?.collect()
}

pub(super) fn list(
    connection: &Connection,
    caller: Option<&str>,
    search: &str,
    before: i64,
    most: u32,
) -> rusqlite::Result<Vec<Row>> {
    let statement = format!(
        "SELECT {COLUMNS} FROM requests
         WHERE number < ?1 AND (?2 IS NULL OR caller = ?2) AND instr(id, ?3) > 0 ORDER BY number DESC LIMIT ?4"
    );
    let values = params![before, caller, search, most];
    connection.prepare_cached(&statement)?.query_map(values, read)?.collect()
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut query = connection.prepare_cached("SELECT phase, count(*) FROM requests GROUP BY phase")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64)))?;
    for row in rows {
        let (phase, number) = row?;
        match &*phase {
            "queued" => counts.queued = number,
            "held" => counts.held = number,
            "accepted" => counts.accepted = number,
            "in-effect" => counts.in_effect = number,
            "erased" => counts.erased = number,
            "cancelled" => counts.cancelled = number,
            _ => counts.failed = number,
        }
    }
    let statement = "SELECT min(effective) FROM requests WHERE phase = 'in-effect'";
    counts.oldest = connection.prepare_cached(statement)?.query_row([], |row| row.get(0))?;
    let of_state = |state: &str| {
        let mut query = connection.prepare_cached("SELECT count(*) FROM outbox WHERE state = ?")?;
        query.query_row([state], |row| row.get::<_, i64>(0)).map(|number| number as u64)
    };
    (counts.callbacks, counts.undelivered) = (of_state("waiting")?, of_state("given-up")?);
    Ok(counts)
}
