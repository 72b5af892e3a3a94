//! The server's own database: deletion requests with their states, and the callbacks that go out.
//!
//! The store knows a request by a keyed hash of its id only, and forgets the names in it. This database has the ids as callers
//! gave them, so that states can be asked for and listed. It has the names in a request only while the request waits to be
//! accepted, and overwrites them with zeros then.

mod depths;
mod followers;
mod outbox;
mod row;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use rusqlite_migration::{M, Migrations};
use s3t_core::{RecordId, SubjectId};

pub(crate) use depths::Depth;
pub(crate) use followers::FollowerRow;
pub(crate) use outbox::{Delivery, Outgoing};
pub(crate) use row::{Counts, Names, NewRow, Origin, Phase, Row};

use crate::ServerError;
use crate::random::random_bytes;
use crate::token_file::make_private_folder;

const SCHEMA: &str = "
CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    caller TEXT NOT NULL,
    origin TEXT NOT NULL,
    content BLOB NOT NULL,
    names TEXT,
    due INTEGER,
    run_at INTEGER,
    received INTEGER NOT NULL,
    phase TEXT NOT NULL,
    epoch INTEGER,
    records INTEGER,
    effective INTEGER,
    erased INTEGER,
    callbacks TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX requests_by_phase ON requests (phase);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL,
    url TEXT NOT NULL,
    body BLOB NOT NULL,
    signature TEXT NOT NULL,
    made INTEGER NOT NULL,
    next INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting'
) STRICT;
CREATE INDEX outbox_by_state ON outbox (state, next);
CREATE TABLE depths (hour INTEGER PRIMARY KEY, served INTEGER NOT NULL, planned INTEGER NOT NULL) STRICT;
";

/// The time for which a change waits for another process that has the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database of a server.
#[derive(Debug)]
pub(crate) struct Requests {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Locked as long as this server has the folder.
    _lock: File,
    /// `true` if names may be in the log of the database that are in it no more.
    uncut: AtomicBool,
    /// `true` if pieces of names may be left between the rows.
    unswept: AtomicBool,
    /// Keys the hashes of contents.
    key: [u8; 32],
}

/// The outcome of putting in a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Put {
    /// It is new.
    New(Row),
    /// The same request was put in before.
    Same(Row),
    /// Another request has the id.
    Other,
}

impl Requests {
    pub(crate) fn open(folder: &Path) -> Result<Self, ServerError> {
        make_private_folder(folder)?;
        let lock = lock(folder)?;
        let path = folder.join("server.db");
        let failed = |source| ServerError::Database { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mode).map_err(ServerError::file("protect", &path))?;
        }
        let prepare = |connection: &Connection| {
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "secure_delete", true)?;
            // A copy of the database on its way to being written anew is in no file.
            connection.pragma_update(None, "temp_store", "memory")?;
            connection.busy_timeout(PATIENCE)
        };
        prepare(&connection).map_err(failed)?;
        let migrated = Migrations::new(vec![M::up(SCHEMA), M::up(followers::SCHEMA)]).to_latest(&mut connection);
        migrated.map_err(|error| ServerError::content(&path, error.to_string()))?;
        let key = key_of(&mut connection, &path)?;
        // A server before this one may have been killed between a change and the end of the log.
        let [uncut, unswept] = [true; 2].map(AtomicBool::new);
        Ok(Self { path, connection: Mutex::new(connection), _lock: lock, uncut, unswept, key })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Every change is a transaction, so that a panic leaves nothing half done.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> ServerError + '_ {
        |source| ServerError::Database { path: self.path.clone(), source }
    }

    /// The hash by which the same content is known again: the names as sets, in whatever order.
    pub(crate) fn content(&self, names: &Names) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let records: std::collections::BTreeSet<&str> = names.records.iter().map(RecordId::as_str).collect();
        let subjects: std::collections::BTreeSet<&str> = names.subjects.iter().map(SubjectId::as_str).collect();
        for set in [records, subjects] {
            hasher.update(&(set.len() as u64).to_le_bytes());
            for name in set {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Puts in a request. One that waits is on disk for good when this returns; of one that the store has accepted, the store
    /// itself is the record.
    pub(crate) fn put(&self, new: &NewRow, outgoing: &[Outgoing]) -> Result<Put, ServerError> {
        let content = self.content(&new.names);
        let mut connection = self.connection();
        let mut put = || -> rusqlite::Result<Put> {
            let lasting = if new.phase.waits() || !outgoing.is_empty() { "full" } else { "normal" };
            connection.pragma_update(None, "synchronous", lasting)?;
            let open = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if let Some((row, theirs)) = row::with_content(&open, &new.id)? {
                return Ok(if theirs == content { Put::Same(row) } else { Put::Other });
            }
            row::insert(&open, new, &content)?;
            outbox::insert(&open, &new.id, outgoing, new.received)?;
            let row = row::get(&open, &new.id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            open.commit()?;
            Ok(Put::New(row))
        };
        put().map_err(self.failed())
    }

    /// The request of an id, if it is the same or another.
    pub(crate) fn look_up(&self, id: &str, names: &Names) -> Result<Option<Put>, ServerError> {
        let found = row::with_content(&self.connection(), id).map_err(self.failed())?;
        let content = self.content(names);
        Ok(found.map(|(row, theirs)| if theirs == content { Put::Same(row) } else { Put::Other }))
    }

    pub(crate) fn row(&self, id: &str) -> Result<Option<Row>, ServerError> {
        row::get(&self.connection(), id).map_err(self.failed())
    }

    /// The names in a request that waits.
    pub(crate) fn names(&self, id: &str) -> Result<Option<Names>, ServerError> {
        let read = |row: &rusqlite::Row<'_>| row.get::<_, Option<String>>(0);
        let query = |connection: &Connection| {
            connection.query_row("SELECT names FROM requests WHERE id = ?", [id], read).optional()
        };
        let text = query(&self.connection()).map_err(self.failed())?.flatten();
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| ServerError::content(&self.path, format!("the names of a request: {error}")))
    }

    /// Leaves only these of the names of a request that waits: what the store is about to be asked for, on disk for good when this returns.
    pub(crate) fn narrow(&self, id: &str, names: &Names) -> Result<(), ServerError> {
        let text = serde_json::to_string(names).map_err(|error| ServerError::content(&self.path, error.to_string()))?;
        let connection = self.connection();
        let narrowed = connection.pragma_update(None, "synchronous", "full").and_then(|()| {
            connection.execute("UPDATE requests SET names = ?2 WHERE id = ?1 AND names IS NOT NULL", [id, &text])
        });
        narrowed.map(drop).map_err(self.failed())
    }

    /// Moves a request to another phase, and queues its callbacks in the same transaction. The names go with the first phase.
    pub(crate) fn advance(&self, row: &Row, outgoing: &[Outgoing], at: i64) -> Result<(), ServerError> {
        let mut connection = self.connection();
        let mut change = || -> rusqlite::Result<()> {
            connection.pragma_update(None, "synchronous", if outgoing.is_empty() { "normal" } else { "full" })?;
            let open = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let has_names = "SELECT names IS NOT NULL FROM requests WHERE id = ?";
            let has_names = open.prepare_cached(has_names)?.query_row([&row.id], |row| row.get(0)).optional()?;
            let statement =
                "UPDATE requests SET phase = ?2, epoch = ?3, records = ?4, effective = ?5, erased = ?6, names = NULL
                             WHERE id = ?1";
            open.prepare_cached(statement)?.execute(params![
                row.id,
                row.phase.name(),
                row.epoch.map(|epoch| epoch.0 as i64),
                row.records.map(|records| records as i64),
                row.effective,
                row.erased,
            ])?;
            outbox::insert(&open, &row.id, outgoing, at)?;
            open.commit()?;
            // The names are in the log of the database too, until it is cut off.
            self.uncut.fetch_or(has_names == Some(true), Ordering::Relaxed);
            self.unswept.fetch_or(has_names == Some(true), Ordering::Relaxed);
            Ok(())
        };
        change().map_err(self.failed())?;
        drop(connection);
        self.cut_log().map(drop)
    }

    /// Leaves nothing of names that are gone: `false` as long as another process reads the database. Deleted names are written over where
    /// they were, but SQLite moves rows about, and the gaps between them keep what was there: so every page is written anew.
    pub(crate) fn sweep(&self) -> Result<bool, ServerError> {
        // Names that go from here on are for the next time.
        if self.unswept.swap(false, Ordering::Relaxed) {
            let swept = self.connection().execute_batch("VACUUM");
            self.uncut.store(true, Ordering::Relaxed);
            if let Err(error) = swept {
                self.unswept.store(true, Ordering::Relaxed);
                let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
                return if is_busy { Ok(false) } else { Err(self.failed()(error)) };
            }
        }
        self.cut_log()
    }

    /// Cuts the log of the database off where names may be left in it: `false` as long as another process reads the database.
    pub(crate) fn cut_log(&self) -> Result<bool, ServerError> {
        if !self.uncut.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let connection = self.connection();
        // SQLite would keep every request waiting while it waits for a reader; so it does not wait, and is asked again.
        connection.busy_timeout(Duration::ZERO).map_err(self.failed())?;
        let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        connection.busy_timeout(PATIENCE).map_err(self.failed())?;
        let is_cut = match busy {
            Ok(busy) => !busy,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => false,
            Err(error) => return Err(self.failed()(error)),
        };
        self.uncut.store(!is_cut, Ordering::Relaxed);
        Ok(is_cut)
    }

    /// Holds a request that waits, until `run_at` at the latest. The names stay.
    pub(crate) fn hold(&self, id: &str, run_at: Option<i64>) -> Result<(), ServerError> {
        let statement = "UPDATE requests SET phase = 'held', run_at = ?2 WHERE id = ?1 AND phase = 'queued'";
        let held = self.connection().execute(statement, params![id, run_at]);
        held.map(drop).map_err(self.failed())
    }

    /// The requests in a phase, oldest first.
    pub(crate) fn in_phase(&self, phase: Phase) -> Result<Vec<Row>, ServerError> {
        row::of_phase(&self.connection(), phase).map_err(self.failed())
    }

    /// The newest requests before a number, newest first, of one caller or of all; `search` is a part of an id.
    pub(crate) fn list(
        &self,
        caller: Option<&str>,
        search: &str,
        before: i64,
        most: u32,
    ) -> Result<Vec<Row>, ServerError> {
        row::list(&self.connection(), caller, search, before, most).map_err(self.failed())
    }

    /// The moment at which the next request that waits is to be done.
    pub(crate) fn next_run(&self) -> Result<Option<i64>, ServerError> {
        let statement = "SELECT min(coalesce(run_at, 0)) FROM requests WHERE phase = 'queued'";
        let found = self.connection().query_row(statement, [], |row| row.get(0));
        found.map_err(self.failed())
    }

    pub(crate) fn counts(&self) -> Result<Counts, ServerError> {
        row::counts(&self.connection()).map_err(self.failed())
    }

    /// Notes the depth of the system in an hour.
    pub(crate) fn note_depth(&self, depth: Depth) -> Result<(), ServerError> {
        depths::note(&self.connection(), depth).map_err(self.failed())
    }

    /// The depths of the system from an hour on, oldest first.
    pub(crate) fn depths(&self, since: i64) -> Result<Vec<Depth>, ServerError> {
        depths::since(&self.connection(), since).map_err(self.failed())
    }

    /// The callbacks that are due.
    pub(crate) fn due_callbacks(&self, now: i64, most: u32) -> Result<Vec<Delivery>, ServerError> {
        outbox::due(&self.connection(), now, most).map_err(self.failed())
    }

    /// Notes an attempt to deliver a callback: delivered, or to be tried again, or given up.
    pub(crate) fn attempted(&self, delivery: &Delivery, delivered: bool, now: i64) -> Result<(), ServerError> {
        outbox::attempted(&self.connection(), delivery, delivered, now).map_err(self.failed())
    }

    /// The followers that may have a lease.
    pub(crate) fn followers(&self) -> Result<Vec<FollowerRow>, ServerError> {
        followers::all(&self.connection()).map_err(self.failed())
    }

    /// Notes that a follower has confirmed an epoch and gets another lease; a new follower is on disk for good when this returns.
    pub(crate) fn renew_follower(&self, follower: &FollowerRow) -> Result<(), ServerError> {
        followers::renew(&self.connection(), follower).map_err(self.failed())
    }

    /// Forgets a follower, unless it was renewed since this row was read.
    pub(crate) fn remove_follower(&self, follower: &FollowerRow) -> Result<(), ServerError> {
        followers::remove(&self.connection(), follower).map_err(self.failed())
    }
}

/// Takes a folder for one server: two would each do what waits in it.
fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join("server.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(ServerError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let problem =
                "another server has it; end that one, or give this one a folder of its own with `server.data`";
            Err(ServerError::content(folder, problem))
        }
        Err(TryLockError::Error(error)) => Err(ServerError::file("lock", &path)(error)),
    }
}

/// The key for hashes of contents, made with the database.
fn key_of(connection: &mut Connection, path: &Path) -> Result<[u8; 32], ServerError> {
    let failed = |source| ServerError::Database { path: path.into(), source };
    let fresh = random_bytes::<32>()?;
    let statement = "INSERT INTO settings (key, value) VALUES ('content key', ?) ON CONFLICT DO NOTHING";
    connection.execute(statement, [fresh.as_slice()]).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    let key = connection.query_row("SELECT value FROM settings WHERE key = 'content key'", [], read).map_err(failed)?;
    key.try_into().map_err(|_| ServerError::content(path, "its key does not have 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(id: &str, subjects: &[&str]) -> NewRow {
        let subjects = subjects.iter().map(|name| SubjectId::new(*name).unwrap()).collect();
        NewRow {
            id: id.into(),
            caller: "token".into(),
            origin: Origin::Api,
            names: Names { records: vec![], subjects },
            due: None,
            run_at: Some(5),
            received: 1,
            phase: Phase::Queued,
            epoch: None,
            records: None,
            effective: None,
            callbacks: vec![],
        }
    }

    #[test]
    fn the_same_request_is_known_again_and_names_go_when_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::open(&folder.path().join("data")).unwrap();
        let Put::New(row) = requests.put(&new("ticket-1", &["anna-the-first", "bob"]), &[]).unwrap() else { panic!() };
        let again = requests.put(&new("ticket-1", &["bob", "anna-the-first", "bob"]), &[]).unwrap();
        assert_eq!(again, Put::Same(row.clone()));
        assert_eq!(requests.put(&new("ticket-1", &["bob"]), &[]).unwrap(), Put::Other);
        assert_eq!(requests.next_run().unwrap(), Some(5));
        assert_eq!(requests.names("ticket-1").unwrap().unwrap().subjects.len(), 2);

        let done = Row {
            phase: Phase::InEffect,
            epoch: Some(s3t_ledger::Epoch(3)),
            records: Some(2),
            effective: Some(9),
            ..row
        };
        requests
            .advance(&done, &[Outgoing { url: "https://a".into(), body: b"x".into(), signature: "s".into() }], 9)
            .unwrap();
        assert_eq!(requests.row("ticket-1").unwrap().unwrap(), done);
        assert!(requests.names("ticket-1").unwrap().is_none() && requests.next_run().unwrap().is_none());
        assert_eq!(
            requests.counts().unwrap(),
            Counts { in_effect: 1, callbacks: 1, oldest: Some(9), ..Counts::default() }
        );
        // The names are in no byte of the database or of its log.
        for name in ["server.db", "server.db-wal"] {
            let bytes = std::fs::read(requests.path.with_file_name(name)).unwrap();
            assert!(!bytes.windows(14).any(|part| part == b"anna-the-first"), "{name}");
        }
        // Another process finds everything.
        drop(requests);
        let requests = Requests::open(&folder.path().join("data")).unwrap();
        assert!(matches!(requests.put(&new("ticket-1", &["anna-the-first", "bob"]), &[]).unwrap(), Put::Same(_)));
    }

    #[test]
    fn callbacks_are_tried_again_with_the_same_bytes_until_they_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::open(folder.path()).unwrap();
        let outgoing = [Outgoing { url: "https://a".into(), body: b"body".into(), signature: "s".into() }];
        requests.put(&new("one", &["a"]), &outgoing).unwrap();
        let (mut now, mut tries) = (1, 0);
        loop {
            let due = requests.due_callbacks(now, 10).unwrap();
            if let [delivery] = &due[..] {
                assert_eq!((&*delivery.body, delivery.attempts), (b"body".as_slice(), tries));
                requests.attempted(delivery, false, now).unwrap();
                tries += 1;
                if tries == 16 {
                    // Weeks later.
                    tries = outbox::MAX_ATTEMPTS - 1;
                    let statement = "UPDATE outbox SET attempts = ?";
                    requests.connection().execute(statement, [tries]).unwrap();
                }
                assert!(requests.due_callbacks(now, 10).unwrap().is_empty(), "not at once");
            }
            if requests.counts().unwrap().callbacks == 0 {
                break;
            }
            now += outbox::MAX_WAIT_MS;
        }
        assert_eq!((tries, requests.counts().unwrap().undelivered), (outbox::MAX_ATTEMPTS, 1));
        requests.put(&new("two", &["a"]), &outgoing).unwrap();
        let due = requests.due_callbacks(now, 10).unwrap();
        requests.attempted(&due[0], true, now).unwrap();
        assert_eq!((requests.counts().unwrap().callbacks, requests.counts().unwrap().undelivered), (0, 1));
    }

    #[test]
    fn callbacks_to_receivers_that_do_not_answer_keep_none_of_the_others_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::open(folder.path()).unwrap();
        let to = |url: &str| [Outgoing { url: url.into(), body: b"body".into(), signature: "s".into() }];
        for number in 0..40 {
            requests.put(&new(&format!("dead-{number}"), &["a"]), &to("https://dead")).unwrap();
        }
        for delivery in requests.due_callbacks(1, 40).unwrap() {
            requests.attempted(&delivery, false, 1).unwrap();
        }
        requests.put(&new("alive", &["a"]), &to("https://alive")).unwrap();
        let due = requests.due_callbacks(outbox::MAX_WAIT_MS, 32).unwrap();
        assert_eq!((due.len(), &*due[0].url), (32, "https://alive"));
        // Of those that wait again, the one that was due first.
        requests.attempted(&due[1], false, 5000).unwrap();
        let again = requests.due_callbacks(outbox::MAX_WAIT_MS, 100).unwrap();
        assert_eq!((again.len(), again[40].attempts), (41, 2));
    }
}
