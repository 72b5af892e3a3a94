//! Requests that were accepted: how far they are, and their receipts.

use std::collections::HashSet;

use s3t_ledger::{Epoch, Opening, Proven, Receipt, Timestamp, inclusion_proof};

use crate::catalogue::{RequestRow, request_id};
use crate::{Store, StoreError};

/// A deletion that is accepted and in effect, and not erased yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDeletion {
    /// The deletion.
    pub epoch: Epoch,
    /// The records that it takes.
    pub records: u64,
    /// When it was accepted.
    pub accepted: Timestamp,
}

impl Store {
    /// Forgets the opening of a request whose receipt was handed out: from then on only receipts have it, and whoever asks for
    /// the same again.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRequest`], [`StoreError::Busy`] or [`StoreError::Database`].
    pub fn forget_opening(&self, request: &str) -> Result<(), StoreError> {
        let row = self.request(request)?;
        let Some(opening) = row.opening else { return Ok(()) };
        self.change(|change, _| change.forget_opening(row.effect.epoch))?;
        // Zeros are written over it where it was, and pieces of it where it had been; the log is cut when nobody reads it.
        let catalogue = self.own_connection()?;
        catalogue.try_to_truncate_log()?;
        if catalogue.write_anew_if_left(&[opening.as_bytes().to_vec()], false)? {
            catalogue.try_to_truncate_log()?;
        }
        Ok(())
    }

    /// The deletions that were accepted and are not erased yet, with the moment they were accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Ledger`] or [`StoreError::Database`].
    pub fn pending(&self) -> Result<Vec<PendingDeletion>, StoreError> {
        let unerased: HashSet<Epoch> = self.snapshot()?.unerased.iter().copied().collect();
        if unerased.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.inner().catalogue.read(|queries| queries.requests())?;
        let mut pending = Vec::new();
        for row in rows.into_iter().filter(|row| unerased.contains(&row.effect.epoch)) {
            let accepted = self.entry(row.accepted)?.at;
            pending.push(PendingDeletion { epoch: row.effect.epoch, records: row.effect.records, accepted });
        }
        Ok(pending)
    }

    /// The receipt for a request. `opening` is what [`accept`](Self::accept) gave; `None` takes what the store still has.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownRequest`], [`StoreError::Ledger`] or [`StoreError::Database`].
    pub fn receipt(&self, request: &str, opening: Option<Opening>) -> Result<Receipt, StoreError> {
        let row = self.request(request)?;
        let opening = opening.or(row.opening);
        self.receipt_of(request.to_owned(), opening, row)
    }

    pub(crate) fn receipt_of(
        &self,
        request: String,
        opening: Option<Opening>,
        row: RequestRow,
    ) -> Result<Receipt, StoreError> {
        let inner = self.inner();
        let catalogue = &inner.catalogue;
        let missing = |what: &str| StoreError::damaged(catalogue.path(), format!("{what} is missing"));
        let checkpoint = catalogue.get("checkpoint")?.and_then(|text| String::from_utf8(text).ok());
        let checkpoint = checkpoint.ok_or_else(|| missing("the checkpoint"))?;
        let size = self.verifying_key().check(&checkpoint)?.size;
        let proven = |index: Option<u64>| -> Result<Option<Proven>, StoreError> {
            let Some(index) = index else { return Ok(None) };
            let entry = catalogue.entry(index)?.and_then(|entry| String::from_utf8(entry).ok());
            let entry = entry.ok_or_else(|| missing("an entry of the ledger"))?;
            let path = inclusion_proof(size, index, &|numbers: &[u64]| catalogue.hashes(numbers))?;
            Ok(Some(Proven { index, entry, path }))
        };
        let parts = [proven(Some(row.accepted))?, proven(row.effective)?, proven(row.erased)?];
        Receipt::new(request, opening, row.named, row.effect, parts, checkpoint)
            .ok_or_else(|| missing("an entry of the ledger"))
    }

    fn request(&self, request: &str) -> Result<RequestRow, StoreError> {
        let short = request_id(&self.secret, request);
        let row = self.inner().catalogue.read(|queries| queries.request(&short))?;
        row.ok_or_else(|| StoreError::UnknownRequest(request.to_owned()))
    }

    /// `true` if a request of this id was accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn knows_request(&self, request: &str) -> Result<bool, StoreError> {
        match self.request(request) {
            Ok(_) => Ok(true),
            Err(StoreError::UnknownRequest(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
