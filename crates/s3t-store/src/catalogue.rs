//! The catalogue: an SQLite database of what is where.
//!
//! # Proof note
//!
//! *Before*: a change is made in one transaction. *After* any crash: all of it is there or none. *Why*: SQLite in WAL mode with
//! `synchronous = FULL` syncs the log before a commit returns. What is deleted does not stay in free pages: `secure_delete`
//! writes zeros over it, and an erasure ends with a checkpoint that truncates the log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};
use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, RecordId, SliceAddress, StageKey, StoreSecret, SubjectId};
use s3t_ledger::{Entry, Event, Hash, SigningKey, Timestamp, new_hashes, root};

use crate::StoreError;
use crate::disk::Disk;

/// The format of the catalogue that this program reads and writes; its migrations bring older ones here.
pub(crate) const FORMAT: u32 = 3;

/// Formats 1 and 2 had a `manifest.json` in the place of a catalogue.
const FIRST_WITH_CATALOGUE: u32 = 3;

const MIGRATIONS: &[M<'static>] = &[M::up(include_str!("catalogue.sql"))];

/// How long a change waits for another process to finish its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// An id in the catalogue: the first half of a keyed digest.
pub(crate) type ShortId = [u8; 16];

pub(crate) fn record_id(secret: &StoreSecret, record: &RecordId) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue record").bytes(record.as_str().as_bytes()))
}

pub(crate) fn subject_id(secret: &StoreSecret, subject: &SubjectId) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue subject").bytes(subject.as_str().as_bytes()))
}

pub(crate) fn request_id(secret: &StoreSecret, request: &str) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue request").bytes(request.as_bytes()))
}

fn short(builder: &DigestBuilder) -> ShortId {
    std::array::from_fn(|byte| builder.finish().as_bytes()[byte])
}

/// An open catalogue.
#[derive(Debug)]
pub(crate) struct Catalogue {
    path: PathBuf,
    connection: Connection,
    disk: Arc<dyn Disk>,
}

impl Catalogue {
    /// Makes an empty catalogue.
    pub(crate) fn create(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let mut catalogue =
            Self::connect(path, disk, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let refuse = |error: rusqlite_migration::Error| StoreError::damaged(path, error.to_string());
        Migrations::from_slice(MIGRATIONS).to_latest(&mut catalogue.connection).map_err(refuse)?;
        Ok(catalogue)
    }

    /// Opens a catalogue, and brings an older one to the present format unless it is only to be read.
    pub(crate) fn open(path: &Path, disk: Arc<dyn Disk>, read_only: bool) -> Result<Self, StoreError> {
        let flags = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let mut catalogue = Self::connect(path, disk, flags)?;
        let version = catalogue.connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        let found = version.map_err(|error| catalogue.failed(error))?;
        let known = MIGRATIONS.len() as u32;
        if found > known || found == 0 {
            let format = if found == 0 { 0 } else { FIRST_WITH_CATALOGUE + found - 1 };
            return Err(StoreError::OtherFormat { path: path.into(), found: format, known: FORMAT });
        }
        if found < known && !read_only {
            let refuse = |error: rusqlite_migration::Error| StoreError::damaged(path, error.to_string());
            Migrations::from_slice(MIGRATIONS).to_latest(&mut catalogue.connection).map_err(refuse)?;
        }
        Ok(catalogue)
    }

    fn connect(path: &Path, disk: Arc<dyn Disk>, flags: OpenFlags) -> Result<Self, StoreError> {
        let failed = |error| StoreError::database(path, error);
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        let set =
            "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
                   PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384;
                   PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 0;
                   PRAGMA wal_autocheckpoint = 10000;";
        let set = if flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) { "PRAGMA query_only = ON;" } else { set };
        connection.execute_batch(set).map_err(failed)?;
        Ok(Self { path: path.into(), connection, disk })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, error)
    }

    /// Runs a query that reads.
    pub(crate) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        query(&self.connection).map_err(|error| self.failed(error))
    }

    /// Changes whenever another connection has committed.
    pub(crate) fn version(&self) -> Result<i64, StoreError> {
        self.read(data_version)
    }

    /// Makes a change in one transaction. `signing` signs the ledger's new head if `change` adds entries.
    pub(crate) fn change<T>(
        &mut self,
        secret: &StoreSecret,
        signing: &SigningKey,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (path, disk) = (self.path.clone(), Arc::clone(&self.disk));
        let failed = |error| StoreError::database(&path, error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let sums = Sums::read(&transaction).map_err(failed)?;
        let entries = count_entries(&transaction).map_err(failed)?;
        let mut open = Change { transaction, path: &path, secret, sums, entries, old_entries: entries };
        let result = change(&mut open)?;
        let Change { transaction, sums, entries, old_entries, .. } = open;
        sums.write(&transaction).map_err(failed)?;
        if entries > old_entries {
            let head = root(entries, &|numbers: &[u64]| read_hashes(&transaction, numbers))?;
            let checkpoint = signing.sign(entries, &head)?;
            set(&transaction, "checkpoint", checkpoint.as_bytes()).map_err(failed)?;
        }
        disk.before_commit().map_err(StoreError::io("commit to", &path))?;
        transaction.commit().map_err(failed)?;
        disk.after_commit().map_err(StoreError::io("commit to", &path))?;
        Ok(result)
    }

    /// Writes the log back into the database and truncates it, so that nothing of the past stays in it.
    pub(crate) fn truncate_log(&self) -> Result<(), StoreError> {
        let until = SystemTime::now() + PATIENCE;
        loop {
            // Busy while another process reads; readers are quick.
            let busy: i64 =
                self.read(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)))?;
            if busy == 0 {
                return Ok(());
            }
            if SystemTime::now() > until {
                return Err(StoreError::Busy(self.path.clone()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes back what can be written back without waiting for anybody.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        self.read(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| get(connection, key))
    }

    pub(crate) fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT entry FROM entries WHERE number = ?")?;
            query.query_row([index as i64], |row| row.get(0)).optional()
        })
    }

    pub(crate) fn entries(&self) -> Result<u64, StoreError> {
        self.read(count_entries)
    }

    /// The number of entries and the checkpoint, of one moment.
    pub(crate) fn head(&self) -> Result<(u64, String), StoreError> {
        self.read(|connection| {
            let open = connection.unchecked_transaction()?;
            let checkpoint = get(&open, "checkpoint")?.and_then(|text| String::from_utf8(text).ok());
            Ok((count_entries(&open)?, checkpoint.unwrap_or_default()))
        })
    }

    /// The epoch, and that of the newest request, of one moment.
    pub(crate) fn epochs(&self) -> Result<(u64, u64), StoreError> {
        self.read(|connection| {
            let open = connection.unchecked_transaction()?;
            let epoch = get(&open, "epoch")?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
            let newest: Option<i64> = open.query_row("SELECT max(epoch) FROM requests", [], |row| row.get(0))?;
            Ok((epoch, newest.unwrap_or(0) as u64))
        })
    }

    pub(crate) fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
        read_hashes(&self.connection, numbers)
    }

    /// The sums as they are stored, and as the rows give them.
    pub(crate) fn sums(&self, secret: &StoreSecret, with_records: bool) -> Result<(Sums, Sums), StoreError> {
        self.read(|connection| {
            // One transaction, so that all of it is of one moment.
            let connection = &*connection.unchecked_transaction()?;
            let stored = Sums::read(connection)?;
            let mut found =
                Sums { records: if with_records { Sum::default() } else { stored.records }, ..Sums::default() };
            let mut slices = connection.prepare("SELECT number, records, digest, generation, hit FROM slices")?;
            let mut rows = slices.query([])?;
            while let Some(row) = rows.next()? {
                found.small.add(&SliceRow::read(row)?.sum(secret));
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
                let mut records = connection.prepare("SELECT id, slice, subject, copies FROM records")?;
                let mut rows = records.query([])?;
                while let Some(row) = rows.next()? {
                    let id: Vec<u8> = row.get(0)?;
                    let row = RecordRow { slice: row.get(1)?, subject: row.get(2)?, copies: row.get(3)? };
                    found.records.add(&row.sum(secret, &id));
                }
                let mut subjects = connection.prepare("SELECT number, name FROM subjects")?;
                let mut rows = subjects.query([])?;
                while let Some(row) = rows.next()? {
                    found.records.add(&subject_sum(secret, row.get(0)?, &row.get::<_, Vec<u8>>(1)?));
                }
            }
            Ok((stored, found))
        })
    }

    /// What SQLite itself finds wrong with the file.
    pub(crate) fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare("PRAGMA integrity_check(20)")?;
            query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        })
        .map(|found| found.into_iter().filter(|line| line != "ok").collect())
    }
}

/// One row of the slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceRow {
    pub(crate) number: u64,
    pub(crate) records: u64,
    pub(crate) digest: Option<Digest>,
    pub(crate) generation: u64,
    pub(crate) hit: u64,
}

impl SliceRow {
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        let digest = row.get::<_, Option<Vec<u8>>>(2)?.map(|bytes| to_digest(&bytes)).transpose()?;
        Ok(Self { number: number(0)?, records: number(1)?, digest, generation: number(3)?, hit: number(4)? })
    }

    fn sum(&self, secret: &StoreSecret) -> Sum {
        let mut builder = DigestBuilder::keyed(secret, "slice row");
        builder.number(self.number).number(self.records).number(self.generation).number(self.hit);
        match &self.digest {
            Some(digest) => builder.digest(digest),
            None => builder.number(0),
        };
        Sum::of(&builder)
    }
}

/// One row of the records, beside its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) slice: i64,
    pub(crate) subject: Option<i64>,
    pub(crate) copies: Option<i64>,
}

impl RecordRow {
    fn sum(self, secret: &StoreSecret, id: &[u8]) -> Sum {
        let number = |value: Option<i64>| value.map_or(0, |value| value as u64 + 1);
        let mut builder = DigestBuilder::keyed(secret, "record row");
        builder.bytes(id).number(self.slice as u64).number(number(self.subject)).number(number(self.copies));
        Sum::of(&builder)
    }
}

/// A record that a deletion takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) slice: u64,
    pub(crate) copies: Option<i64>,
}

/// A change while it is made.
pub(crate) struct Change<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
    secret: &'a StoreSecret,
    sums: Sums,
    entries: u64,
    old_entries: u64,
}

impl Change<'_> {
    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(self.path, error)
    }

    /// Runs a statement that is none of those below.
    pub(crate) fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|error| self.failed(error))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|connection| get(connection, key))
    }

    pub(crate) fn has_record(&self, id: &ShortId) -> Result<bool, StoreError> {
        self.run(|connection| connection.prepare_cached("SELECT 1 FROM records WHERE id = ?")?.exists([id.as_slice()]))
    }

    pub(crate) fn has_subject(&self, name: &ShortId) -> Result<bool, StoreError> {
        self.run(|connection| {
            connection.prepare_cached("SELECT 1 FROM subjects WHERE name = ?")?.exists([name.as_slice()])
        })
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.run(|connection| set(connection, key, value))
    }

    /// Adds an entry to the ledger and gives its index.
    pub(crate) fn append(&mut self, at: Timestamp, event: Event) -> Result<u64, StoreError> {
        let index = self.entries;
        let bytes = Entry { at, event }.to_bytes()?;
        let (first, hashes) = new_hashes(index, &bytes, &|numbers: &[u64]| read_hashes(&self.transaction, numbers))?;
        self.run(|connection| {
            connection
                .prepare_cached("INSERT INTO entries (number, entry) VALUES (?, ?)")?
                .execute(params![index as i64, bytes])?;
            let mut insert = connection.prepare_cached("INSERT INTO hashes (number, hash) VALUES (?, ?)")?;
            for (number, hash) in (first..).zip(&hashes) {
                insert.execute(params![number as i64, hash.as_bytes().as_slice()])?;
            }
            Ok(())
        })?;
        self.entries += 1;
        Ok(index)
    }

    pub(crate) fn slice(&self, number: u64) -> Result<SliceRow, StoreError> {
        self.run(|connection| {
            let query = "SELECT number, records, digest, generation, hit FROM slices WHERE number = ?";
            connection.prepare_cached(query)?.query_row([number as i64], SliceRow::read)
        })
    }

    /// Writes the row of a slice.
    pub(crate) fn set_slice(&mut self, row: &SliceRow) -> Result<(), StoreError> {
        let old = self.run(|connection| {
            let query = "SELECT number, records, digest, generation, hit FROM slices WHERE number = ?";
            connection.prepare_cached(query)?.query_row([row.number as i64], SliceRow::read).optional()
        })?;
        if let Some(old) = old {
            self.sums.small.subtract(&old.sum(self.secret));
        }
        self.sums.small.add(&row.sum(self.secret));
        self.run(|connection| {
            let statement =
                "INSERT OR REPLACE INTO slices (number, records, digest, generation, hit) VALUES (?, ?, ?, ?, ?)";
            connection.prepare_cached(statement)?.execute(params![
                row.number as i64,
                row.records as i64,
                row.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
                row.generation as i64,
                row.hit as i64,
            ])
        })?;
        Ok(())
    }

    /// Changes at most one row of a table: that with this key.
    pub(crate) fn touch(
        &mut self,
        table: Table,
        key: &dyn rusqlite::ToSql,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let secret = self.secret;
        let sum = |connection: &Connection| {
            connection.prepare_cached(table.one)?.query_row([key], |row| row_sum(secret, row)).optional()
        };
        let (before, after) = self.run(|connection| {
            let before = sum(connection)?;
            work(connection)?;
            Ok((before, sum(connection)?))
        })?;
        before.iter().for_each(|sum| self.sums.small.subtract(sum));
        after.iter().for_each(|sum| self.sums.small.add(sum));
        Ok(())
    }

    /// Adds a stage; `false` if it was there.
    pub(crate) fn add_stage(&mut self, key: &StageKey) -> Result<bool, StoreError> {
        let bytes = key.0.as_bytes().as_slice();
        let added = self.run(|connection| {
            connection.prepare_cached("INSERT OR IGNORE INTO stages (key) VALUES (?)")?.execute([bytes])
        })?;
        if added == 1 {
            self.sums.small.add(&stage_sum(self.secret, bytes));
        }
        Ok(added == 1)
    }

    /// Removes a stage; `false` if it was not there.
    pub(crate) fn remove_stage(&mut self, key: &StageKey) -> Result<bool, StoreError> {
        let bytes = key.0.as_bytes().as_slice();
        let removed =
            self.run(|connection| connection.prepare_cached("DELETE FROM stages WHERE key = ?")?.execute([bytes]))?;
        if removed == 1 {
            self.sums.small.subtract(&stage_sum(self.secret, bytes));
        }
        Ok(removed == 1)
    }

    pub(crate) fn add_subject(&mut self, number: i64, name: &ShortId) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("INSERT INTO subjects (number, name) VALUES (?, ?)")?
                .execute(params![number, name.as_slice()])
        })?;
        self.sums.records.add(&subject_sum(self.secret, number, name));
        Ok(())
    }

    pub(crate) fn add_record(&mut self, id: &ShortId, row: RecordRow) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("INSERT INTO records (id, slice, subject, copies) VALUES (?, ?, ?, ?)")?
                .execute(params![id.as_slice(), row.slice, row.subject, row.copies])
        })?;
        self.sums.records.add(&row.sum(self.secret, id));
        Ok(())
    }

    /// Marks a record as taken by a deletion; `None` if it is not there. Empty if the deletion has it already.
    pub(crate) fn mark_record(&self, id: &ShortId, epoch: u64) -> Result<Option<Vec<Marked>>, StoreError> {
        let mark = "UPDATE records SET dead = ?2 WHERE id = ?1 AND dead IS NULL RETURNING slice, copies";
        self.mark(mark, "SELECT 1 FROM records WHERE id = ?1 AND dead = ?2", &id.as_slice(), epoch)
    }

    /// Marks the records of a subject; `None` if the subject has none.
    pub(crate) fn mark_subject(&self, name: &ShortId, epoch: u64) -> Result<Option<Vec<Marked>>, StoreError> {
        let number: Option<i64> = self.run(|connection| {
            let mut find = connection.prepare_cached("SELECT number FROM subjects WHERE name = ?")?;
            find.query_row([name.as_slice()], |row| row.get(0)).optional()
        })?;
        let Some(number) = number else { return Ok(None) };
        let mark = "UPDATE records SET dead = ?2 WHERE subject = ?1 AND dead IS NULL RETURNING slice, copies";
        self.mark(mark, "SELECT 1 FROM records WHERE subject = ?1 AND dead = ?2 LIMIT 1", &number, epoch)
    }

    /// Marks the other records of a group of copies.
    pub(crate) fn mark_copies(&self, group: i64, epoch: u64) -> Result<Vec<Marked>, StoreError> {
        let mark = "UPDATE records SET dead = ?2 WHERE copies = ?1 AND dead IS NULL RETURNING slice, copies";
        let marked = self.mark(mark, "SELECT 1 FROM records WHERE copies = ?1 LIMIT 1", &group, epoch)?;
        Ok(marked.unwrap_or_default())
    }

    fn mark(
        &self,
        mark: &str,
        known: &str,
        what: &dyn rusqlite::ToSql,
        epoch: u64,
    ) -> Result<Option<Vec<Marked>>, StoreError> {
        self.run(|connection| {
            let marked: Vec<Marked> = connection
                .prepare_cached(mark)?
                .query_map(params![what, epoch as i64], |row| {
                    Ok(Marked { slice: row.get::<_, i64>(0)? as u64, copies: row.get(1)? })
                })?
                .collect::<rusqlite::Result<_>>()?;
            if !marked.is_empty() {
                return Ok(Some(marked));
            }
            let mut known = connection.prepare_cached(known)?;
            let there = if known.parameter_count() == 2 {
                known.exists(params![what, epoch as i64])?
            } else {
                known.exists(params![what])?
            };
            Ok(there.then_some(marked))
        })
    }

    /// Removes dead records of a slice, and the subjects that have none left.
    pub(crate) fn remove_records(&mut self, ids: &[ShortId]) -> Result<(), StoreError> {
        let mut subjects = BTreeSet::new();
        for id in ids {
            let row: Option<RecordRow> = self.run(|connection| {
                let statement =
                    "DELETE FROM records WHERE id = ? AND dead IS NOT NULL RETURNING slice, subject, copies";
                connection
                    .prepare_cached(statement)?
                    .query_row([id.as_slice()], |row| {
                        Ok(RecordRow { slice: row.get(0)?, subject: row.get(1)?, copies: row.get(2)? })
                    })
                    .optional()
            })?;
            let Some(row) = row else { continue };
            self.sums.records.subtract(&row.sum(self.secret, id));
            subjects.extend(row.subject);
        }
        for subject in subjects {
            let name: Option<Vec<u8>> = self.run(|connection| {
                let statement = "DELETE FROM subjects WHERE number = ?1
                                 AND NOT EXISTS (SELECT 1 FROM records WHERE subject = ?1) RETURNING name";
                connection.prepare_cached(statement)?.query_row([subject], |row| row.get(0)).optional()
            })?;
            if let Some(name) = name {
                self.sums.records.subtract(&subject_sum(self.secret, subject, &name));
            }
        }
        Ok(())
    }
}

/// A small table whose rows are changed one at a time.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    all: &'static str,
    one: &'static str,
}

/// The requests, by epoch.
pub(crate) const REQUESTS: Table =
    Table { all: "SELECT 'request', * FROM requests", one: "SELECT 'request', * FROM requests WHERE epoch = ?" };

/// The exports, by folder.
pub(crate) const EXPORTS: Table =
    Table { all: "SELECT 'export', * FROM exports", one: "SELECT 'export', * FROM exports WHERE folder = ?" };

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
    /// Slices, stages, requests and exports.
    pub(crate) small: Sum,
    /// Records and subjects.
    pub(crate) records: Sum,
}

impl Sums {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sum = |key| Ok::<_, rusqlite::Error>(get(connection, key)?.map(|bytes| Sum::from_bytes(&bytes)));
        Ok(Self { small: sum("small sum")?.unwrap_or_default(), records: sum("records sum")?.unwrap_or_default() })
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
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

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_add(other));
    }

    fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_sub(other));
    }
}

fn stage_sum(secret: &StoreSecret, key: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "stage row").bytes(key))
}

fn subject_sum(secret: &StoreSecret, number: i64, name: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "subject row").number(number as u64).bytes(name))
}

/// The number of a slice in the catalogue.
pub(crate) fn slice_number(slices: u32, address: SliceAddress) -> u64 {
    u64::from(address.shard.0) * u64::from(slices) + u64::from(address.slice.0)
}

/// The slice with a number.
pub(crate) fn slice_address(slices: u32, number: u64) -> SliceAddress {
    SliceAddress::new((number / u64::from(slices)) as u32, (number % u64::from(slices)) as u32)
}

/// The time of the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

pub(crate) fn to_digest(bytes: &[u8]) -> rusqlite::Result<Digest> {
    let wrong = |error: std::array::TryFromSliceError| {
        rusqlite::Error::FromSqlConversionFailure(bytes.len(), rusqlite::types::Type::Blob, Box::new(error))
    };
    bytes.try_into().map(Digest::from_bytes).map_err(wrong)
}

pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached("SELECT value FROM store WHERE key = ?")?.query_row([key], |row| row.get(0)).optional()
}

fn set(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO store (key, value) VALUES (?, ?)")?
        .execute(params![key, value])
        .map(drop)
}

fn count_entries(connection: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(number) FROM entries")?.query_row([], |row| row.get(0))?;
    Ok(newest.map_or(0, |newest| newest as u64 + 1))
}

fn read_hashes(connection: &Connection, numbers: &[u64]) -> Result<Vec<Hash>, String> {
    let read = || -> rusqlite::Result<Vec<Hash>> {
        let mut query = connection.prepare_cached("SELECT hash FROM hashes WHERE number = ?")?;
        let one = |number: &u64| query.query_row([*number as i64], |row| to_digest(&row.get::<_, Vec<u8>>(0)?));
        numbers.iter().map(one).collect()
    };
    read().map_err(|error| error.to_string())
}
