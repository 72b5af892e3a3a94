//! The executor of a system, which is started when the first stage is to be trained.

use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{BaseModel, Executor, ExecutorError, Session, Site, WorkerSettings};
use s3t_models::Backbone;
use s3t_train::StageTrainer;

use crate::error::EngineError;
use crate::pipeline::Pipeline;

/// An executor that may have been started.
pub(crate) struct Executing {
    site: Site,
    session: OnceLock<Arc<dyn Session>>,
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
        Ok(Self { site, session: OnceLock::new(), starting: Mutex::new(()) })
    }

    /// The executor, which is started now if it was not before.
    pub(crate) fn session(&self, executor: &dyn Executor) -> Result<Arc<dyn Session>, ExecutorError> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = self.session.get() {
            return Ok(Arc::clone(session));
        }
        let span = tracing::info_span!("start executor", capacity = tracing::field::Empty).entered();
        let session: Arc<dyn Session> = Arc::from(executor.start(self.site.clone())?);
        span.record("capacity", session.capacity().get());
        Ok(Arc::clone(self.session.get_or_init(|| session)))
    }

    /// The arithmetic of the executor if it was started, and of this process before.
    pub(crate) fn environment(&self) -> NumericEnvironment {
        self.session.get().map_or_else(|| self.site.trainer.environment(), |session| session.environment())
    }

    /// Drops everything that is remembered of these records. An executor that was not started remembers nothing.
    pub(crate) fn forget(&self, records: &[Digest]) {
        if let Some(session) = self.session.get().filter(|_| !records.is_empty()) {
            session.forget(records);
        }
    }

    /// Drops everything that is remembered of any record.
    pub(crate) fn forget_all(&self) {
        if let Some(session) = self.session.get() {
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
