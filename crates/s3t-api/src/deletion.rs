//! `delete`: forgets records and subjects.

use std::path::PathBuf;

use s3t_core::{RecordId, SubjectId};
use s3t_engine::{Delivered, System};
use s3t_ledger::Receipt;
use s3t_store::DeletionRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::with_store;
use crate::parts::{RemainingExport, Serving, SliceAddress, all, path_text, texts};
use crate::reply::Reply;
use crate::{ApiError, ErrorKind};

/// The request to forget records and subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Ids of records.
    #[serde(default)]
    pub records: Vec<String>,
    /// Subjects, all of whose records go.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// The id of the request, such as a ticket's: the same request under the same id does nothing twice. Nothing that names a person.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The file that the receipt is written to.
    #[serde(default)]
    pub receipt: Option<PathBuf>,
}

/// The answer to `delete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteAnswer {
    /// The deletion.
    pub deletion: Deletion,
    /// The failure after the acceptance, which the deletion survives: a receipt that could not be written, an erasure that is not
    /// finished.
    #[serde(skip)]
    pub unfinished: Option<ApiError>,
    #[serde(skip)]
    undelivered: bool,
}

impl DeleteAnswer {
    /// `true` if a receipt was asked for in a file and not written.
    pub fn is_undelivered(&self) -> bool {
        self.undelivered
    }
}

impl Reply for DeleteAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        self.unfinished.as_ref().map(ApiError::kind)
    }
}

/// The effect of a deletion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deletion {
    /// The id of the request.
    pub request: String,
    /// `true` if the same request was made before: then nothing was done now.
    pub repeated: bool,
    /// The records that are gone.
    pub records: Vec<String>,
    /// The cut in each slice that was hit.
    pub cuts: Vec<Cut>,
    /// Keys of the stages whose files were removed.
    pub erased_stages: Vec<String>,
    /// Slices whose files were written anew.
    pub rewritten_slices: Vec<SliceAddress>,
    /// Names whose other spellings are still there, in a store from before such ids were refused.
    pub other_spellings: Vec<SpellingsLeft>,
    /// Exported adapters of dead stages whose files were removed.
    pub removed_exports: Vec<String>,
    /// Exported adapters of dead stages that could not be removed, or whose folders hold other files.
    pub remaining_exports: Vec<RemainingExport>,
    /// Deletions that the store has accepted, this one included.
    pub epoch: u64,
    /// Seconds until the deletion could no longer be lost.
    pub durable_seconds: f64,
    /// Seconds until no answer used a dead stage.
    pub effective_seconds: f64,
    /// Seconds until the bytes were gone from disk; `null` if they are not yet.
    pub erased_seconds: Option<f64>,
    /// The reason why the erasure is not finished; the deletion stands, and the next command that changes the store finishes it.
    pub pending: Option<PendingErasure>,
}

/// The cut of a deletion in one slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// The slice that was hit.
    pub address: SliceAddress,
    /// The sequences that lost stages: index, depth before, depth after.
    pub shortened: Vec<(usize, usize, usize)>,
    /// The deepest live sequence before, with its depth.
    pub before: Option<Serving>,
    /// The deepest live sequence now, with its depth; `null` if no sequence is left.
    pub after: Option<Serving>,
    /// The sequences and depths that answered for the shard before, by `serving.members`.
    #[serde(default)]
    pub members_before: Vec<Serving>,
    /// The sequences and depths that answer for the shard now; empty if no sequence is left.
    #[serde(default)]
    pub members_after: Vec<Serving>,
}

/// A name whose records were deleted, and other spellings of it whose records were not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpellingsLeft {
    /// `record` or `subject`.
    pub kind: String,
    /// The name, as the request has it.
    pub named: String,
    /// The other spellings.
    pub left: Vec<String>,
}

/// The reason why an erasure is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingErasure {
    /// The reason, with the process that holds the lock.
    pub reason: String,
    /// `true` if the disk failed; otherwise another process has the store in hand, or the store is damaged.
    pub disk_failed: bool,
}

impl From<(s3t_core::Cut, s3t_engine::CutMembers)> for Cut {
    fn from((cut, members): (s3t_core::Cut, s3t_engine::CutMembers)) -> Self {
        let s3t_core::Cut { address, shortened, before, after } = cut;
        let (before, after) = (before.map(Serving::from), after.map(Serving::from));
        let shortened = shortened.iter().map(|one| (one.sequence, one.before, one.after)).collect();
        let (members_before, members_after) = (all(members.before), all(members.after));
        Self { address: address.into(), shortened, before, after, members_before, members_after }
    }
}

impl From<s3t_engine::SpellingsLeft> for SpellingsLeft {
    fn from(left: s3t_engine::SpellingsLeft) -> Self {
        Self { kind: left.kind.to_owned(), named: left.named, left: left.left }
    }
}

impl From<s3t_engine::Deletion> for Deletion {
    fn from(deletion: s3t_engine::Deletion) -> Self {
        Self {
            request: deletion.request,
            repeated: deletion.repeated,
            records: texts(deletion.records),
            cuts: all(deletion.cuts.into_iter().zip(deletion.members)),
            erased_stages: texts(deletion.erased_stages),
            rewritten_slices: all(deletion.rewritten_slices),
            other_spellings: all(deletion.other_spellings),
            removed_exports: deletion.removed_exports.iter().map(|path| path_text(path)).collect(),
            remaining_exports: all(deletion.remaining_exports),
            epoch: deletion.epoch.0,
            durable_seconds: deletion.durable_seconds,
            effective_seconds: deletion.effective_seconds,
            erased_seconds: deletion.erased_seconds,
            pending: deletion
                .pending
                .map(|pending| PendingErasure { reason: pending.reason, disk_failed: pending.disk_failed }),
        }
    }
}

impl Deletion {
    /// The failure of a deletion whose erasure is not finished.
    fn pending_error(&self) -> Option<ApiError> {
        let pending = self.pending.as_ref()?;
        let kind = if pending.disk_failed { ErrorKind::Failed } else { ErrorKind::Store };
        let reason = &pending.reason;
        let problem = format!("deletion {} stands, but its erasure is not finished: {reason}", self.epoch);
        Some(ApiError::new(kind, problem))
    }
}

impl DeleteRequest {
    /// The request with its ids checked.
    fn checked(&self) -> Result<DeletionRequest, ApiError> {
        if self.records.is_empty() && self.subjects.is_empty() {
            return Err(ApiError::new(ErrorKind::Refused, "nothing to delete; name a record or a subject"));
        }
        let records = self.records.iter().map(RecordId::new).collect::<Result<_, _>>()?;
        let subjects = self.subjects.iter().map(SubjectId::new).collect::<Result<_, _>>()?;
        Ok(DeletionRequest { id: self.request_id.clone(), records, subjects })
    }
}

/// Forgets records and subjects: durable, off in every answer, then erased from disk. A receipt's file is made before the request is
/// accepted and filled afterwards.
///
/// # Errors
///
/// [`ErrorKind::Unknown`] for an unknown record or subject, [`ErrorKind::RequestIdTaken`] for the id of another request,
/// [`ErrorKind::Refused`] and [`ErrorKind::Failed`] for a receipt's file that cannot be made: nothing was deleted then. A failure after
/// the acceptance is in [`DeleteAnswer::unfinished`].
pub fn delete(request: &DeleteRequest) -> Result<DeleteAnswer, ApiError> {
    let pipeline = with_store(&request.pipeline)?;
    let Delivered { deletion, delivery, .. } =
        System::fulfil_to_file(pipeline, &request.checked()?, request.receipt.as_deref())?;
    let deletion = Deletion::from(deletion);
    let undelivered = delivery.is_err();
    let unfinished = delivery.err().map(ApiError::from).or_else(|| deletion.pending_error());
    Ok(DeleteAnswer { deletion, unfinished, undelivered })
}

/// Forgets records and subjects of an open system, and gives the receipt. Whoever has delivered it says so with
/// [`System::receipt_delivered`]; until then the store keeps the key to the names in it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
/// # s3t_testkit::write_tiny_model(&model, 4)?;
/// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
/// # let system = s3t_engine::System::create(pipeline, &records, None)?;
/// # system.train(&s3t_engine::Quiet)?;
/// use s3t_core::RecordId;
/// use s3t_store::DeletionRequest;
///
/// let request = DeletionRequest { id: None, records: vec![RecordId::new("record-3")?], subjects: Vec::new() };
/// let (answer, receipt) = s3t_api::delete_in(&system, &request)?;
/// assert_eq!((answer.deletion.records, receipt.effect.records), (vec!["record-3".to_owned()], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`System::fulfil`].
pub fn delete_in(system: &System, request: &DeletionRequest) -> Result<(DeleteAnswer, Receipt), ApiError> {
    let deletion = system.fulfil(request)?;
    let receipt = deletion.receipt.clone();
    let deletion = Deletion::from(deletion);
    let unfinished = deletion.pending_error();
    Ok((DeleteAnswer { deletion, unfinished, undelivered: false }, receipt))
}
