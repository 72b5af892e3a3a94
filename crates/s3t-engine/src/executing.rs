//! The executor of a system, which is started when the first stage is to be trained.

use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{BaseModel, Executor, ExecutorError, Session, Site, Trainer, WorkerSettings};
use s3t_models::Backbone;
use s3t_train::StageTrainer;

use crate::error::EngineError;
use crate::pipeline::Pipeline;

/// An executor that may have been started.
pub(crate) struct Executing {
    site: Site,
    session: Mutex<Option<Arc<dyn Session>>>,
    starting: Mutex<()>,
}

impl Executing {
    /// The site of a pipeline's executor. A system that only reads keeps nothing on disk.
    pub(crate) fn new(pipeline: &Pipeline, backbone: &Arc<Backbone>, read_only: bool) -> Result<Self, EngineError> {
        let bytes = |megabytes: usize| (megabytes as u64).saturating_mul(1 << 20);
        let memory = bytes(pipeline.resources.activation_memory_mb);
        let disk = if read_only { 0 } else { bytes(pipeline.resources.activation_disk_mb) };
        let gradient_checkpointing = pipeline.resources.gradient_checkpointing;
        let in_process = usize::try_from(memory).unwrap_or(usize::MAX);
        let trainer = StageTrainer::new(Arc::clone(backbone), pipeline.device, in_process)?;
        let options = serde_json::to_value(pipeline.load_options())
            .map_err(|error| pipeline.refuse("model", format!("its options cannot be written: {error}")))?;
        // Workers may start in other folders.
        let folder = std::path::absolute(&pipeline.model).unwrap_or_else(|_| pipeline.model.clone());
        let base = BaseModel { folder, digest: backbone.digest(), options };
        let site = Site {
            store: name_of(&pipeline.store),
            worker: WorkerSettings { base, device: pipeline.device.to_string(), memory, gradient_checkpointing },
            threads: NonZero::new(pipeline.resources.job_count()).unwrap_or(NonZero::<usize>::MIN),
            trainer: Arc::new(trainer.with_spill(&pipeline.store, disk).with_checkpointing(gradient_checkpointing)),
        };
        Ok(Self { site, session: Mutex::default(), starting: Mutex::new(()) })
    }

    fn started(&self) -> Option<Arc<dyn Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The executor, which is started now if it was not before, or if no worker of it is left: what ended them may be over.
    pub(crate) fn session(&self, executor: &dyn Executor) -> Result<Arc<dyn Session>, ExecutorError> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = self.started().filter(|session| !session.has_failed()) {
            return Ok(session);
        }
        // It is dropped first, outside of the lock: it has the port, and takes its time to end. Where somebody else still has it, its failure is
        // told once more.
        let failed = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failed) = failed.filter(|failed| Arc::strong_count(failed) > 1) {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&failed));
            return Ok(failed);
        }
        let span = tracing::info_span!("start executor", capacity = tracing::field::Empty).entered();
        let session: Arc<dyn Session> = Arc::from(executor.start(self.site.clone())?);
        span.record("capacity", session.capacity().get());
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// The arithmetic of the executor if it was started, and of this process before.
    pub(crate) fn environment(&self) -> NumericEnvironment {
        self.started().map_or_else(|| self.site.trainer.environment(), |session| session.environment())
    }

    /// The trainer of this process, whatever the executor.
    pub(crate) fn in_process(&self) -> Arc<dyn Trainer> {
        Arc::clone(&self.site.trainer)
    }

    /// Drops everything that is remembered of these records. An executor that was not started remembers nothing.
    pub(crate) fn forget(&self, records: &[Digest]) {
        self.site.trainer.forget(records);
        if let Some(session) = self.started().filter(|_| !records.is_empty()) {
            session.forget(records);
        }
    }

    /// Drops everything that is remembered of any record.
    pub(crate) fn forget_all(&self) {
        self.site.trainer.forget_all();
        if let Some(session) = self.started() {
            session.forget_all();
        }
    }
}

/// The last part of a store's path, and a digest of the whole.
fn name_of(store: &Path) -> String {
    let whole = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let digest = DigestBuilder::new("store name").bytes(whole.as_os_str().as_encoded_bytes()).finish().to_string();
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    let letters: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("{}-{}", letters.get(..24).unwrap_or(&letters), &digest[..8])
}
