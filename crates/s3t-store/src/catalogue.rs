//! The catalogue: an SQLite database of what is where.
//!
//! # Proof note
//!
//! *Before*: a change is made in one transaction. *After* any crash: all of it is there or none. *Why*: SQLite in WAL mode with
//! `synchronous = FULL` syncs the log before a commit returns. What is deleted does not stay in free pages: `secure_delete`
//! writes zeros over it, and an erasure ends with a checkpoint that truncates the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};
use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, RecordId, SliceAddress, StageKey, StoreSecret, SubjectId};
use s3t_ledger::{Entry, Event, Hash, SigningKey, Timestamp, new_hashes, root};

use crate::StoreError;
use crate::disk::Disk;
use crate::lock::{CatalogueLock, Holder};

/// The format of the catalogue that this program reads and writes; its migrations bring older ones here.
pub(crate) const FORMAT: u32 = 4;

/// Formats 1 and 2 had a `manifest.json` in the place of a catalogue.
const FIRST_WITH_CATALOGUE: u32 = 3;

const FORMAT_3: &str = include_str!("catalogue.sql");
const FORMAT_4: &str = include_str!("catalogue-4.sql");

/// The name in the table `store` of a store that is being removed.
const REMOVED: &str = "removed";

/// Names in the table `store` that its sums do not cover: the sums themselves, and the checkpoint, which is signed.
const UNCOVERED: [&str; 3] = ["small sum", "records sum", "checkpoint"];

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

/// The file of a catalogue.
#[derive(Debug, Clone)]
pub(crate) struct CatalogueFile {
    /// Its path, without links.
    pub(crate) path: PathBuf,
    /// The path that messages show.
    pub(crate) shown: PathBuf,
}

/// An open catalogue.
#[derive(Debug)]
pub(crate) struct Catalogue {
    path: PathBuf,
    file: PathBuf,
    connection: Connection,
    disk: Arc<dyn Disk>,
    /// How long a change waits for another process to finish its own.
    patience: Duration,
    format: u32,
}

impl Catalogue {
    /// Makes an empty catalogue.
    pub(crate) fn create(file: &CatalogueFile, disk: Arc<dyn Disk>, patience: Duration) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut catalogue = Self::connect(file, disk, flags, patience)?;
        let refuse = |error: rusqlite_migration::Error| StoreError::damaged(&file.shown, error.to_string());
        let migrations = Migrations::new(vec![M::up(FORMAT_3), M::up(FORMAT_4)]);
        migrations.to_latest(&mut catalogue.connection).map_err(refuse)?;
        Ok(catalogue)
    }

    /// Opens a catalogue. One of an older format is brought to the present one by [`upgrade`](Self::upgrade).
    pub(crate) fn open(
        file: &CatalogueFile,
        disk: Arc<dyn Disk>,
        read_only: bool,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let flags = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let mut catalogue = Self::connect(file, disk, flags, patience)?;
        let version = catalogue.connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        let found = version.map_err(|error| catalogue.failed(error))?;
        catalogue.format = if found == 0 { 0 } else { FIRST_WITH_CATALOGUE - 1 + found };
        if found == 0 || catalogue.format > FORMAT {
            return Err(StoreError::OtherFormat { path: file.shown.clone(), found: catalogue.format, known: FORMAT });
        }
        Ok(catalogue)
    }

    /// The format that the catalogue has.
    pub(crate) fn format(&self) -> u32 {
        self.format
    }

    /// Whether the catalogue's requests say how many records they wait for: since format 4.
    pub(crate) fn has_marks(&self) -> bool {
        self.format >= 4
    }

    /// Brings a catalogue of an older format to the present one, in one transaction.
    pub(crate) fn upgrade(&mut self, secret: &StoreSecret) -> Result<(), StoreError> {
        if self.format == FORMAT {
            return Ok(());
        }
        // New sums are made from the rows, so the rows must be those of the old ones.
        let (stored, found) = self.sums(secret, true)?;
        if stored != found {
            return Err(StoreError::damaged(&self.path, "its rows are not those that were written"));
        }
        let secret = secret.clone();
        let renew = move |transaction: &Transaction<'_>| {
            Sums::of_rows(transaction, &secret, true, FORMAT)?.write(transaction)?;
            Ok(())
        };
        let migrations = Migrations::new(vec![M::up(FORMAT_3), M::up_with_hook(FORMAT_4, renew)]);
        let refuse = |error: rusqlite_migration::Error| StoreError::damaged(&self.path, error.to_string());
        migrations.to_latest(&mut self.connection).map_err(refuse)?;
        self.format = FORMAT;
        Ok(())
    }

    fn connect(
        file: &CatalogueFile,
        disk: Arc<dyn Disk>,
        flags: OpenFlags,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let CatalogueFile { path, shown } = file;
        let failed = |error| StoreError::database(shown, path, error);
        let read_only = flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY);
        // SQLite opens the log and the shared memory beside it without following links by itself.
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = if read_only && crate::read_only::is_read_only(path) {
            let name = crate::read_only::immutable_name(path)?;
            Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(path, flags)
        };
        let connection = connection.map_err(failed)?;
        connection.busy_timeout(patience).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        let set =
            "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
                   PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384;
                   PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 0;
                   PRAGMA wal_autocheckpoint = 10000;";
        let set = if read_only { "PRAGMA query_only = ON;" } else { set };
        connection.execute_batch(set).map_err(failed)?;
        Ok(Self { path: shown.clone(), file: path.clone(), connection, disk, patience, format: FORMAT })
    }

    /// Says that the store is being removed, to whoever has it open.
    pub(crate) fn mark_removed(&self) -> Result<(), StoreError> {
        self.read(|connection| set(connection, REMOVED, &[1]))
    }

    /// Whether the store is being removed.
    pub(crate) fn is_removed(&self) -> Result<bool, StoreError> {
        self.read(is_removed)
    }

    /// Holds on to the present state: everything that is read from now on is of this moment.
    pub(crate) fn stay(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            connection.execute_batch("BEGIN")?;
            count_entries(connection).map(drop)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, &self.file, error)
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
        let (path, file, disk) = (self.path.clone(), self.file.clone(), Arc::clone(&self.disk));
        let failed = |error| StoreError::database(&path, &file, error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let sums = Sums::read(&transaction).map_err(failed)?;
        let entries = count_entries(&transaction).map_err(failed)?;
        let mut open = Change { transaction, path: &path, file: &file, secret, sums, entries, old_entries: entries };
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

    /// Runs `work` while nobody else can change the catalogue, and changes nothing itself.
    pub(crate) fn hold<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read(|connection| connection.execute_batch("BEGIN IMMEDIATE"))?;
        let result = work(&self.connection);
        self.read(|connection| connection.execute_batch("ROLLBACK"))?;
        result
    }

    /// Writes the log back into the database and truncates it, so that nothing of the past stays in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Reading`] while another process reads a state from before.
    pub(crate) fn truncate_log(&self) -> Result<(), StoreError> {
        let until = Instant::now() + self.patience;
        // SQLite would keep others from writing while it waits for a reader; so it does not wait, and is asked again.
        let wait = |patience| self.connection.busy_timeout(patience).map_err(|error| self.failed(error));
        wait(Duration::ZERO)?;
        let truncated = loop {
            let once: Result<i64, rusqlite::Error> =
                self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            let busy = match once {
                Ok(busy) => busy != 0,
                Err(error) if is_busy(&error) => true,
                Err(error) => break Err(self.failed(error)),
            };
            if !busy {
                break Ok(());
            }
            if Instant::now() > until {
                let holder = Holder::of_catalogue_at(&self.file, CatalogueLock::Read);
                break Err(StoreError::Reading { store: crate::disk::parent(&self.path).into(), holder });
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        wait(self.patience)?;
        truncated
    }

    /// Truncates the log unless somebody reads it.
    pub(crate) fn try_to_truncate_log(&self) -> Result<(), StoreError> {
        let wait = |patience| self.connection.busy_timeout(patience).map_err(|error| self.failed(error));
        wait(Duration::ZERO)?;
        let truncated = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        wait(self.patience)?;
        match truncated {
            Err(error) if is_busy(&error) => Ok(()),
            truncated => truncated.map_err(|error| self.failed(error)),
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
            of_one_moment(connection, |open| {
                let checkpoint = get(open, "checkpoint")?.and_then(|text| String::from_utf8(text).ok());
                Ok((count_entries(open)?, checkpoint.unwrap_or_default()))
            })
        })
    }

    /// The epoch, and that of the newest request, of one moment.
    pub(crate) fn epochs(&self) -> Result<(u64, u64), StoreError> {
        self.read(|connection| {
            of_one_moment(connection, |open| {
                let epoch = get(open, "epoch")?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
                let newest: Option<i64> = open.query_row("SELECT max(epoch) FROM requests", [], |row| row.get(0))?;
                Ok((epoch, newest.unwrap_or(0) as u64))
            })
        })
    }

    pub(crate) fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
        read_hashes(&self.connection, numbers)
    }

    /// The sums as they are stored, and as the rows give them.
    pub(crate) fn sums(&self, secret: &StoreSecret, with_records: bool) -> Result<(Sums, Sums), StoreError> {
        self.read(|connection| {
            // All of it of one moment.
            of_one_moment(connection, |open| {
                let stored = Sums::read(open)?;
                let mut found = Sums::of_rows(open, secret, with_records, self.format)?;
                if !with_records {
                    found.records = stored.records;
                }
                Ok((stored, found))
            })
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
    /// The deletion that takes the record.
    pub(crate) dead: Option<i64>,
}

impl RecordRow {
    fn sum(self, secret: &StoreSecret, id: &[u8]) -> Sum {
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
    file: &'a Path,
    secret: &'a StoreSecret,
    sums: Sums,
    entries: u64,
    old_entries: u64,
}

impl Change<'_> {
    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(self.path, self.file, error)
    }

    /// Runs a statement that is none of those below.
    pub(crate) fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|error| self.failed(error))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|connection| get(connection, key))
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.get(key)? {
            self.sums.small.subtract(&setting_sum(self.secret, key, &old));
        }
        self.sums.small.add(&setting_sum(self.secret, key, value));
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
    pub(crate) fn mark_record(&mut self, id: &ShortId, epoch: u64) -> Result<Option<Vec<Marked>>, StoreError> {
        self.mark("id", &id.as_slice(), epoch)
    }

    /// Marks the records of a subject; `None` if the subject has none.
    pub(crate) fn mark_subject(&mut self, name: &ShortId, epoch: u64) -> Result<Option<Vec<Marked>>, StoreError> {
        let number: Option<i64> = self.run(|connection| {
            let mut find = connection.prepare_cached("SELECT number FROM subjects WHERE name = ?")?;
            find.query_row([name.as_slice()], |row| row.get(0)).optional()
        })?;
        let Some(number) = number else { return Ok(None) };
        self.mark("subject", &number, epoch)
    }

    /// Marks the other records of a group of copies.
    pub(crate) fn mark_copies(&mut self, group: i64, epoch: u64) -> Result<Vec<Marked>, StoreError> {
        Ok(self.mark("copies", &group, epoch)?.unwrap_or_default())
    }

    /// Marks the records whose `column` has this value.
    fn mark(
        &mut self,
        column: &str,
        value: &dyn rusqlite::ToSql,
        epoch: u64,
    ) -> Result<Option<Vec<Marked>>, StoreError> {
        let statement = format!(
            "UPDATE records SET dead = ?2 WHERE {column} = ?1 AND dead IS NULL RETURNING id, slice, subject, copies"
        );
        let marked: Vec<(Vec<u8>, RecordRow)> = self.run(|connection| {
            let mut mark = connection.prepare_cached(&statement)?;
            let row = |row: &rusqlite::Row<'_>| {
                let (slice, subject, copies) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok((row.get(0)?, RecordRow { slice, subject, copies, dead: None }))
            };
            mark.query_map(params![value, epoch as i64], row)?.collect()
        })?;
        for (id, row) in &marked {
            self.sums.records.subtract(&row.sum(self.secret, id));
            self.sums.records.add(&RecordRow { dead: Some(epoch as i64), ..*row }.sum(self.secret, id));
        }
        let statement = format!("SELECT DISTINCT dead FROM records WHERE {column} = ? AND dead IS NOT NULL");
        let taken: Vec<i64> = self
            .run(|connection| connection.prepare_cached(&statement)?.query_map([value], |row| row.get(0))?.collect())?;
        // A mark of no deletion was set from outside: the record would be passed over.
        for other in taken.iter().filter(|other| **other != epoch as i64) {
            self.waiting(*other)?;
        }
        if !marked.is_empty() {
            let marked = marked.into_iter().map(|(_, row)| Marked { slice: row.slice as u64, copies: row.copies });
            return Ok(Some(marked.collect()));
        }
        Ok(taken.contains(&(epoch as i64)).then(Vec::new))
    }

    /// How many records of a deletion are not erased yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if there is no such deletion, or it was erased: then somebody changed a mark.
    pub(crate) fn waiting(&self, epoch: i64) -> Result<u64, StoreError> {
        let waiting: Option<i64> = self.run(|connection| {
            let statement = "SELECT waiting FROM requests WHERE epoch = ? AND erased IS NULL";
            connection.prepare_cached(statement)?.query_row([epoch], |row| row.get(0)).optional()
        })?;
        let problem = || format!("a record is marked by deletion {epoch}, which is not waiting to be erased");
        waiting.map(|waiting| waiting as u64).ok_or_else(|| StoreError::damaged(self.path, problem()))
    }

    /// Removes dead records of a slice, and the subjects that have none left.
    pub(crate) fn remove_records(&mut self, ids: &[ShortId]) -> Result<(), StoreError> {
        let mut subjects = BTreeSet::new();
        let mut erased: BTreeMap<i64, u64> = BTreeMap::new();
        for id in ids {
            let row: Option<RecordRow> = self.run(|connection| {
                let statement =
                    "DELETE FROM records WHERE id = ? AND dead IS NOT NULL RETURNING slice, subject, copies, dead";
                connection.prepare_cached(statement)?.query_row([id.as_slice()], RecordRow::read).optional()
            })?;
            let Some(row) = row else { continue };
            self.sums.records.subtract(&row.sum(self.secret, id));
            *erased.entry(row.dead.unwrap_or_default()).or_default() += 1;
            subjects.extend(row.subject);
        }
        for (epoch, records) in erased {
            let left = self.waiting(epoch)?.checked_sub(records);
            let problem = || format!("deletion {epoch} takes fewer records than are marked by it");
            let left = left.ok_or_else(|| StoreError::damaged(self.path, problem()))?;
            self.touch(REQUESTS, &epoch, |connection| {
                let statement = "UPDATE requests SET waiting = ?2 WHERE epoch = ?1";
                connection.prepare_cached(statement)?.execute(params![epoch, left as i64]).map(drop)
            })?;
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

    /// Compares the marks of the records with the deletions that are waiting to be erased.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a mark was set, taken back or changed from outside: nothing may be erased by it, and nothing
    /// be called erased.
    pub(crate) fn check_marks(&self) -> Result<(), StoreError> {
        let wrong = self.run(wrong_marks)?;
        wrong.map_or(Ok(()), |problem| Err(StoreError::damaged(self.path, problem)))
    }
}

impl RecordRow {
    /// Reads `slice, subject, copies, dead`.
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { slice: row.get(0)?, subject: row.get(1)?, copies: row.get(2)?, dead: row.get(3)? })
    }
}

/// The first deletion that waits for another number of records than are marked by it.
pub(crate) fn wrong_marks(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let pairs = |statement: &str| -> rusqlite::Result<BTreeMap<i64, i64>> {
        let mut query = connection.prepare_cached(statement)?;
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

/// A small table whose rows are changed one at a time.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    all: &'static str,
    one: &'static str,
}

/// The requests, by epoch.
pub(crate) const REQUESTS: Table =
    Table { all: "SELECT 'request', * FROM requests", one: "SELECT 'request', * FROM requests WHERE epoch = ?" };

/// The exports, by number.
pub(crate) const EXPORTS: Table =
    Table { all: "SELECT 'export', * FROM exports", one: "SELECT 'export', * FROM exports WHERE number = ?" };

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
    fn of_rows(
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
            let mut records = connection.prepare("SELECT slice, subject, copies, dead, id FROM records")?;
            let mut rows = records.query([])?;
            while let Some(row) = rows.next()? {
                let (id, mut row): (Vec<u8>, _) = (row.get(4)?, RecordRow::read(row)?);
                if format == FIRST_WITH_CATALOGUE {
                    row.dead = None;
                }
                found.records.add(&row.sum(secret, &id));
            }
            let mut subjects = connection.prepare("SELECT number, name FROM subjects")?;
            let mut rows = subjects.query([])?;
            while let Some(row) = rows.next()? {
                found.records.add(&subject_sum(secret, row.get(0)?, &row.get::<_, Vec<u8>>(1)?));
            }
        }
        Ok(found)
    }

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

fn setting_sum(secret: &StoreSecret, key: &str, value: &[u8]) -> Sum {
    if UNCOVERED.contains(&key) {
        return Sum::default();
    }
    Sum::of(DigestBuilder::keyed(secret, "setting row").bytes(key.as_bytes()).bytes(value))
}

fn stage_sum(secret: &StoreSecret, key: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "stage row").bytes(key))
}

fn subject_sum(secret: &StoreSecret, number: i64, name: &[u8]) -> Sum {
    Sum::of(DigestBuilder::keyed(secret, "subject row").number(number as u64).bytes(name))
}

/// Runs queries that see one moment: in a transaction of their own, unless one is open already.
pub(crate) fn of_one_moment<T>(
    connection: &Connection,
    queries: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if connection.is_autocommit() { queries(&*connection.unchecked_transaction()?) } else { queries(connection) }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
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

/// Whether the store is being removed.
pub(crate) fn is_removed(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(get(connection, REMOVED)?.is_some())
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
