//! Everything that is read from the catalogue.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _};
use s3t_core::StageKey;
use s3t_ledger::{Epoch, Hash};

use super::ids::ShortId;
use super::rows::{ExportRow, RequestRow, SliceRow, epoch, to_digest};

/// The name in the table `store` of a store that is being removed.
pub(super) const REMOVED: &str = "removed";

/// The queries over an open connection. Each sees one moment; [`at_one_moment`](Self::at_one_moment) makes several see the same.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a>(pub(super) &'a Connection);

/// Everything that a snapshot is made from, of one moment.
pub(crate) struct State {
    pub(crate) is_removed: bool,
    pub(crate) epoch: Epoch,
    /// By number.
    pub(crate) slices: Vec<SliceRow>,
    pub(crate) stages: BTreeSet<StageKey>,
    /// The deletions that are accepted and not erased, ascending.
    pub(crate) unerased: Vec<Epoch>,
}

impl Queries<'_> {
    /// Runs queries in a transaction of their own, unless one is open already.
    pub(crate) fn at_one_moment<T>(
        self,
        queries: impl FnOnce(Queries<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.0.is_autocommit() { queries(Queries(&*self.0.unchecked_transaction()?)) } else { queries(self) }
    }

    /// Changes whenever another connection has committed.
    pub(crate) fn data_version(self) -> rusqlite::Result<i64> {
        self.0.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// The problems that SQLite itself finds with the file.
    pub(crate) fn integrity(self) -> rusqlite::Result<Vec<String>> {
        let mut query = self.0.prepare("PRAGMA integrity_check(20)")?;
        let lines = query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    pub(crate) fn state(self) -> rusqlite::Result<State> {
        self.at_one_moment(|open| {
            Ok(State {
                is_removed: open.is_removed()?,
                epoch: open.epoch()?,
                slices: open.slices()?,
                stages: open.stages()?,
                unerased: open.unerased()?,
            })
        })
    }

    pub(crate) fn setting(self, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut query = self.0.prepare_cached("SELECT value FROM store WHERE key = ?")?;
        query.query_row([key], |row| row.get(0)).optional()
    }

    /// `true` if the store is being removed.
    pub(crate) fn is_removed(self) -> rusqlite::Result<bool> {
        Ok(self.setting(REMOVED)?.is_some())
    }

    /// The number of deletions that were accepted.
    pub(crate) fn epoch(self) -> rusqlite::Result<Epoch> {
        let bytes = self.setting("epoch")?.and_then(|bytes| bytes.try_into().ok());
        Ok(Epoch(bytes.map_or(0, u64::from_le_bytes)))
    }

    /// The epoch of the newest request; 0 without requests.
    pub(crate) fn newest_request(self) -> rusqlite::Result<Epoch> {
        let newest: Option<i64> = self.0.query_row("SELECT max(epoch) FROM requests", [], |row| row.get(0))?;
        Ok(Epoch(newest.unwrap_or(0) as u64))
    }

    pub(crate) fn slices(self) -> rusqlite::Result<Vec<SliceRow>> {
        let statement = "SELECT number, records, digest, generation, hit FROM slices ORDER BY number";
        self.0.prepare_cached(statement)?.query_map([], SliceRow::read)?.collect()
    }

    pub(crate) fn slice(self, number: u64) -> rusqlite::Result<Option<SliceRow>> {
        let statement = "SELECT number, records, digest, generation, hit FROM slices WHERE number = ?";
        self.0.prepare_cached(statement)?.query_row([number as i64], SliceRow::read).optional()
    }

    pub(crate) fn stages(self) -> rusqlite::Result<BTreeSet<StageKey>> {
        let key = |row: &rusqlite::Row<'_>| to_digest(&row.get::<_, Vec<u8>>(0)?).map(StageKey);
        self.0.prepare_cached("SELECT key FROM stages")?.query_map([], key)?.collect()
    }

    /// The number of the slice that holds a record.
    pub(crate) fn slice_of(self, record: &ShortId) -> rusqlite::Result<Option<u64>> {
        let mut query = self.0.prepare_cached("SELECT slice FROM records WHERE id = ? AND dead IS NULL")?;
        let number: Option<i64> = query.query_row([record.as_slice()], |row| row.get(0)).optional()?;
        Ok(number.map(|number| number as u64))
    }

    /// The records of a slice, each with whether no deletion takes it.
    pub(crate) fn records_in(self, slice: u64) -> rusqlite::Result<HashMap<ShortId, bool>> {
        let mut query = self.0.prepare_cached("SELECT id, dead IS NULL FROM records WHERE slice = ?")?;
        query.query_map([slice as i64], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// The records of a slice that a deletion takes, each with the deletion.
    pub(crate) fn dead_in(self, slice: u64) -> rusqlite::Result<HashMap<ShortId, Epoch>> {
        let mut query = self.0.prepare_cached("SELECT id, dead FROM records WHERE slice = ? AND dead IS NOT NULL")?;
        query.query_map([slice as i64], |row| Ok((row.get(0)?, Epoch(row.get::<_, i64>(1)? as u64))))?.collect()
    }

    /// `true` if a deletion takes a record of the slice.
    pub(crate) fn has_dead(self, slice: u64) -> rusqlite::Result<bool> {
        self.0.prepare_cached("SELECT 1 FROM records WHERE slice = ? AND dead IS NOT NULL")?.exists([slice as i64])
    }

    /// The number by which the records know a subject.
    pub(crate) fn subject_number(self, name: &ShortId) -> rusqlite::Result<Option<i64>> {
        let mut query = self.0.prepare_cached("SELECT number FROM subjects WHERE name = ?")?;
        query.query_row([name.as_slice()], |row| row.get(0)).optional()
    }

    pub(crate) fn count_records_of(self, subject: &ShortId) -> rusqlite::Result<u64> {
        let statement = "SELECT count(*) FROM records WHERE dead IS NULL
                         AND subject = (SELECT number FROM subjects WHERE name = ?)";
        let count: i64 = self.0.prepare_cached(statement)?.query_row([subject.as_slice()], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The slices of the records whose `column` has this value, each with the groups of copies in it.
    pub(crate) fn slices_where(
        self,
        column: &str,
        value: &dyn rusqlite::ToSql,
    ) -> rusqlite::Result<Vec<(u64, Option<i64>)>> {
        let statement = format!("SELECT DISTINCT slice, copies FROM records WHERE {column} = ? AND dead IS NULL");
        let mut query = self.0.prepare_cached(&statement)?;
        query.query_map([value], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?.collect()
    }

    pub(crate) fn count_subjects(self) -> rusqlite::Result<u64> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM subjects", [], |row| row.get(0))?;
        Ok(count as u64)
    }

    pub(crate) fn request(self, id: &ShortId) -> rusqlite::Result<Option<RequestRow>> {
        let statement = "SELECT opening, named, effect, accepted, effective, erased FROM requests WHERE id = ?";
        self.0.prepare_cached(statement)?.query_row([id.as_slice()], RequestRow::read).optional()
    }

    /// All requests, by epoch.
    pub(crate) fn requests(self) -> rusqlite::Result<Vec<RequestRow>> {
        let statement = "SELECT opening, named, effect, accepted, effective, erased FROM requests ORDER BY epoch";
        self.0.prepare_cached(statement)?.query_map([], RequestRow::read)?.collect()
    }

    fn unerased(self) -> rusqlite::Result<Vec<Epoch>> {
        let mut query = self.0.prepare_cached("SELECT epoch FROM requests WHERE erased IS NULL ORDER BY epoch")?;
        query.query_map([], |row| epoch(row, 0))?.collect()
    }

    /// The number of records of a deletion that are not erased yet; `None` for a deletion that is not waiting to be erased.
    pub(super) fn waiting(self, epoch: Epoch) -> rusqlite::Result<Option<u64>> {
        let mut query = self.0.prepare_cached("SELECT waiting FROM requests WHERE epoch = ? AND erased IS NULL")?;
        let waiting: Option<i64> = query.query_row([epoch.0 as i64], |row| row.get(0)).optional()?;
        Ok(waiting.map(|waiting| waiting as u64))
    }

    /// The first deletion that waits for another number of records than are marked by it.
    pub(crate) fn wrong_marks(self) -> rusqlite::Result<Option<String>> {
        let pairs = |statement: &str| -> rusqlite::Result<BTreeMap<i64, i64>> {
            let mut query = self.0.prepare_cached(statement)?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let mut marked = pairs("SELECT dead, count(*) FROM records WHERE dead IS NOT NULL GROUP BY dead")?;
        let waiting = pairs("SELECT epoch, waiting FROM requests WHERE erased IS NULL")?;
        for (epoch, waiting) in waiting {
            let marked = marked.remove(&epoch).unwrap_or(0);
            if marked != waiting {
                return Ok(Some(format!(
                    "deletion {epoch} waits for {waiting} records to be erased, but {marked} are marked: a mark was changed"
                )));
            }
        }
        Ok(marked.keys().next().map(|epoch| {
            format!("records are marked by deletion {epoch}, which is not waiting to be erased: a mark was changed")
        }))
    }

    /// All exports, by number.
    pub(crate) fn exports(self) -> rusqlite::Result<Vec<ExportRow>> {
        // A catalogue of format 3 that is only read has neither numbers nor digests.
        let is_old = self.0.prepare("SELECT number FROM exports").is_err();
        let statement = if is_old {
            "SELECT rowid, folder, stages, NULL, NULL FROM (SELECT 0 AS rowid, folder, stages FROM exports)"
        } else {
            "SELECT number, folder, stages, files, unfinished FROM exports ORDER BY number"
        };
        self.0.prepare(statement)?.query_map([], ExportRow::read)?.collect()
    }

    pub(super) fn next_export(self) -> rusqlite::Result<i64> {
        self.0.query_row("SELECT coalesce(max(number), 0) + 1 FROM exports", [], |row| row.get(0))
    }

    /// The bytes of a ledger entry.
    pub(crate) fn entry(self, index: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut query = self.0.prepare_cached("SELECT entry FROM entries WHERE number = ?")?;
        query.query_row([index as i64], |row| row.get(0)).optional()
    }

    pub(crate) fn count_entries(self) -> rusqlite::Result<u64> {
        let mut query = self.0.prepare_cached("SELECT max(number) FROM entries")?;
        let newest: Option<i64> = query.query_row([], |row| row.get(0))?;
        Ok(newest.map_or(0, |newest| newest as u64 + 1))
    }

    /// Hashes of the ledger's tree, by their numbers.
    pub(crate) fn hashes(self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
        let read = || -> rusqlite::Result<Vec<Hash>> {
            let mut query = self.0.prepare_cached("SELECT hash FROM hashes WHERE number = ?")?;
            let one = |number: &u64| {
                let digest = query.query_row([*number as i64], |row| to_digest(&row.get::<_, Vec<u8>>(0)?))?;
                Ok(Hash::from_bytes(*digest.as_bytes()))
            };
            numbers.iter().map(one).collect()
        };
        read().map_err(|error| error.to_string())
    }
}
