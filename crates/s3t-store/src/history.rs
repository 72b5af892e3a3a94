//! Reading the ledger: what an auditor compares with the store.

use s3t_ledger::{Checkpoint, Entry, LedgerError, Receipt, root};

use crate::{Store, StoreError};

impl Store {
    /// All entries of the ledger, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Ledger`] for an entry that is missing or cannot be read, or [`StoreError::Database`].
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner();
        let read = |index: u64| {
            let missing = || LedgerError::Entry { index, problem: "is missing".into() };
            let bytes = inner.catalogue.entry(index)?.ok_or_else(missing)?;
            Ok(Entry::from_bytes(index, &bytes)?)
        };
        (0..inner.catalogue.entries()?).map(read).collect()
    }

    /// An entry of the ledger.
    pub(crate) fn entry(&self, index: u64) -> Result<Entry, StoreError> {
        let missing = || LedgerError::Entry { index, problem: "is missing".into() };
        let bytes = self.inner().catalogue.entry(index)?.ok_or_else(missing)?;
        Ok(Entry::from_bytes(index, &bytes)?)
    }

    /// Checks that a checkpoint that was seen before, wherever it was kept, is of the beginning of this ledger.
    ///
    /// # Errors
    ///
    /// [`StoreError::RolledBack`] if the ledger is shorter, [`StoreError::Ledger`] if the checkpoint was not signed by the store or is
    /// of another history.
    pub fn check_continues(&self, checkpoint: &str) -> Result<Checkpoint, StoreError> {
        let seen = self.verifying_key().check(checkpoint)?;
        let inner = self.inner();
        let found = inner.catalogue.entries()?;
        if found < seen.size {
            return Err(StoreError::RolledBack { path: self.path().into(), found, known: seen.size });
        }
        if root(seen.size, &|numbers: &[u64]| inner.catalogue.hashes(numbers))? != seen.root {
            let problem =
                format!("its first {} entries are not those of the checkpoint: history was rewritten", seen.size);
            return Err(LedgerError::Proof(problem).into());
        }
        Ok(seen)
    }

    /// The receipts of all requests, without their ids, which the store does not know.
    ///
    /// # Errors
    ///
    /// [`StoreError::Ledger`] or [`StoreError::Database`].
    pub fn receipts(&self) -> Result<Vec<Receipt>, StoreError> {
        let rows = self.inner().catalogue.read(|queries| queries.requests())?;
        rows.into_iter().map(|row| self.receipt_of(String::new(), None, row)).collect()
    }
}
