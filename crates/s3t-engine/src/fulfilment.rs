//! Deletion requests: accepted, off in every answer, then erased from disk.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use s3t_core::members::members_of_shard;
use s3t_core::{Availability, Cut, Plan, RecordId, Serving, SliceAddress, StageKey, SubjectId};
use s3t_ledger::{Epoch, Named, Receipt};
use s3t_store::{Accepted, DeletionRequest, Erasure, RemainingExport, StoreError};

use crate::error::EngineError;
use crate::system::System;

/// A name whose records were deleted, and other spellings of it whose records were not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellingsLeft {
    /// `record` or `subject`.
    pub kind: &'static str,
    /// The name, as the request has it.
    pub named: String,
    /// The other spellings.
    pub left: Vec<String>,
}

/// The members of a shard before and after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutMembers {
    /// The sequences and depths that answered for the shard before.
    pub before: Vec<Serving>,
    /// The sequences and depths that answer for the shard now; empty if no sequence is left.
    pub after: Vec<Serving>,
}

/// The effect of a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    /// The request's id.
    pub request: String,
    /// `true` if the same request was made before: then nothing was done now.
    pub repeated: bool,
    /// The records that are gone.
    pub records: Vec<RecordId>,
    /// The cut in each slice that was hit, and the deepest sequence that the shard has now.
    pub cuts: Vec<Cut>,
    /// The members of the shard of each cut.
    pub members: Vec<CutMembers>,
    /// Stages whose files were removed.
    pub erased_stages: Vec<StageKey>,
    /// Slices whose files were written anew.
    pub rewritten_slices: Vec<SliceAddress>,
    /// Names whose other spellings are still there, in a store from before ids that look alike were refused.
    pub other_spellings: Vec<SpellingsLeft>,
    /// Exported adapters of dead stages whose files were removed.
    pub removed_exports: Vec<PathBuf>,
    /// Exported adapters of dead stages that could not be removed, or whose folders hold other files.
    pub remaining_exports: Vec<RemainingExport>,
    /// Deletions that this store has accepted, this deletion included.
    pub epoch: Epoch,
    /// Seconds until the deletion could no longer be lost.
    pub durable_seconds: f64,
    /// Seconds until no answer used a dead stage.
    pub effective_seconds: f64,
    /// Seconds until the bytes were gone from disk; `None` if they are not yet.
    pub erased_seconds: Option<f64>,
    /// The reason why the erasure is not finished; the deletion stands, and the next command that changes the store finishes it.
    pub pending: Option<PendingErasure>,
    /// The proof of all this.
    pub receipt: Receipt,
}

/// The reason why an erasure is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingErasure {
    /// The reason, with the process that holds the lock.
    pub reason: String,
    /// `true` if the disk failed; otherwise another process has the store in hand, or the store is damaged.
    pub disk_failed: bool,
}

impl From<StoreError> for PendingErasure {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), disk_failed: matches!(error, StoreError::Io { .. }) }
    }
}

impl System {
    /// Deletes records and subjects: accepted, off in every answer, then erased from disk.
    ///
    /// # Errors
    ///
    /// As [`fulfil`](Self::fulfil).
    pub fn delete(&self, records: &[RecordId], subjects: &[SubjectId]) -> Result<Deletion, EngineError> {
        self.fulfil(&DeletionRequest { id: None, records: records.to_vec(), subjects: subjects.to_vec() })
    }

    /// Does what a request asks for: accepted, off in every answer, then erased from disk. Asking again under the same id does
    /// nothing twice.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// use s3t_core::SubjectId;
    /// use s3t_store::DeletionRequest;
    ///
    /// let subjects = vec![SubjectId::new("subject-1")?];
    /// let request = DeletionRequest { id: Some("ticket-812".into()), records: Vec::new(), subjects };
    /// let deletion = system.fulfil(&request)?;
    /// assert!(deletion.erased_seconds.is_some());
    ///
    /// // The receipt proves the deletion to whoever has the public key.
    /// let proof = deletion.receipt.verify(&system.store().verifying_key())?;
    /// assert!(proof.erased.is_some());
    /// system.receipt_delivered(&deletion)?;
    ///
    /// // The same request does nothing twice.
    /// assert!(system.fulfil(&request)?.repeated);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown record or subject: nothing is deleted then. [`EngineError::Unfinished`] if the receipt
    /// cannot be made after the request was accepted. What keeps the erasure from being finished is not an error: the deletion
    /// stands, and [`Deletion::pending`] says why.
    pub fn fulfil(&self, request: &DeletionRequest) -> Result<Deletion, EngineError> {
        let start = std::time::Instant::now();
        let before = self.store.snapshot()?;
        let mut availability = before.availability();
        let accepted = self.accept(request)?;
        let durable_seconds = start.elapsed().as_secs_f64();
        let epoch = accepted.effect.epoch;
        let stands = |cause| EngineError::Unfinished { epoch, cause };
        // The next answer looks at the catalogue anyway; so it need not load what is off.
        let snapshot =
            tracing::info_span!("effect", epoch = epoch.0).in_scope(|| self.store.snapshot()).map_err(stands)?;
        let effective_seconds = start.elapsed().as_secs_f64();
        let (erasure, failed) = self.erase_pending();
        let Erasure { slices, stages, records, exports, remaining_exports } = erasure;
        let mut records: Vec<RecordId> =
            records.into_iter().filter(|record| record.epoch == epoch).map(|record| record.id).collect();
        // Where nobody else deleted anything in between, or erased some of it, nothing else is to be forgotten.
        if records.len() as u64 == accepted.effect.records {
            let _ = self.forgotten.compare_exchange(epoch.previous().0, epoch.0, Ordering::Relaxed, Ordering::Relaxed);
        }
        let published = self.store.publish_unless_held();
        let erased_seconds = start.elapsed().as_secs_f64();
        let now = self.store.snapshot().unwrap_or(snapshot);
        let pending = failed.filter(|_| now.unerased().contains(&epoch)).map(PendingErasure::from);
        let hits = accepted.effect.slices.iter().filter(|_| !accepted.repeated);
        // Where the deletion emptied a slice, a sequence that is passed over there may serve the same stages under a lower number.
        let left = now.availability();
        let rule = &*self.pipeline.serving.members;
        let cut = |address: &SliceAddress| {
            let index = address.shard.index();
            let of = |plan: &Plan, live: &Availability| members_of_shard(rule, &plan.shards()[index], live);
            let members = CutMembers { before: of(before.plan(), &availability), after: of(now.plan(), &left) };
            (Cut { after: left.serving(address.shard), ..availability.hit(*address) }, members)
        };
        let (cuts, members) = hits.map(cut).unzip();
        records.sort_unstable();
        let receipt = self.store.receipt(&accepted.request, Some(accepted.opening)).map_err(stands)?;
        published.map_err(stands)?;
        Ok(Deletion {
            receipt,
            request: accepted.request,
            repeated: accepted.repeated,
            records,
            cuts,
            members,
            erased_stages: stages,
            rewritten_slices: slices,
            removed_exports: exports,
            remaining_exports,
            epoch,
            durable_seconds,
            effective_seconds,
            erased_seconds: pending.is_none().then_some(erased_seconds),
            pending,
            other_spellings: if accepted.repeated { Vec::new() } else { self.spellings_left(request) },
        })
    }

    /// Accepts a deletion: when this returns it survives any crash, and no answer that begins from then on uses a stage that saw one
    /// of its records, in whatever process. Its bytes are still on disk until [`erase_pending`](Self::erase_pending).
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown record or subject, an invalid request id or one of another request: nothing is deleted
    /// then.
    pub fn accept(&self, request: &DeletionRequest) -> Result<Accepted, EngineError> {
        let span = tracing::info_span!("accept", epoch = tracing::field::Empty).entered();
        let accepted = self.store.accept(request).map_err(|error| match error {
            StoreError::UnknownRecord(record) => self.store.unknown(Named::Record(&record)),
            StoreError::UnknownSubject(subject) => self.store.unknown(Named::Subject(&subject)),
            error => error,
        })?;
        span.record("epoch", accepted.effect.epoch.0);
        Ok(accepted)
    }

    /// Erases the accepted deletions from disk, and from what this process remembers of their records. Gives what was erased, and the
    /// failure that kept the rest: those deletions stay in effect, and the next erasure finishes them.
    pub fn erase_pending(&self) -> (Erasure, Option<StoreError>) {
        let span =
            tracing::info_span!("erase", stages = tracing::field::Empty, finished = tracing::field::Empty).entered();
        let (erasure, failed) = self.store.erase_pending();
        span.record("stages", erasure.stages.len()).record("finished", failed.is_none());
        if failed.is_some() {
            // Which records were erased all the same is not known.
            self.executing.forget_all();
        }
        let digests: Vec<_> = erasure.records.iter().map(|record| record.digest).collect();
        self.executing.forget(&digests);
        self.forget_dead_members();
        (erasure, failed)
    }

    /// The other spellings of a request's names that are still there. Only a store from before ids that look alike were refused can
    /// have any; such a store is looked through until no id in it looks like another.
    fn spellings_left(&self, request: &DeletionRequest) -> Vec<SpellingsLeft> {
        // `check` and `audit` tell of files that cannot be read; the deletion was done all the same.
        if !matches!(self.store.ids_are_distinct(), Ok(false)) {
            return Vec::new();
        }
        let records = request.records.iter().map(Named::Record);
        let names: Vec<Named<'_>> = records.chain(request.subjects.iter().map(Named::Subject)).collect();
        let left = self.store.other_spellings(&names).unwrap_or_default();
        if self.store.confusable_ids().is_ok_and(|groups| groups.is_empty()) {
            let _ = self.store.note_distinct_ids();
        }
        let named = names.iter().zip(left).filter(|(_, left)| !left.is_empty());
        let named =
            named.map(|(name, left)| SpellingsLeft { kind: name.kind(), named: name.as_str().to_owned(), left });
        named.collect()
    }

    /// Says that the receipt of a deletion is in somebody's hands: the store forgets the key to the names in it. Asking for the
    /// same again gives the receipt again.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unfinished`] if the catalogue cannot be changed; then the key stays until the next time.
    pub fn receipt_delivered(&self, deletion: &Deletion) -> Result<(), EngineError> {
        let failed = |cause| EngineError::Unfinished { epoch: deletion.epoch, cause };
        self.store.forget_opening(&deletion.request).map_err(failed)
    }
}
