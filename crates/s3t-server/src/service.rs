//! The system behind the server. All that the server asks of the engine and the store passes through here.

use std::sync::Arc;

use s3t_core::budget::lifetime::Lifetime;
use s3t_core::{RecordId, ShardId, SubjectId};
use s3t_engine::{AuditReport, AuditRequest, EngineError, Observer, RepairPolicy, RepairReport, Status, System};
use s3t_ledger::{Epoch, Hash, Named, Receipt};
use s3t_store::{Accepted, DeletionRequest, Snapshot, StoreError};

use crate::requests::Names;

/// The system that answers, deletes and proves.
#[derive(Clone)]
pub(crate) struct Service {
    system: Arc<System>,
}

impl Service {
    pub(crate) fn new(system: Arc<System>) -> Self {
        Self { system }
    }

    pub(crate) fn system(&self) -> &Arc<System> {
        &self.system
    }

    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        self.system.snapshot()
    }

    /// The number of deletions that every answer from now on knows of.
    pub(crate) fn epoch(&self) -> Result<Epoch, EngineError> {
        Ok(self.snapshot()?.epoch())
    }

    pub(crate) fn status(&self) -> Result<Status, EngineError> {
        self.system.status()
    }

    /// Accepts a deletion: no answer that begins after this uses a stage that saw one of its records.
    pub(crate) fn accept(&self, request: &DeletionRequest) -> Result<Accepted, EngineError> {
        self.system.accept(request)
    }

    /// `true` if the store has accepted a request of this id, whoever made it.
    pub(crate) fn knows_request(&self, id: &str) -> Result<bool, EngineError> {
        Ok(self.system.store().knows_request(id)?)
    }

    /// The names of a request that are there.
    pub(crate) fn known_names(&self, request: &DeletionRequest) -> Result<Names, EngineError> {
        let mut known = Names::default();
        for record in &request.records {
            if self.has_record(record)? {
                known.records.push(record.clone());
            }
        }
        for subject in &request.subjects {
            if self.has_subject(subject)? {
                known.subjects.push(subject.clone());
            }
        }
        Ok(known)
    }

    /// Refuses a request with a name that is not there, as [`accept`](Self::accept) does.
    pub(crate) fn check_names(&self, request: &DeletionRequest) -> Result<(), EngineError> {
        let unknown = |name| Err(self.system.store().unknown(name).into());
        for record in &request.records {
            if !self.has_record(record)? {
                return unknown(Named::Record(record));
            }
        }
        for subject in &request.subjects {
            if !self.has_subject(subject)? {
                return unknown(Named::Subject(subject));
            }
        }
        Ok(())
    }

    fn has_record(&self, record: &RecordId) -> Result<bool, EngineError> {
        Ok(self.system.store().address(record)?.is_some())
    }

    fn has_subject(&self, subject: &SubjectId) -> Result<bool, EngineError> {
        Ok(self.system.store().records_of(subject)? > 0)
    }

    /// Erases what was accepted, and publishes the ledger; the failure that kept something, if there was any.
    pub(crate) fn erase(&self) -> Option<StoreError> {
        let (_, failed) = self.system.erase_pending();
        failed.or_else(|| self.system.store().publish_unless_held().err())
    }

    /// The receipt of a request, with the key to the names in it while the store has that.
    pub(crate) fn receipt(&self, request: &str) -> Result<Receipt, EngineError> {
        let store = self.system.store();
        Ok(store.receipt(request, None)?)
    }

    /// Forgets the key to the names of an erased request: its receipt was handed out.
    pub(crate) fn receipt_delivered(&self, request: &str) -> Result<(), EngineError> {
        Ok(self.system.store().forget_opening(request)?)
    }

    /// Builds missing stages if the policy says that it is due.
    pub(crate) fn repair(&self, policy: &RepairPolicy, observer: &dyn Observer) -> Result<RepairReport, EngineError> {
        self.system.repair(policy, observer)
    }

    /// The requests that the system lasts from now on.
    pub(crate) fn outlook(&self, snapshot: &Snapshot) -> Result<Lifetime, EngineError> {
        self.system.outlook(snapshot)
    }

    /// The requests that the weakest shard hit by a deletion would survive at worst after it.
    pub(crate) fn budget_after(&self, request: &DeletionRequest) -> Result<Option<usize>, EngineError> {
        self.system.budget_after(request)
    }

    /// The requests that the weakest shard that answers survives at worst; `None` if no shard answers.
    pub(crate) fn least_budget(&self) -> Result<Option<usize>, EngineError> {
        let availability = self.snapshot()?.availability();
        let shards = (0..availability.shards() as u32).map(ShardId);
        let alive = shards.filter(|shard| availability.serving(*shard).is_some());
        Ok(alive.map(|shard| availability.adversarial_budget(shard)).min())
    }

    /// The published checkpoint with its number of entries.
    pub(crate) fn checkpoint(&self) -> Result<Option<(String, u64)>, EngineError> {
        let store = self.system.store();
        let Some(text) = store.published_checkpoint()? else { return Ok(None) };
        let size = store.verifying_key().check(&text).map_err(StoreError::from)?.size;
        Ok(Some((text, size)))
    }

    /// The proof that the ledger of `old` entries is the beginning of that of `size` entries.
    pub(crate) fn consistency_proof(&self, old: u64, size: u64) -> Result<Vec<Hash>, EngineError> {
        Ok(self.system.store().consistency_proof(old, size)?)
    }

    /// The public key of the ledger.
    pub(crate) fn public_key(&self) -> String {
        self.system.store().verifying_key().to_string()
    }

    pub(crate) fn audit(&self, request: &AuditRequest, observer: &dyn Observer) -> Result<AuditReport, EngineError> {
        self.system.audit(request, observer)
    }
}
