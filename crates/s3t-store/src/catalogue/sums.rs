//! Sums over the rows of the catalogue, which show rows that were changed from outside.

use rusqlite::{Connection, OptionalExtension as _};
use s3t_core::StoreSecret;
use s3t_core::digest::DigestBuilder;

use super::queries::Queries;
use super::rows::{RecordRow, SliceRow, set};

/// Formats 1 and 2 had a `manifest.json` in the place of a catalogue.
pub(super) const FIRST_WITH_CATALOGUE: u32 = 3;

/// Names in the table `store` that its sums do not cover: the sums themselves, and the checkpoint, which is signed.
const UNCOVERED: [&str; 3] = ["small sum", "records sum", "checkpoint"];

/// A small table whose rows are changed one at a time.
#[derive(Clone, Copy)]
pub(super) struct Table {
    all: &'static str,
    one: &'static str,
}

/// The requests, by epoch.
pub(super) const REQUESTS: Table =
    Table { all: "SELECT 'request', * FROM requests", one: "SELECT 'request', * FROM requests WHERE epoch = ?" };

/// The exports, by number.
pub(super) const EXPORTS: Table =
    Table { all: "SELECT 'export', * FROM exports", one: "SELECT 'export', * FROM exports WHERE number = ?" };

impl Table {
    /// The sum of the row with this key; `None` if there is no such row.
    pub(super) fn sum(
        self,
        connection: &Connection,
        secret: &StoreSecret,
        key: &dyn rusqlite::ToSql,
    ) -> rusqlite::Result<Option<Sum>> {
        connection.prepare_cached(self.one)?.query_row([key], |row| row_sum(secret, row)).optional()
    }
}

/// The digest of all values of a row.
fn row_sum(secret: &StoreSecret, row: &rusqlite::Row<'_>) -> rusqlite::Result<Sum> {
    use rusqlite::types::ValueRef;
    let mut builder = DigestBuilder::keyed(secret, "row");
    for column in 0..row.as_ref().column_count() {
        match row.get_ref(column)? {
            ValueRef::Null => builder.number(0),
            ValueRef::Integer(value) => builder.number(1).number(value as u64),
            ValueRef::Real(value) => builder.number(2).number(value.to_bits()),
            ValueRef::Text(bytes) => builder.number(3).bytes(bytes),
            ValueRef::Blob(bytes) => builder.number(4).bytes(bytes),
        };
    }
    Ok(Sum::of(&builder))
}

/// Sums over the rows of the catalogue: a changed bit in a row changes one. Each is the sum of the rows' keyed digests, so that it
/// follows a change without reading the other rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Settings, slices, stages, requests and exports.
    pub(crate) small: Sum,
    /// Records and subjects.
    pub(crate) records: Sum,
}

impl Sums {
    /// The sums that the rows give.
    pub(super) fn of_rows(
        connection: &Connection,
        secret: &StoreSecret,
        with_records: bool,
        format: u32,
    ) -> rusqlite::Result<Self> {
        let mut found = Self::default();
        if format > FIRST_WITH_CATALOGUE {
            let mut settings = connection.prepare("SELECT key, value FROM store")?;
            let mut rows = settings.query([])?;
            while let Some(row) = rows.next()? {
                found.small.add(&setting_sum(secret, &row.get::<_, String>(0)?, &row.get::<_, Vec<u8>>(1)?));
            }
        }
        for slice in Queries(connection).slices()? {
            found.small.add(&slice.sum(secret));
        }
        let mut stages = connection.prepare("SELECT key FROM stages")?;
        let mut rows = stages.query([])?;
        while let Some(row) = rows.next()? {
            found.small.add(&stage_sum(secret, &row.get::<_, Vec<u8>>(0)?));
        }
        for table in [REQUESTS, EXPORTS] {
            let mut query = connection.prepare(table.all)?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                found.small.add(&row_sum(secret, row)?);
            }
        }
        if with_records {
            found.records = Self::of_records(connection, secret, format)?;
        }
        Ok(found)
    }

    fn of_records(connection: &Connection, secret: &StoreSecret, format: u32) -> rusqlite::Result<Sum> {
        let mut found = Sum::default();
        let mut records = connection.prepare("SELECT slice, subject, copies, dead, id FROM records")?;
        let mut rows = records.query([])?;
        while let Some(row) = rows.next()? {
            let (id, mut row): (Vec<u8>, _) = (row.get(4)?, RecordRow::read(row)?);
            if format == FIRST_WITH_CATALOGUE {
                row.dead = None;
            }
            found.add(&row.sum(secret, &id));
        }
        let mut subjects = connection.prepare("SELECT number, name FROM subjects")?;
        let mut rows = subjects.query([])?;
        while let Some(row) = rows.next()? {
            found.add(&subject_sum(secret, row.get(0)?, &row.get::<_, Vec<u8>>(1)?));
        }
        Ok(found)
    }

    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sum = |key| {
            let bytes = Queries(connection).setting(key)?;
            Ok::<_, rusqlite::Error>(bytes.map_or(Sum::default(), |bytes| Sum::from_bytes(&bytes)))
        };
        Ok(Self { small: sum("small sum")?, records: sum("records sum")? })
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        set(connection, "small sum", &self.small.to_bytes())?;
        set(connection, "records sum", &self.records.to_bytes())
    }
}

/// A sum of 256-bit digests, in four lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    fn of(builder: &DigestBuilder) -> Self {
        Self::from_bytes(builder.finish().as_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = u64::from_le_bytes(*bytes);
        }
        Self(lanes)
    }

    fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_add(other));
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_sub(other));
    }
}

impl SliceRow {
    pub(super) fn sum(&self, secret: &StoreSecret) -> Sum {
        let mut builder = DigestBuilder::keyed(secret, "slice row");
        builder.number(self.number).number(self.records).number(self.generation).number(self.hit);
        match &self.digest {
            Some(digest) => builder.digest(digest),
            None => builder.number(0),
        };
        Sum::of(&builder)
    }
}

impl RecordRow {
    pub(super) fn sum(self, secret: &StoreSecret, id: &[u8]) -> Sum {
        let number = |value: Option<i64>| value.map_or(0, |value| (value as u64).wrapping_add(1));
        let mut builder = DigestBuilder::keyed(secret, "record row");
        builder.bytes(id).number(self.slice as u64).number(number(self.subject)).number(number(self.copies));
        // Format 3 knew no marks in its sums.
        if let Some(dead) = self.dead {
            builder.number(dead as u64);
        }
        Sum::of(&builder)
    }
}

pub(super) fn setting_sum(secret: &StoreSecret, key: &str, value: &[u8]) -> Sum {
    if UNCOVERED.contains(&key) {
        return Sum::default();
    }
    Sum::of(DigestBuilder::keyed(secret, "setting row").bytes(key.as_bytes()).bytes(value))
}

pub(super) fn stage_sum(secret: &StoreSecret, key: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "stage row").bytes(key))
}

pub(super) fn subject_sum(secret: &StoreSecret, number: i64, name: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "subject row").number(number as u64).bytes(name))
}
