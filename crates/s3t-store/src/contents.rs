//! Records and stages: the files that hold them, read and written.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use s3t_core::record::slice_digest;
use s3t_core::tensors::StageTensors;
use s3t_core::{Digest, Lineage, Record, RecordId, SliceAddress, StageKey, StoreSecret, SubjectId};
use s3t_ledger::Event;
use serde::{Deserialize, Serialize};

use crate::catalogue::{ShortId, record_id, slice_address, subject_id};
use crate::clock::now;
use crate::disk::{Disk, remove, sync_folder, write_atomically, write_new_name};
use crate::folder::Folder;
use crate::names::{Generation, stage_name};
use crate::seal::Seal;
use crate::{Snapshot, Store, StoreError, stage_file};

/// The records of a slice with their digests, by ascending digest.
pub type SliceRecords = Vec<(Digest, Record)>;

impl Store {
    /// The address of a record; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn address(&self, record: &RecordId) -> Result<Option<SliceAddress>, StoreError> {
        let id = record_id(&self.secret, record);
        let found = self.inner().catalogue.read(|queries| queries.slice_of(&id))?;
        Ok(found.map(|number| slice_address(self.settings.shape.slices, number)))
    }

    /// The number of records of a subject.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn records_of(&self, subject: &SubjectId) -> Result<u64, StoreError> {
        let name = subject_id(&self.secret, subject);
        self.inner().catalogue.read(|queries| queries.count_records_of(&name))
    }

    /// The slices that a deletion of these records and subjects would hit, copies included. Names that are not there hit nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn slices_of(
        &self,
        records: &[RecordId],
        subjects: &[SubjectId],
    ) -> Result<BTreeSet<SliceAddress>, StoreError> {
        let numbers = self.inner().catalogue.read(|queries| {
            let mut found = Vec::new();
            for record in records {
                found.extend(queries.slices_where("id", &record_id(&self.secret, record).as_slice())?);
            }
            for subject in subjects {
                if let Some(number) = queries.subject_number(&subject_id(&self.secret, subject))? {
                    found.extend(queries.slices_where("subject", &number)?);
                }
            }
            let groups: BTreeSet<i64> = found.iter().filter_map(|(_, group)| *group).collect();
            for group in groups {
                found.extend(queries.slices_where("copies", &group)?);
            }
            Ok(found)
        })?;
        let address = |(number, _)| slice_address(self.settings.shape.slices, number);
        Ok(numbers.into_iter().map(address).collect())
    }

    /// The number of subjects.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn subjects(&self) -> Result<u64, StoreError> {
        self.inner().catalogue.read(|queries| queries.count_subjects())
    }

    /// The records of a slice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::SliceMismatch`] if they are not those the catalogue names,
    /// [`StoreError::BeingErased`] while some of them are going.
    pub fn records(&self, address: SliceAddress) -> Result<SliceRecords, StoreError> {
        Ok(self.entries_of(address)?.into_iter().map(|entry| (entry.digest, entry.record)).collect())
    }

    /// The records of a slice with what is written beside them.
    pub(crate) fn entries_of(&self, address: SliceAddress) -> Result<Vec<SliceEntry>, StoreError> {
        let snapshot = self.snapshot()?;
        let Some(expected) = snapshot.plan().digests()[address.shard.index()][address.slice.index()] else {
            return Ok(Vec::new());
        };
        if snapshot.is_hit(address) {
            return Err(StoreError::BeingErased(address));
        }
        let entries = match self.read_slice(snapshot.generation(address)) {
            Ok(entries) => entries,
            // Another process may have written the slice anew in the meantime.
            Err(error) => {
                let now = self.snapshot()?;
                if now.generation(address) == snapshot.generation(address) && !now.is_hit(address) {
                    return Err(error);
                }
                return Err(StoreError::BeingErased(address));
            }
        };
        if slice_digest(&self.secret, entries.iter().map(|entry| entry.digest)) != expected {
            return Err(StoreError::SliceMismatch { address });
        }
        Ok(entries)
    }

    /// Reads a stage and checks that its lineage is the one that makes its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingStage`] or [`StoreError::Damaged`].
    pub fn stage(&self, key: &StageKey) -> Result<(Lineage, StageTensors), StoreError> {
        self.while_it_serves(key, |snapshot| self.read_stage(snapshot, key))
    }

    /// The content of a stage's file, unsealed, for whoever serves with it elsewhere. [`parse_stage`](crate::parse_stage) reads it. The
    /// same stage has the same content always.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    pub fn stage_content(&self, key: &StageKey) -> Result<Vec<u8>, StoreError> {
        self.while_it_serves(key, |snapshot| self.open_stage(snapshot, key))
    }

    /// Reads a stage that may serve; one that is erased in the meantime is missing.
    fn while_it_serves<T>(
        &self,
        key: &StageKey,
        read: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let snapshot = self.snapshot()?;
        if !snapshot.has_stage(key) {
            return Err(StoreError::MissingStage(*key));
        }
        match read(&snapshot) {
            // Another process may have erased it in the meantime.
            Err(error) => {
                if self.snapshot()?.has_stage(key) {
                    Err(error)
                } else {
                    Err(StoreError::MissingStage(*key))
                }
            }
            read => read,
        }
    }

    /// Adds a stage that was built; it can serve from then on. May be called from several threads.
    ///
    /// `false` if a deletion has hit it in the meantime: it is not kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn add_stage(&self, lineage: &Lineage, tensors: &StageTensors) -> Result<bool, StoreError> {
        let key = lineage.key();
        let _span = tracing::debug_span!("store_stage", stage = %key).entered();
        let path = self.stage_path(&key);
        let snapshot = self.snapshot()?;
        let Some(slices) = snapshot.generations_of(&key).filter(|_| snapshot.is_live(&key)) else { return Ok(false) };
        let bytes = stage_file::to_bytes(lineage, tensors).map_err(|problem| StoreError::damaged(&path, problem))?;
        let sealed = self.stage_seal(&slices)?.close(&key.to_string(), &bytes)?;
        let is_wanted =
            |snapshot: &Snapshot| snapshot.is_live(&key) && snapshot.generations_of(&key).as_ref() == Some(&slices);
        // Until the stage is in the catalogue or its file is gone; see the proof note of the lock.
        let _adding = self.lock_adding()?;
        if !is_wanted(&*self.snapshot()?) {
            return Ok(false);
        }
        write_atomically(&*self.disk, &self.stages, &stage_name(&key), &sealed)?;
        let is_added = self.change(|change, snapshot| {
            if !is_wanted(snapshot) {
                return Ok(false);
            }
            if change.add_stage(&key)? {
                change.append(now(), Event::Built { stage: key })?;
            }
            Ok(true)
        })?;
        if !is_added {
            // A deletion hit it while it was written.
            remove(&*self.disk, &self.stages, stage_name(&key))?;
            sync_folder(&*self.disk, &self.stages)?;
        }
        Ok(is_added)
    }

    pub(crate) fn read_slice(&self, generation: Generation) -> Result<Vec<SliceEntry>, StoreError> {
        let path = self.slice_path(generation);
        let bytes = match self.records.read(generation.records()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::damaged(&path, "it is not there"));
            }
            read => read.map_err(StoreError::not_opened("read", &path, &path))?,
        };
        let content = self.slice_seal(generation)?.open(&generation.records(), &bytes);
        let content = content.map_err(|problem| StoreError::damaged(&path, problem))?;
        postcard::from_bytes(&content).map_err(|error| StoreError::damaged(&path, error.to_string()))
    }

    /// Writes a slice. The caller syncs the folder.
    pub(crate) fn write_slice(&self, generation: Generation, records: &[SliceEntry]) -> Result<(), StoreError> {
        write_slice(&*self.disk, &self.records, &self.slice_seal(generation)?, generation, records)
    }

    fn read_stage(&self, snapshot: &Snapshot, key: &StageKey) -> Result<(Lineage, StageTensors), StoreError> {
        let path = self.stage_path(key);
        let read = stage_file::from_bytes(&self.open_stage(snapshot, key)?);
        let (lineage, tensors) = read.map_err(|problem| StoreError::damaged(&path, problem))?;
        if lineage.key() != *key {
            return Err(StoreError::damaged(&path, "its lineage makes another key"));
        }
        Ok((lineage, tensors))
    }

    /// The content of a stage's file.
    fn open_stage(&self, snapshot: &Snapshot, key: &StageKey) -> Result<Vec<u8>, StoreError> {
        let path = self.stage_path(key);
        let slices = snapshot.generations_of(key).ok_or(StoreError::MissingStage(*key))?;
        let bytes = match self.stages.read(stage_name(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::MissingStage(*key)),
            read => read.map_err(StoreError::not_opened("read", &path, &path))?,
        };
        let content = self.stage_seal(&slices)?.open(&key.to_string(), &bytes);
        content.map_err(|problem| StoreError::damaged(&path, problem))
    }

    fn slice_seal(&self, generation: Generation) -> Result<Seal, StoreError> {
        if self.encrypt { self.keys.slice(generation) } else { Ok(Seal::Plain(self.secret.clone())) }
    }

    fn stage_seal(&self, slices: &[Generation]) -> Result<Seal, StoreError> {
        if self.encrypt { self.keys.stage(slices) } else { Ok(Seal::Plain(self.secret.clone())) }
    }

    pub(crate) fn slice_path(&self, generation: Generation) -> PathBuf {
        self.records.path_of(generation.records())
    }

    pub(crate) fn stage_path(&self, key: &StageKey) -> PathBuf {
        self.stages.path_of(stage_name(key))
    }
}

pub(crate) fn write_slice(
    disk: &dyn Disk,
    folder: &Folder,
    seal: &Seal,
    generation: Generation,
    records: &[SliceEntry],
) -> Result<(), StoreError> {
    let name = generation.records();
    let damaged = |error: postcard::Error| StoreError::damaged(&folder.path_of(&name), error.to_string());
    let content = postcard::to_stdvec(records).map_err(damaged)?;
    write_new_name(disk, folder, &name, &seal.close(&name, &content)?)
}

/// A record as its slice's file has it: what follows from it is written beside it, under the same seal, so that it need not be
/// computed again for every other record when one is erased.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SliceEntry {
    #[serde(with = "bytes_of_digest")]
    pub(crate) digest: Digest,
    pub(crate) id: ShortId,
    pub(crate) record: Record,
}

/// A digest as 32 bytes; as text, which it is elsewhere, it would be twice as long.
mod bytes_of_digest {
    use s3t_core::Digest;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        digest.as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(Digest::from_bytes)
    }
}

impl SliceEntry {
    pub(crate) fn new(record: &Record, secret: &StoreSecret) -> Self {
        Self { digest: record.digest(secret), id: record_id(secret, &record.id), record: record.clone() }
    }

    /// `true` if what is written beside the record follows from it.
    pub(crate) fn is_sound(&self, secret: &StoreSecret) -> bool {
        self.digest == self.record.digest(secret) && self.id == record_id(secret, &self.record.id)
    }
}
