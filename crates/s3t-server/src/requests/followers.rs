//! Followers as rows: what they have confirmed, and how often their leases were renewed.

use rusqlite::{Connection, OptionalExtension as _, params};
use s3t_ledger::Epoch;

pub(super) const SCHEMA: &str = "
CREATE TABLE followers (
    name TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    erased INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL,
    renewals INTEGER NOT NULL DEFAULT 1
) STRICT;
";

/// A follower that may have a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FollowerRow {
    pub(crate) name: String,
    /// The deletions whose stages it has switched off.
    pub(crate) epoch: Epoch,
    /// The deletions whose stages it has forgotten.
    pub(crate) erased: Epoch,
    /// The longest lease that it was ever given.
    pub(crate) lease_ms: u64,
    /// The number of times that its lease was renewed.
    pub(crate) renewals: i64,
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<FollowerRow>> {
    let statement = "SELECT name, epoch, erased, lease_ms, renewals FROM followers";
    let read = |row: &rusqlite::Row<'_>| {
        let number = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)? as u64);
        Ok(FollowerRow {
            name: row.get(0)?,
            epoch: Epoch(number(1)?),
            erased: Epoch(number(2)?),
            lease_ms: number(3)?,
            renewals: row.get(4)?,
        })
    };
    connection.prepare_cached(statement)?.query_map([], read)?.collect()
}

pub(super) fn renew(connection: &Connection, follower: &FollowerRow) -> rusqlite::Result<()> {
    let known = connection.prepare_cached("SELECT 1 FROM followers WHERE name = ?")?;
    let known = { known }.query_row([&follower.name], |_| Ok(())).optional()?;
    // A renewal that a power failure takes back leaves the row: whoever starts then waits for the longest lease.
    connection.pragma_update(None, "synchronous", if known.is_some() { "normal" } else { "full" })?;
    let statement = "INSERT INTO followers (name, epoch, erased, lease_ms) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO UPDATE SET epoch = max(epoch, ?2), erased = max(erased, ?3), lease_ms = max(lease_ms, ?4),
        renewals = renewals + 1";
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let values = params![follower.name, number(follower.epoch.0), number(follower.erased.0), number(follower.lease_ms)];
    connection.prepare_cached(statement)?.execute(values).map(drop)
}

pub(super) fn remove(connection: &Connection, follower: &FollowerRow) -> rusqlite::Result<()> {
    let statement = "DELETE FROM followers WHERE name = ?1 AND renewals = ?2";
    connection.prepare_cached(statement)?.execute(params![follower.name, follower.renewals]).map(drop)
}
