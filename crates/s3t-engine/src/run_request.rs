//! The deletion that `run` in a pipeline file names.

use s3t_core::digest::DigestBuilder;
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::Named;
use s3t_store::DeletionRequest;

use crate::error::EngineError;
use crate::system::System;

/// The deletion that `run.delete_records` and `run.delete_subjects` name.
#[derive(Debug, Clone, PartialEq)]
pub enum RunRequest {
    /// The pipeline names nothing to delete.
    Nothing,
    /// An earlier run has deleted the named records and subjects.
    Done,
    /// The request to make.
    Due(DeletionRequest),
}

impl System {
    /// The request of the pipeline's `[run]`. Its id is made from the names, so that a second run knows that it was done.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown record or subject; [`EngineError::Core`] for an id that cannot be used.
    pub fn run_request(&self) -> Result<RunRequest, EngineError> {
        let settings = &self.pipeline().run;
        let records = settings.delete_records.iter().map(|record| RecordId::new(record.as_str()));
        let subjects = settings.delete_subjects.iter().map(|subject| SubjectId::new(subject.as_str()));
        let records: Vec<RecordId> = records.collect::<Result<_, _>>()?;
        let subjects: Vec<SubjectId> = subjects.collect::<Result<_, _>>()?;
        if records.is_empty() && subjects.is_empty() {
            return Ok(RunRequest::Nothing);
        }
        let store = self.store();
        let mut names = DigestBuilder::keyed(store.secret(), "s3t run");
        names.number(records.len() as u64);
        for name in records.iter().map(RecordId::as_str).chain(subjects.iter().map(SubjectId::as_str)) {
            names.bytes(name.as_bytes());
        }
        let id = format!("s3t run {}", names.finish().short());
        if store.knows_request(&id)? {
            return Ok(RunRequest::Done);
        }
        for record in &records {
            if store.address(record)?.is_none() {
                return Err(store.unknown(Named::Record(record)).into());
            }
        }
        for subject in &subjects {
            if store.records_of(subject)? == 0 {
                return Err(store.unknown(Named::Subject(subject)).into());
            }
        }
        Ok(RunRequest::Due(DeletionRequest { id: Some(id), records, subjects }))
    }
}
