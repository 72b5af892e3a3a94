//! Callbacks that wait to be delivered: at least once each, with the same bytes every time.

use rusqlite::{Connection, params};

/// The longest time between two attempts in milliseconds: 15 minutes.
pub(super) const MAX_WAIT_MS: i64 = 15 * 60 * 1000;

/// Attempts before a callback is given up: first quickly, then every 15 minutes for 90 days.
pub(super) const MAX_ATTEMPTS: u32 = 12 + 90 * 24 * 4;

/// A callback to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) url: String,
    pub(crate) body: Vec<u8>,
    /// The signature of the body, in base64.
    pub(crate) signature: String,
}

/// A callback to be delivered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    number: i64,
    pub(crate) url: String,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: String,
    pub(crate) attempts: u32,
}

pub(super) fn insert(connection: &Connection, request: &str, outgoing: &[Outgoing], at: i64) -> rusqlite::Result<()> {
    let statement = "INSERT INTO outbox (request, url, body, signature, made, next) VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
    for one in outgoing {
        connection.prepare_cached(statement)?.execute(params![request, one.url, one.body, one.signature, at])?;
    }
    Ok(())
}

/// The callbacks that are due: those that were not tried yet, and then those that have been due for longest, so that receivers that do not
/// answer keep nothing from the others. Of each request and address only the oldest, so that they arrive in order.
pub(super) fn due(connection: &Connection, now: i64, most: u32) -> rusqlite::Result<Vec<Delivery>> {
    let statement = "SELECT number, url, body, signature, attempts FROM outbox AS one
        WHERE state = 'waiting' AND next <= ?1 AND NOT EXISTS (
            SELECT 1 FROM outbox AS earlier WHERE earlier.state = 'waiting' AND earlier.request = one.request
            AND earlier.url = one.url AND earlier.number < one.number)
        ORDER BY attempts > 0, next, number LIMIT ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Delivery {
            number: row.get(0)?,
            url: row.get(1)?,
            body: row.get(2)?,
            signature: row.get(3)?,
            attempts: row.get(4)?,
        })
    };
    connection.prepare_cached(statement)?.query_map(params![now, most], read)?.collect()
}

pub(super) fn attempted(
    connection: &Connection,
    delivery: &Delivery,
    delivered: bool,
    now: i64,
) -> rusqlite::Result<()> {
    let attempts = delivery.attempts + 1;
    let state = match (delivered, attempts >= MAX_ATTEMPTS) {
        (true, _) => "delivered",
        (false, true) => "given-up",
        (false, false) => "waiting",
    };
    // 1 s, 2 s, 4 s, ... up to 15 minutes.
    let wait = 1000i64.checked_shl(attempts.saturating_sub(1).min(20)).unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS);
    let statement = "UPDATE outbox SET attempts = ?2, next = ?3, state = ?4 WHERE number = ?1";
    let values = params![delivery.number, attempts, now + wait, state];
    connection.prepare_cached(statement)?.execute(values).map(drop)
}
