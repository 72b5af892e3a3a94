//! The depth of the system over time, an entry an hour.

use rusqlite::{Connection, params};

/// The depth of the system in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    /// The hours since 1970.
    pub(crate) hour: i64,
    /// The stages that shards answer with.
    pub(crate) served: u64,
    /// The stages that they would answer with if none were missing.
    pub(crate) planned: u64,
}

/// Notes a depth; a later one of the same hour takes its place.
pub(super) fn note(connection: &Connection, depth: Depth) -> rusqlite::Result<()> {
    let statement = "INSERT OR REPLACE INTO depths (hour, served, planned) VALUES (?, ?, ?)";
    let values = params![depth.hour, depth.served as i64, depth.planned as i64];
    connection.prepare_cached(statement)?.execute(values).map(drop)
}

/// The depths from an hour on, oldest first.
pub(super) fn since(connection: &Connection, hour: i64) -> rusqlite::Result<Vec<Depth>> {
    let mut query =
        connection.prepare_cached("SELECT hour, served, planned FROM depths WHERE hour >= ? ORDER BY hour")?;
    let read = |row: &rusqlite::Row<'_>| {
        let (served, planned): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Depth { hour: row.get(0)?, served: served as u64, planned: planned as u64 })
    };
    query.query_map([hour], read)?.collect()
}
