//! Everything that changes the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use s3t_core::{StageKey, StoreSecret};
use s3t_ledger::{Entry, Epoch, Event, Timestamp, new_hashes};

use super::ids::ShortId;
use super::queries::Queries;
use super::rows::{ExportRow, ExportedFile, Marked, RecordRow, RequestRow, SliceRow, path_bytes, set, to_json};
use super::sums::{EXPORTS, REQUESTS, Sums, Table, setting_sum, stage_sum, subject_sum};
use crate::StoreError;

/// A change while it is made.
pub(crate) struct Change<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) path: &'a Path,
    pub(super) file: &'a Path,
    pub(super) secret: &'a StoreSecret,
    pub(super) sums: Sums,
    pub(super) entries: u64,
    pub(super) old_entries: u64,
}

impl Change<'_> {
    /// The path of the catalogue, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Reads the catalogue as it is with the change so far.
    pub(crate) fn read<T>(&self, query: impl FnOnce(Queries<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        query(Queries(&self.transaction)).map_err(|error| self.failed(error))
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(self.path, self.file, error)
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.read(|queries| queries.setting(key))? {
            self.sums.small.subtract(&setting_sum(self.secret, key, &old));
        }
        self.sums.small.add(&setting_sum(self.secret, key, value));
        self.run(|connection| set(connection, key, value))
    }

    /// Adds an entry to the ledger and gives its index.
    pub(crate) fn append(&mut self, at: Timestamp, event: Event) -> Result<u64, StoreError> {
        let index = self.entries;
        let bytes = Entry { at, event }.to_bytes()?;
        let (first, hashes) = new_hashes(index, &bytes, &|numbers: &[u64]| Queries(&self.transaction).hashes(numbers))?;
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
        let row = self.read(|queries| queries.slice(number))?;
        row.ok_or_else(|| StoreError::damaged(self.path, "slices are missing"))
    }

    /// Writes the row of a slice.
    pub(crate) fn set_slice(&mut self, row: &SliceRow) -> Result<(), StoreError> {
        if let Some(old) = self.read(|queries| queries.slice(row.number))? {
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
    fn touch<T>(
        &mut self,
        table: Table,
        key: i64,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let secret = self.secret;
        let (before, done, after) = self.run(|connection| {
            let before = table.sum(connection, secret, &key)?;
            let done = work(connection)?;
            Ok((before, done, table.sum(connection, secret, &key)?))
        })?;
        before.iter().for_each(|sum| self.sums.small.subtract(sum));
        after.iter().for_each(|sum| self.sums.small.add(sum));
        Ok(done)
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
    pub(crate) fn mark_record(&mut self, id: &ShortId, epoch: Epoch) -> Result<Option<Vec<Marked>>, StoreError> {
        self.mark("id", &id.as_slice(), epoch)
    }

    /// Marks the records of a subject; `None` if the subject has none.
    pub(crate) fn mark_subject(&mut self, name: &ShortId, epoch: Epoch) -> Result<Option<Vec<Marked>>, StoreError> {
        let Some(number) = self.read(|queries| queries.subject_number(name))? else { return Ok(None) };
        self.mark("subject", &number, epoch)
    }

    /// Marks the other records of a group of copies.
    pub(crate) fn mark_copies(&mut self, group: i64, epoch: Epoch) -> Result<Vec<Marked>, StoreError> {
        Ok(self.mark("copies", &group, epoch)?.unwrap_or_default())
    }

    /// Marks the records whose `column` has this value.
    fn mark(
        &mut self,
        column: &str,
        value: &dyn rusqlite::ToSql,
        epoch: Epoch,
    ) -> Result<Option<Vec<Marked>>, StoreError> {
        let epoch = epoch.0 as i64;
        let statement = format!(
            "UPDATE records SET dead = ?2 WHERE {column} = ?1 AND dead IS NULL RETURNING id, slice, subject, copies"
        );
        let marked: Vec<(Vec<u8>, RecordRow)> = self.run(|connection| {
            let mut mark = connection.prepare_cached(&statement)?;
            let row = |row: &rusqlite::Row<'_>| {
                let (slice, subject, copies) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok((row.get(0)?, RecordRow { slice, subject, copies, dead: None }))
            };
            mark.query_map(params![value, epoch], row)?.collect()
        })?;
        for (id, row) in &marked {
            self.sums.records.subtract(&row.sum(self.secret, id));
            self.sums.records.add(&RecordRow { dead: Some(epoch), ..*row }.sum(self.secret, id));
        }
        let statement = format!("SELECT DISTINCT dead FROM records WHERE {column} = ? AND dead IS NOT NULL");
        let taken: Vec<i64> = self
            .run(|connection| connection.prepare_cached(&statement)?.query_map([value], |row| row.get(0))?.collect())?;
        // A mark of no deletion was set from outside: the record would be passed over.
        for other in taken.iter().filter(|other| **other != epoch) {
            self.waiting(Epoch(*other as u64))?;
        }
        if !marked.is_empty() {
            let marked = marked.into_iter().map(|(_, row)| Marked { slice: row.slice as u64, copies: row.copies });
            return Ok(Some(marked.collect()));
        }
        Ok(taken.contains(&epoch).then(Vec::new))
    }

    /// The number of records of a deletion that are not erased yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if there is no such deletion, or it was erased: then somebody changed a mark.
    pub(crate) fn waiting(&self, epoch: Epoch) -> Result<u64, StoreError> {
        let waiting = self.read(|queries| queries.waiting(epoch))?;
        let problem = || format!("a record is marked by deletion {epoch}, which is not waiting to be erased");
        waiting.ok_or_else(|| StoreError::damaged(self.path, problem()))
    }

    /// Removes dead records of a slice, and the subjects that have none left; gives the names of these.
    pub(crate) fn remove_records(&mut self, ids: &[ShortId]) -> Result<Vec<Vec<u8>>, StoreError> {
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
            let left = self.waiting(Epoch(epoch as u64))?.checked_sub(records);
            let problem = || format!("deletion {epoch} takes fewer records than are marked by it");
            let left = left.ok_or_else(|| StoreError::damaged(self.path, problem()))?;
            self.touch(REQUESTS, epoch, |connection| {
                let statement = "UPDATE requests SET waiting = ?2 WHERE epoch = ?1";
                connection.prepare_cached(statement)?.execute(params![epoch, left as i64]).map(drop)
            })?;
        }
        let mut names = Vec::new();
        for subject in subjects {
            let name: Option<Vec<u8>> = self.run(|connection| {
                let statement = "DELETE FROM subjects WHERE number = ?1
                                 AND NOT EXISTS (SELECT 1 FROM records WHERE subject = ?1) RETURNING name";
                connection.prepare_cached(statement)?.query_row([subject], |row| row.get(0)).optional()
            })?;
            if let Some(name) = name {
                self.sums.records.subtract(&subject_sum(self.secret, subject, &name));
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Compares the marks of the records with the deletions that are waiting to be erased.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a mark was set, taken back or changed from outside: nothing may be erased by it, and nothing
    /// be called erased.
    pub(crate) fn check_marks(&self) -> Result<(), StoreError> {
        let wrong = self.read(|queries| queries.wrong_marks())?;
        wrong.map_or(Ok(()), |problem| Err(StoreError::damaged(self.path, problem)))
    }

    /// Adds a request that waits for all of its records to be erased.
    pub(crate) fn add_request(&mut self, id: &ShortId, row: &RequestRow) -> Result<(), StoreError> {
        let epoch = row.effect.epoch.0 as i64;
        self.touch(REQUESTS, epoch, |connection| {
            let statement = "INSERT INTO requests (epoch, id, opening, named, effect, accepted, waiting)
                             VALUES (?, ?, ?, ?, ?, ?, ?)";
            let named: Vec<u8> = row.named.iter().flat_map(|named| *named.as_bytes()).collect();
            let values = params![
                epoch,
                id.as_slice(),
                row.opening.as_ref().map(|opening| opening.as_bytes().as_slice()),
                named,
                to_json(&row.effect)?,
                row.accepted as i64,
                row.effect.records as i64,
            ];
            connection.prepare_cached(statement)?.execute(values).map(drop)
        })
    }

    /// Writes down the ledger entries that say that a deletion took effect and was erased.
    pub(crate) fn finish_request(&mut self, epoch: Epoch, effective: u64, erased: u64) -> Result<(), StoreError> {
        let epoch = epoch.0 as i64;
        self.touch(REQUESTS, epoch, |connection| {
            let statement = "UPDATE requests SET effective = ?2, erased = ?3 WHERE epoch = ?1";
            let values = params![epoch, effective as i64, erased as i64];
            connection.prepare_cached(statement)?.execute(values).map(drop)
        })
    }

    pub(crate) fn forget_opening(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let epoch = epoch.0 as i64;
        self.touch(REQUESTS, epoch, |connection| {
            let mut update = connection.prepare_cached("UPDATE requests SET opening = NULL WHERE epoch = ?")?;
            update.execute([epoch]).map(drop)
        })
    }

    /// Adds an export that is about to be written. Its number is given here.
    pub(crate) fn add_export(&mut self, row: ExportRow) -> Result<ExportRow, StoreError> {
        let number = self.read(|queries| queries.next_export())?;
        self.touch(EXPORTS, number, |connection| {
            let statement = "INSERT INTO exports (number, folder, stages, unfinished) VALUES (?, ?, ?, ?)";
            let unfinished = row.unfinished.as_deref().map(path_bytes);
            let values = params![number, path_bytes(&row.folder), to_json(&row.stages)?, unfinished];
            connection.prepare_cached(statement)?.execute(values).map(drop)
        })?;
        Ok(ExportRow { number, ..row })
    }

    /// Writes down the files of an export that is being written; `false` if its row has been forgotten.
    pub(crate) fn set_export_files(&mut self, row: &ExportRow, files: &[ExportedFile]) -> Result<bool, StoreError> {
        let changed = self.touch(EXPORTS, row.number, |connection| {
            let statement = "UPDATE exports SET files = ? WHERE number = ? AND unfinished IS ?";
            let values = params![to_json(&files)?, row.number, row.unfinished.as_deref().map(path_bytes)];
            connection.prepare_cached(statement)?.execute(values)
        })?;
        Ok(changed > 0)
    }

    /// Writes down that an export has its final name.
    pub(crate) fn finish_export(&mut self, row: &ExportRow) -> Result<(), StoreError> {
        self.touch(EXPORTS, row.number, |connection| {
            let mut update = connection.prepare_cached("UPDATE exports SET unfinished = NULL WHERE number = ?")?;
            update.execute([row.number]).map(drop)
        })
    }

    /// Forgets an export, unless another has its number by now or it has changed.
    pub(crate) fn forget_export(&mut self, row: &ExportRow) -> Result<(), StoreError> {
        self.touch(EXPORTS, row.number, |connection| {
            let statement = "DELETE FROM exports WHERE number = ? AND folder = ? AND stages = ? AND unfinished IS ?";
            let unfinished = row.unfinished.as_deref().map(path_bytes);
            let values = params![row.number, path_bytes(&row.folder), to_json(&row.stages)?, unfinished];
            connection.prepare_cached(statement)?.execute(values).map(drop)
        })
    }
}
