//! The catalogue: an SQLite database of what is where.
//!
//! # Proof note
//!
//! *Before*: a change is made in one transaction. *After* any crash: all of it is there or none. *Why*: SQLite in WAL mode with
//! `synchronous = FULL` syncs the log before a commit returns. What is deleted does not stay in free pages: `secure_delete`
//! writes zeros over it, and an erasure ends with a checkpoint that truncates the log.

mod change;
mod ids;
mod queries;
mod residue;
mod rows;
mod sums;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use s3t_core::StoreSecret;
use s3t_ledger::{Epoch, Hash, SigningKey, root};

use crate::StoreError;
use crate::disk::Disk;
use crate::lock::{CatalogueLock, Holder};

pub(crate) use change::Change;
pub(crate) use ids::{ShortId, record_id, request_id, subject_id};
use queries::Queries;
use queries::REMOVED;
pub(crate) use queries::State;
pub(crate) use rows::{ExportRow, ExportedFile, RecordRow, RequestRow, SliceRow, slice_address, slice_number};
use sums::{FIRST_WITH_CATALOGUE, Sums};

/// The format of the catalogue that this program reads and writes; its migrations bring older ones here.
pub(crate) const FORMAT: u32 = 4;

/// The sleep between two tries to begin a transaction.
const PAUSE: Duration = Duration::from_micros(500);

const FORMAT_3: &str = include_str!("format-3.sql");
const FORMAT_4: &str = include_str!("format-4.sql");

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
    /// The time that a change waits for another process to finish its own.
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
        if found == 0 {
            return Err(StoreError::damaged(&file.shown, "it is empty, or another program's"));
        }
        catalogue.format = FIRST_WITH_CATALOGUE - 1 + found;
        if catalogue.format > FORMAT {
            return Err(StoreError::OtherFormat { path: file.shown.clone(), found: catalogue.format, known: FORMAT });
        }
        Ok(catalogue)
    }

    /// The format that the catalogue has.
    pub(crate) fn format(&self) -> u32 {
        self.format
    }

    /// `true` if the catalogue's requests say how many records they wait for: since format 4.
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

    /// Another connection to the same catalogue.
    pub(crate) fn another(&self) -> Result<Self, StoreError> {
        let file = CatalogueFile { path: self.file.clone(), shown: self.path.clone() };
        Self::open(&file, Arc::clone(&self.disk), false, self.patience)
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

    /// Says that the store is being removed, to whoever has it open: `false`, and nothing is said, if `expected` is not the number of
    /// deletions that were accepted. Once it is said, none is accepted any more.
    pub(crate) fn mark_removed(&self, expected: Option<Epoch>) -> Result<bool, StoreError> {
        let mark = || {
            let transaction = self.begin()?;
            let queries = Queries(&transaction);
            if !queries.is_removed()? {
                let epoch = queries.epoch()?;
                if expected.is_some_and(|expected| epoch != expected) {
                    return Ok(false);
                }
                rows::set(&transaction, REMOVED, &[1])?;
            }
            transaction.commit()?;
            Ok(true)
        };
        mark().map_err(|error| self.failed(error))
    }

    /// `true` if the store is being removed.
    pub(crate) fn is_removed(&self) -> Result<bool, StoreError> {
        self.read(|queries| queries.is_removed())
    }

    /// Holds on to the present state: everything that is read from now on is of this moment.
    pub(crate) fn stay(&self) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute_batch("BEGIN")?;
            Queries(connection).count_entries().map(drop)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, &self.file, error)
    }

    /// Runs a query that reads.
    pub(crate) fn read<T>(&self, query: impl FnOnce(Queries<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        query(Queries(&self.connection)).map_err(|error| self.failed(error))
    }

    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|error| self.failed(error))
    }

    /// Changes whenever another connection has committed.
    pub(crate) fn version(&self) -> Result<i64, StoreError> {
        self.read(|queries| queries.data_version())
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
        let transaction = self.begin().map_err(failed)?;
        if Queries(&transaction).is_removed().map_err(failed)? {
            return Err(StoreError::Removed(path.parent().unwrap_or(&path).into()));
        }
        let sums = Sums::read(&transaction).map_err(failed)?;
        let entries = Queries(&transaction).count_entries().map_err(failed)?;
        let mut open = Change { transaction, path: &path, file: &file, secret, sums, entries, old_entries: entries };
        let result = change(&mut open)?;
        let Change { transaction, sums, entries, old_entries, .. } = open;
        sums.write(&transaction).map_err(failed)?;
        if entries > old_entries {
            let head = root(entries, &|numbers: &[u64]| Queries(&transaction).hashes(numbers))?;
            let checkpoint = signing.sign(entries, &head)?;
            rows::set(&transaction, "checkpoint", checkpoint.as_bytes()).map_err(failed)?;
        }
        disk.before_commit().map_err(StoreError::io("commit to", &path))?;
        transaction.commit().map_err(failed)?;
        disk.after_commit().map_err(StoreError::io("commit to", &path))?;
        Ok(result)
    }

    /// Begins a transaction that writes, waiting for another as long as the patience lasts, and for as long as writing the file anew takes.
    /// SQLite's own wait sleeps for up to 100 ms at a time, which a deletion would feel.
    fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        const BYTES_A_SECOND: f64 = 2e7;
        let anew = std::fs::metadata(&self.file).map_or(0.0, |found| found.len() as f64 / BYTES_A_SECOND);
        let until = Instant::now() + self.patience + Duration::from_secs_f64(anew);
        self.connection.busy_timeout(Duration::ZERO)?;
        let begun = loop {
            match Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate) {
                Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
                begun => break begun,
            }
        };
        self.connection.busy_timeout(self.patience)?;
        begun
    }

    /// Writes the log back into the database and truncates it, so that nothing of the past stays in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Reading`] while another process reads a state from before.
    pub(crate) fn truncate_log(&self) -> Result<(), StoreError> {
        let until = Instant::now() + self.patience;
        // What takes long is done first, while others write.
        self.checkpoint()?;
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
        self.checkpoint()?;
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
        self.write(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|queries| queries.setting(key))
    }

    pub(crate) fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|queries| queries.entry(index))
    }

    pub(crate) fn entries(&self) -> Result<u64, StoreError> {
        self.read(|queries| queries.count_entries())
    }

    /// The number of entries and the checkpoint, of one moment.
    pub(crate) fn head(&self) -> Result<(u64, String), StoreError> {
        self.read(|queries| {
            queries.at_one_moment(|open| {
                let checkpoint = open.setting("checkpoint")?.and_then(|text| String::from_utf8(text).ok());
                Ok((open.count_entries()?, checkpoint.unwrap_or_default()))
            })
        })
    }

    /// The epoch, and that of the newest request, of one moment.
    pub(crate) fn epochs(&self) -> Result<(Epoch, Epoch), StoreError> {
        self.read(|queries| queries.at_one_moment(|open| Ok((open.epoch()?, open.newest_request()?))))
    }

    pub(crate) fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
        Queries(&self.connection).hashes(numbers)
    }

    /// The sums as they are stored, and as the rows give them.
    pub(crate) fn sums(&self, secret: &StoreSecret, with_records: bool) -> Result<(Sums, Sums), StoreError> {
        self.read(|queries| {
            // All of it of one moment.
            queries.at_one_moment(|open| {
                let stored = Sums::read(open.0)?;
                let mut found = Sums::of_rows(open.0, secret, with_records, self.format)?;
                if !with_records {
                    found.records = stored.records;
                }
                Ok((stored, found))
            })
        })
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed))
}
