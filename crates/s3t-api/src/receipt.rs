//! `receipt show` and `receipt verify`: receipts, read and checked with the public key alone.

use std::fs::File;
use std::path::{Path, PathBuf};

use s3t_core::limits::read_text_at_most;
use s3t_core::spelling::{DIFFERENCES, beside};
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::{Named, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::{SliceAddress, all, texts};
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request to show a receipt, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShowReceiptRequest {
    /// The file.
    pub receipt: PathBuf,
}

/// The answer to `receipt show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptAnswer {
    /// The receipt, unchecked.
    pub receipt: Receipt,
}

/// The request to check a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReceiptRequest {
    /// The file.
    pub receipt: PathBuf,
    /// The store's public key: the line itself, or a file that holds it.
    pub key: String,
    /// Records that the request should name.
    #[serde(default)]
    pub records: Vec<String>,
    /// Subjects that the request should name.
    #[serde(default)]
    pub subjects: Vec<String>,
}

/// The answer to `receipt verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedReceiptAnswer {
    /// The proof.
    pub verified: VerifiedReceipt,
}

plain_answers!(ReceiptAnswer, VerifiedReceiptAnswer);

/// A receipt for a deletion request, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The version of the format.
    pub format: u32,
    /// The id of the request.
    pub request: String,
    /// The key of the commitments: with it, whoever knows a name can see that it is in the request.
    pub opening: Option<String>,
    /// A commitment for each record and subject that the request names.
    pub named: Vec<String>,
    /// The effect of the deletion.
    pub effect: Effect,
    /// The entry that says that the request was accepted.
    pub accepted: Proven,
    /// The entry that says that the deletion took effect, once it is there.
    pub effective: Option<Proven>,
    /// The entry that says that everything was erased, once it is there.
    pub erased: Option<Proven>,
    /// The signed tree head that the paths lead to.
    pub checkpoint: String,
}

/// The effect of a deletion, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// The deletion: predictions see all of it or nothing.
    pub epoch: u64,
    /// Records that the deletion takes.
    pub records: u64,
    /// The slices that they were in.
    pub slices: Vec<SliceAddress>,
    /// The keys of the stages that saw one of them: switched off, then erased.
    pub cut: Vec<String>,
    /// The deepest chain of live stages of each shard that was hit. Other live chains may answer beside it (`serving.members`).
    pub serves: Vec<ShardServes>,
}

/// A chain of stages that a shard serves with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardServes {
    /// The shard.
    pub shard: u32,
    /// The key of the last stage of the chain that answers; `null` if the shard has no live sequence.
    pub stage: Option<String>,
    /// The length of the chain.
    pub depth: usize,
}

/// An entry of the ledger with its audit path to the receipt's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proven {
    /// The index, from 0.
    pub index: u64,
    /// The bytes, as text.
    pub entry: String,
    /// The audit path (RFC 6962, section 2.1.1).
    pub path: Vec<String>,
}

/// The proof of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedReceipt {
    /// The log that signed the receipt.
    pub log: String,
    /// Entries of the log at that time.
    pub entries: u64,
    /// The moment of acceptance, in milliseconds since the start of 1970, UTC.
    pub accepted: u64,
    /// The moment from which no answer used the stages any more.
    pub effective: Option<u64>,
    /// The moment when everything was erased.
    pub erased: Option<u64>,
    /// `true` if the request's id was checked against the log, for which the opening is needed.
    pub request_checked: bool,
}

impl From<s3t_ledger::Proven> for Proven {
    fn from(proven: s3t_ledger::Proven) -> Self {
        Self { index: proven.index, entry: proven.entry, path: texts(proven.path) }
    }
}

impl From<s3t_ledger::ShardServes> for ShardServes {
    fn from(serves: s3t_ledger::ShardServes) -> Self {
        Self { shard: serves.shard.0, stage: serves.stage.as_ref().map(ToString::to_string), depth: serves.depth }
    }
}

impl From<s3t_ledger::Effect> for Effect {
    fn from(effect: s3t_ledger::Effect) -> Self {
        let s3t_ledger::Effect { epoch, records, slices, cut, serves } = effect;
        Self { epoch: epoch.0, records, slices: all(slices), cut: texts(cut), serves: all(serves) }
    }
}

impl From<s3t_ledger::Receipt> for Receipt {
    fn from(receipt: s3t_ledger::Receipt) -> Self {
        Self {
            format: receipt.format,
            request: receipt.request,
            opening: receipt.opening.as_ref().map(ToString::to_string),
            named: texts(receipt.named),
            effect: receipt.effect.into(),
            accepted: receipt.accepted.into(),
            effective: receipt.effective.map(Proven::from),
            erased: receipt.erased.map(Proven::from),
            checkpoint: receipt.checkpoint,
        }
    }
}

impl From<s3t_ledger::VerifiedReceipt> for VerifiedReceipt {
    fn from(verified: s3t_ledger::VerifiedReceipt) -> Self {
        let s3t_ledger::VerifiedReceipt { log, entries, accepted, effective, erased, request_checked } = verified;
        Self { log, entries, accepted, effective, erased, request_checked }
    }
}

/// The most bytes of a receipt, which names some hundred thousand records.
const MAX_RECEIPT_BYTES: u64 = 16 << 20;

/// The most bytes of a checkpoint or key.
const MAX_LINE_BYTES: u64 = 64 << 10;

fn read_text(file: &Path, max: u64) -> Result<String, ApiError> {
    let read = File::open(file).and_then(|opened| read_text_at_most(opened, max));
    read.map_err(|error| ApiError::new(ErrorKind::Refused, format!("cannot read `{}`: {error}", file.display())))
}

/// Reads a checkpoint of a ledger, whoever has signed it.
pub(crate) fn read_checkpoint(file: &Path) -> Result<String, ApiError> {
    let text = read_text(file, MAX_LINE_BYTES)?;
    let refuse = |error| ApiError::new(ErrorKind::Refused, format!("`{}`: {error}", file.display()));
    s3t_ledger::Checkpoint::read(&text).map_err(refuse)?;
    Ok(text)
}

/// Reads a receipt.
pub(crate) fn read_receipt(file: &Path) -> Result<s3t_ledger::Receipt, ApiError> {
    let text = read_text(file, MAX_RECEIPT_BYTES)?;
    let refuse = |error| ApiError::new(ErrorKind::Refused, format!("`{}`: {error}", file.display()));
    s3t_ledger::Receipt::parse(&text).map_err(refuse)
}

/// Reads a public key, from its line or a file that holds the line.
pub(crate) fn read_key(key: &str) -> Result<VerifyingKey, ApiError> {
    let line = if Path::new(key).is_file() { read_text(Path::new(key), MAX_LINE_BYTES)? } else { key.to_owned() };
    Ok(line.parse::<VerifyingKey>()?)
}

/// Shows a receipt, unchecked.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a file that is not a receipt.
pub fn show_receipt(request: &ShowReceiptRequest) -> Result<ReceiptAnswer, ApiError> {
    Ok(ReceiptAnswer { receipt: read_receipt(&request.receipt)?.into() })
}

/// Checks a receipt with nothing but the store's public key.
///
/// # Errors
///
/// [`ErrorKind::DoesNotHold`] if the receipt does not hold, or does not name a record or subject that it should;
/// [`ErrorKind::Refused`] for a file that is not a receipt and a key that cannot be read.
pub fn verify_receipt(request: &VerifyReceiptRequest) -> Result<VerifiedReceiptAnswer, ApiError> {
    let receipt = read_receipt(&request.receipt)?;
    let key = read_key(&request.key)?;
    let records: Vec<RecordId> = request.records.iter().map(RecordId::new).collect::<Result<_, _>>()?;
    let subjects: Vec<SubjectId> = request.subjects.iter().map(SubjectId::new).collect::<Result<_, _>>()?;
    let wrong = |problem: String| ApiError::new(ErrorKind::DoesNotHold, problem);
    let verified = receipt.verify(&key).map_err(|error| wrong(error.to_string()))?;
    for name in records.iter().map(Named::Record).chain(subjects.iter().map(Named::Subject)) {
        if !receipt.names(name).map_err(|error| wrong(error.to_string()))? {
            let other: Vec<String> = receipt
                .opening
                .and_then(|opening| name.spelling_among(|named| receipt.named.contains(named), &opening))
                .into_iter()
                .collect();
            let (shown, list) = beside(name.as_str(), &other);
            let but = if other.is_empty() {
                String::new()
            } else {
                format!(", but {list}, which differs from it only in {DIFFERENCES}")
            };
            return Err(wrong(format!("the request does not name the {} `{shown}`{but}", name.kind())));
        }
    }
    Ok(VerifiedReceiptAnswer { verified: verified.into() })
}
