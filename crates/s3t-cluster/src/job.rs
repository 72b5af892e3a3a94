//! A stage that a caller waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use s3t_executor::StageJob;
use s3t_executor::s3t_core::Digest;

use crate::roster::WorkerId;

pub(crate) struct Job {
    /// The digests of its records, in order.
    records: Vec<Digest>,
    is_revoked: AtomicBool,
    worker: Mutex<Option<WorkerId>>,
}

impl Job {
    pub(crate) fn new(stage: &StageJob) -> Self {
        let mut records: Vec<Digest> = stage.records.iter().map(|record| record.digest).collect();
        records.sort_unstable();
        Self { records, is_revoked: AtomicBool::new(false), worker: Mutex::new(None) }
    }

    pub(crate) fn holds(&self, records: &[Digest]) -> bool {
        records.iter().any(|record| self.records.binary_search(record).is_ok())
    }

    /// Notes that a record of it is deleted, so that nobody wants it any more.
    pub(crate) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    pub(crate) fn given_to(&self, worker: Option<WorkerId>) {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = worker;
    }

    /// The worker that has it now.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
