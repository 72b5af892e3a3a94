//! Deleting: accepted in one transaction, then erased from disk.
//!
//! # Proof note
//!
//! *Before*: a request names records and subjects. *After* [`Store::accept`] returns: the deletion survives any crash, and no
//! [`Snapshot`](crate::Snapshot) holds a stage that saw one of its records. *After* the ledger says that it was erased: the records, their ids'
//! digests, the stages that saw them and the keys that open any copy of these are gone. *Why*: accepting is one transaction that
//! marks the records and removes the stages from the catalogue. Erasing writes the other records of each slice anew under a
//! new key, makes the catalogue point there in one transaction, and only then destroys the old key and removes what the
//! catalogue does not name; then SQLite's log is truncated, and only then does the ledger say so. Every step can be done twice, and
//! opening a store does again what was not finished. Whoever removes a file holds the [`ErasingLock`](crate::store::ErasingLock), so that nobody takes the new
//! file of an erasure that has not committed for a left-over.
//!
//! The opening of a request's commitments is a function of the store's signing key, the request's id and the names in it. So
//! whoever asks for the same again gets the same receipt, before and after the erasure, and another request under the same id is told
//! from it, although the store keeps nothing that names anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, RecordId, ShardId, SliceAddress, SubjectId};
use s3t_ledger::{Effect, Event, Named, Opening, Receipt, commit_request};

use crate::catalogue::{RequestRow, record_id, request_id, slice_address, slice_number, subject_id};
use crate::clock::now;
use crate::{Store, StoreError, random};

/// A request to delete records and subjects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletionRequest {
    /// The request's id: asking for the same again does nothing twice. `None` draws one.
    pub id: Option<String>,
    /// Records.
    pub records: Vec<RecordId>,
    /// Subjects: all of their records.
    pub subjects: Vec<SubjectId>,
}

/// A deletion that can no longer be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The request's id.
    pub request: String,
    /// The effect of the deletion.
    pub effect: Effect,
    /// `true` if the same request was accepted before; then nothing was done now.
    pub repeated: bool,
    /// The key of its commitments.
    pub opening: Opening,
}

impl Store {
    /// Accepts a deletion: once this returns it survives any crash, and no snapshot holds a stage that saw one of the records.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRecord`], [`StoreError::UnknownSubject`], [`StoreError::RequestId`], [`StoreError::OtherRequest`] or
    /// [`StoreError::Io`]; then nothing was accepted.
    pub fn accept(&self, request: &DeletionRequest) -> Result<Accepted, StoreError> {
        let span = tracing::debug_span!("store_accept", epoch = tracing::field::Empty).entered();
        let id = match &request.id {
            Some(id) if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) => {
                return Err(StoreError::RequestId(id.clone()));
            }
            Some(id) => id.clone(),
            None => Digest::from_bytes(random::bytes()?).short(),
        };
        if request.records.is_empty() && request.subjects.is_empty() {
            return Err(StoreError::NothingNamed);
        }
        let short = request_id(&self.secret, &id);
        let opening = self.opening(&id, request);
        let accepted = self.change_to(|change, snapshot| {
            let earlier = change.read(|queries| queries.request(&short))?;
            if let Some(earlier) = earlier {
                // Stores of format 3 drew openings, and kept them until the erasure.
                let openings = earlier.opening.into_iter().chain([opening]);
                let same = |opening: &Opening| same_names(commitments(request, opening), earlier.named.clone());
                let opening = openings.into_iter().find(same).ok_or_else(|| StoreError::OtherRequest(id.clone()))?;
                let again = Accepted { request: id.clone(), effect: earlier.effect, repeated: true, opening };
                return Ok((again, None));
            }
            let epoch = snapshot.epoch().next();
            let mut marked = Vec::new();
            for record in &request.records {
                let of_record = change.mark_record(&record_id(&self.secret, record), epoch)?;
                marked.extend(of_record.ok_or_else(|| StoreError::UnknownRecord(record.clone()))?);
            }
            for subject in &request.subjects {
                let of_subject = change.mark_subject(&subject_id(&self.secret, subject), epoch)?;
                marked.extend(of_subject.ok_or_else(|| StoreError::UnknownSubject(subject.clone()))?);
            }
            // Copies go along, whoever they belong to.
            let groups: BTreeSet<i64> = marked.iter().filter_map(|record| record.copies).collect();
            for group in groups {
                marked.extend(change.mark_copies(group, epoch)?);
            }
            let mut hits: BTreeMap<SliceAddress, u64> = BTreeMap::new();
            for record in &marked {
                *hits.entry(slice_address(self.settings().shape.slices, record.slice)).or_default() += 1;
            }
            for (address, records) in &hits {
                let mut row = change.slice(slice_number(self.settings().shape.slices, *address))?;
                row.records = row.records.saturating_sub(*records);
                row.hit = epoch.0;
                change.set_slice(&row)?;
            }
            let (after, cut) = snapshot.after(epoch, &hits);
            for key in &cut {
                change.remove_stage(key)?;
            }
            let hit_shards: BTreeSet<ShardId> = hits.keys().map(|address| address.shard).collect();
            let effect = Effect {
                epoch,
                records: hits.values().sum(),
                slices: hits.into_keys().collect(),
                cut,
                serves: after.serves(hit_shards),
            };
            let named = commitments(request, &opening);
            let entry = Event::Accepted {
                epoch,
                request: commit_request(&opening, &id),
                named: Receipt::named_digest(&named),
                records: effect.records,
                effect: effect.digest(),
            };
            let accepted = change.append(now(), entry)?;
            change.set("epoch", &epoch.0.to_le_bytes())?;
            let row = RequestRow { opening: Some(opening), named, effect, accepted, effective: None, erased: None };
            change.add_request(&short, &row)?;
            let effect = row.effect;
            // Every snapshot from here on is of after the deletion.
            Ok((Accepted { request: id.clone(), effect, repeated: false, opening }, Some(after)))
        })?;
        span.record("epoch", accepted.effect.epoch.0);
        if !accepted.repeated {
            let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
            effective.insert(accepted.effect.epoch, now());
        }
        Ok(accepted)
    }

    /// The key of a request's commitments: the same for the same names under the same id, in whatever order, and to nobody but
    /// whoever knows both and has the store's signing key.
    fn opening(&self, id: &str, request: &DeletionRequest) -> Opening {
        let mut builder = DigestBuilder::keyed(&self.openings, "opening");
        builder.bytes(id.as_bytes());
        let records: BTreeSet<&str> = request.records.iter().map(RecordId::as_str).collect();
        let subjects: BTreeSet<&str> = request.subjects.iter().map(SubjectId::as_str).collect();
        for names in [records, subjects] {
            builder.number(names.len() as u64);
            for name in names {
                builder.bytes(name.as_bytes());
            }
        }
        Opening::from_bytes(*builder.finish().as_bytes())
    }
}

/// `true` if two lists of commitments are of the same names, in whatever order and however often.
fn same_names(mut one: Vec<Digest>, mut other: Vec<Digest>) -> bool {
    for list in [&mut one, &mut other] {
        list.sort_unstable();
        list.dedup();
    }
    one == other
}

fn commitments(request: &DeletionRequest, opening: &Opening) -> Vec<Digest> {
    let records = request.records.iter().map(|record| Named::Record(record).commit(opening));
    let subjects = request.subjects.iter().map(|subject| Named::Subject(subject).commit(opening));
    records.chain(subjects).collect()
}
