//! Starting afresh: the only way in which deleted records may come back, and so the only command that asks for consent.

use s3t_core::wording::counted;
use s3t_ledger::Epoch;
use s3t_store::{Store, StoreError};

use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::preview::Preview;
use crate::system::System;

impl System {
    /// Deletes the pipeline's store, to make it anew from the source of its data: the number of deletions that it had accepted;
    /// `None` if there is no store. `consent` says that somebody knows that deleted records come back if they are still in the source.
    ///
    /// # Errors
    ///
    /// Without consent [`EngineError::Resurrection`], where a deletion was ever accepted or that cannot be told, and
    /// [`EngineError::LeavesExports`], where adapters were exported that are still there;
    /// [`EngineError::NotAStoreToDelete`]; whatever is wrong with the pipeline. Nothing is deleted then.
    pub fn start_afresh(pipeline: &CheckedPipeline, consent: bool) -> Result<Option<u64>, EngineError> {
        if !pipeline.store.exists() && !pipeline.store.is_symlink() {
            return Ok(None);
        }
        let place = pipeline.place();
        if !place.is_store() && !pipeline.store.join("manifest.json").is_file() {
            return Err(EngineError::NotAStoreToDelete(pipeline.store.clone()));
        }
        // Nothing is deleted for a pipeline that cannot be made.
        let mut previewed = false;
        loop {
            let epoch = Store::open_read_only(&place).and_then(|store| Ok(store.snapshot()?.epoch()));
            let words = match &epoch {
                // Whoever began to remove it had consent, or saw that it needs none.
                Ok(Epoch(0)) | Err(StoreError::Removed(_)) => None,
                Ok(Epoch(number)) => Some(counted(*number as usize, "deletion")),
                Err(error) => Some(format!("an unknown number of deletions ({error})")),
            };
            if let Some(deletions) = words.filter(|_| !consent) {
                return Err(EngineError::Resurrection { store: pipeline.store.clone(), deletions });
            }
            let exports = || Store::open_read_only(&place).and_then(|store| store.exports()).unwrap_or_default();
            let mut folders = if consent { Vec::new() } else { exports() };
            folders.retain(|folder| folder.exists());
            if !folders.is_empty() {
                return Err(EngineError::LeavesExports { store: pipeline.store.clone(), folders });
            }
            if !previewed {
                Preview::new(pipeline)?;
                previewed = true;
            }
            match Store::remove(&place, if consent { None } else { epoch.as_ref().ok().copied() }) {
                // A deletion was accepted in the meantime.
                Err(StoreError::Changed(_)) if !consent => {}
                removed => {
                    removed?;
                    return Ok(Some(epoch.map_or(0, |epoch| epoch.0)));
                }
            }
        }
    }

    /// Opens the pipeline's store after deleting it, so that it is made anew from the source of its data: the system, and the number of
    /// deletions that the old store had accepted.
    ///
    /// # Errors
    ///
    /// As [`start_afresh`](Self::start_afresh) and [`open`](Self::open).
    pub fn open_afresh(pipeline: CheckedPipeline, consent: bool) -> Result<(Self, u64), EngineError> {
        let deletions = Self::start_afresh(&pipeline, consent)?.unwrap_or_default();
        Ok((Self::open(pipeline)?, deletions))
    }
}
