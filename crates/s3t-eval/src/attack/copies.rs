//! Copies of a system that an attack may change, each in a folder that goes with it.

use std::path::{Path, PathBuf};

use s3t_core::{Record, RecordId, StoreSecret};
use s3t_engine::{CheckedPipeline, EngineError, Observer, Pipeline, System};
use tempfile::TempDir;

use super::draw;
use crate::EvalError;

/// Reads a pipeline anew: a system takes its pipeline with it.
pub type PipelineSource<'a> = dyn Fn() -> Result<CheckedPipeline, EngineError> + 'a;

/// The place where copies are made: beside the store, on the same disk and behind the same doors.
pub(crate) struct Copies<'a> {
    pipeline: &'a PipelineSource<'a>,
    folder: PathBuf,
    secret: StoreSecret,
}

/// A system in a folder that is removed with it.
pub(crate) struct Copy {
    pub system: System,
    _folder: TempDir,
}

impl<'a> Copies<'a> {
    pub(crate) fn new(pipeline: &'a PipelineSource<'a>, store: &Path, secret: StoreSecret) -> Self {
        let folder = store.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { pipeline, folder: folder.to_path_buf(), secret }
    }

    /// A system of these records in a store of its own, with the same secret. Nothing is trained.
    pub(crate) fn of_records(&self, records: &[Record]) -> Result<Copy, EvalError> {
        self.with(records, |_| {})
    }

    /// The same of a pipeline that is changed.
    pub(crate) fn with(&self, records: &[Record], change: impl FnOnce(&mut Pipeline)) -> Result<Copy, EvalError> {
        let failed = |cause| EvalError::Write { path: self.folder.clone(), cause };
        let mut builder = tempfile::Builder::new();
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let folder = builder.prefix(".attack-").tempdir_in(&self.folder).map_err(failed)?;
        let pipeline = (self.pipeline)()?.change(|pipeline| {
            pipeline.store = folder.path().join("store");
            pipeline.keys = None;
            change(pipeline);
        })?;
        Ok(Copy { system: System::create(pipeline, records, Some(self.secret.clone()))?, _folder: folder })
    }

    /// A copy of a system: of its records and of every stage that may serve.
    pub(crate) fn of_system(&self, system: &System) -> Result<Copy, EvalError> {
        let copy = self.of_records(&records_of(system)?)?;
        take_stages(&copy.system, system)?;
        Ok(copy)
    }
}

/// Copies the stages of `from` that the plan of `to` has.
fn take_stages(to: &System, from: &System) -> Result<(), EvalError> {
    let snapshot = from.snapshot()?;
    for key in snapshot.stages().iter().filter(|key| snapshot.is_live(key)) {
        let (lineage, tensors) = from.store().stage(key).map_err(EngineError::from)?;
        if !to.store().add_stage(&lineage, &tensors).map_err(EngineError::from)? {
            return Err(EvalError::OtherPlan { stage: *key });
        }
    }
    Ok(())
}

/// All records of a system, slice by slice.
pub(crate) fn records_of(system: &System) -> Result<Vec<Record>, EvalError> {
    let mut records = Vec::new();
    for address in system.store().settings().shape.addresses() {
        let of_slice = system.store().records(address).map_err(EngineError::from)?;
        records.extend(of_slice.into_iter().map(|(_, record)| record));
    }
    Ok(records)
}

/// The records of a random half of a pool: half 0 or its complement, half 1, of a pair. Records of a subject are in the same half.
pub(crate) fn in_half(record: &Record, pair: usize, half: usize, seed: u64) -> bool {
    let number = draw::number("half", seed.wrapping_add(1 + pair as u64), &draw::group(record));
    (number % 2) as usize == half
}

/// A held-out record as one that may be trained on beside the system's own: its id may be one of theirs.
pub(crate) fn as_trained(record: &Record, place: usize) -> Result<Record, EvalError> {
    let id = RecordId::new(format!("held-out {}", record.id.as_str())).map_err(EngineError::from)?;
    Ok(Record { id, ordinal: (1 << 32) + place as u64, ..record.clone() })
}

/// Passes steps on to an observer that was told of all of them before.
pub(crate) struct Steps<'a, O: ?Sized>(pub &'a O);

impl<O: Observer + ?Sized> Observer for Steps<'_, O> {
    fn trains(&self) {
        self.0.trains();
    }

    fn stage_started(&self, stage: &s3t_engine::StageLabel, records: usize) {
        self.0.stage_started(stage, records);
    }

    fn step(&self, stage: &s3t_engine::StageLabel, step: s3t_executor::Step) -> std::ops::ControlFlow<()> {
        self.0.step(stage, step)
    }

    fn stage_finished(&self, stage: &s3t_engine::StageLabel) {
        self.0.stage_finished(stage);
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.0.worker_said(worker, line);
    }
}
