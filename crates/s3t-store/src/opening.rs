//! Opening a store to change it: what a crash left unfinished is finished first.

use std::time::Duration;

use crate::{Erasure, Place, Store, StoreError, making};

impl Store {
    /// Opens a store and finishes what a crash left unfinished, unless another process has its files in hand: then that one, or
    /// whoever comes next, finishes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::OtherFormat`], [`StoreError::Key`], [`StoreError::RolledBack`],
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn open(place: &Place) -> Result<Self, StoreError> {
        let store = Self::open_to_accept(place)?;
        match store.finish(Duration::ZERO) {
            // What cannot be read cannot be written anew; the deletion stays in effect, and `check` tells of it. What others have
            // in hand is finished when they are done.
            Ok(())
            | Err(
                StoreError::Damaged { .. }
                | StoreError::Key { .. }
                | StoreError::Busy { .. }
                | StoreError::Reading { .. }
                | StoreError::Elsewhere { .. }
                | StoreError::Erasing { .. },
            ) => {}
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// Opens a store to change it, and leaves unfinished erasures as they are: for accepting a deletion before anything else.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_to_accept(place: &Place) -> Result<Self, StoreError> {
        let store = Self::open_as(place, false)?;
        making::clear_left_overs(place, &place.resolve()?)?;
        Ok(store)
    }

    /// Finishes erasures and publishes the ledger, waiting for so long at most.
    fn finish(&self, patience: Duration) -> Result<(), StoreError> {
        let lock = self.lock_erasing_for(patience)?;
        let erased = self.erase_with(&lock, &mut Erasure::default());
        let published = self.publish_with(&lock);
        erased.and(published)
    }
}
