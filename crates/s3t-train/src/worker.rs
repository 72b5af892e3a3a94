//! A worker that trains for another process.

use std::io::{Read, Write};
use std::sync::Arc;

use s3t_backends::{BackendError, DeviceSpec};
use s3t_executor::{ExecutorError, Lease, ObjectFolder, Trainer, WorkEnd, WorkerSettings};
use s3t_models::LoadOptions;

use crate::StageTrainer;

/// Works for the owner of a store at the other end of `input` and `output`, until it closes `input`; see [`s3t_executor::work`].
/// `closed` is called as soon as the owner is gone.
///
/// # Errors
///
/// As [`s3t_executor::work`]; the base model or the device that cannot be loaded.
pub fn work(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    closed: impl FnOnce() + Send + 'static,
) -> Result<(), ExecutorError> {
    s3t_executor::work(input, output, None, load, |_| closed())
}

/// Works as [`work`] does, under a lease: `closed` is called too when the lease ends, and has to end the program. Large parts of jobs and
/// results may be in a folder of object storage.
///
/// # Errors
///
/// As [`work`].
pub fn work_under_lease(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    lease: Lease,
    objects: Option<Arc<dyn ObjectFolder>>,
    closed: impl FnOnce(WorkEnd) + Send + 'static,
) -> Result<(), ExecutorError> {
    s3t_executor::work_with_objects(input, output, Some(lease), objects, load, closed)
}

/// Loads the base model of a worker's settings and makes a trainer that writes nothing to a disk.
fn load(settings: &WorkerSettings) -> Result<Arc<dyn Trainer>, ExecutorError> {
    let base = &settings.base;
    let failed = |problem: String| ExecutorError::StartFailed { place: "the trainer".into(), problem };
    let device: DeviceSpec = settings.device.parse().map_err(|error: BackendError| failed(error.to_string()))?;
    let opened = device.open().map_err(|error| failed(error.to_string()))?;
    let options: LoadOptions = serde_json::from_value(base.options.clone()).map_err(|error| {
        failed(format!("the options of the base model cannot be read ({error}); use one build on both sides"))
    })?;
    let backbone = s3t_models::load(&base.folder, options, &opened).map_err(|error| failed(error.to_string()))?;
    let found = backbone.digest();
    if found != base.digest {
        return Err(ExecutorError::OtherModel { expected: base.digest, found });
    }
    let memory = usize::try_from(settings.memory).unwrap_or(usize::MAX);
    let trainer = StageTrainer::new(backbone, device, memory).map_err(|error| failed(error.to_string()))?;
    Ok(Arc::new(trainer.with_checkpointing(settings.gradient_checkpointing)))
}
