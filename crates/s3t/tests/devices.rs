//! Other devices train and answer what `flex` does, up to rounding.
//!
//! The backend is part of a stage's lineage and so of its seed. Here all train for one lineage, which only a replaced trainer can do.

use std::path::Path;
use std::sync::Arc;

use s3t::backends::DeviceSpec;
use s3t::core::{Digest, NumericEnvironment, StoreSecret};
use s3t::executor::{ExecutorError, StageJob, StageProgress, TrainedStage, Trainer};
use s3t::prelude::*;
use s3t_testkit::Planted;
use tempfile::TempDir;

/// The largest distance between scores and between parameters.
const TOLERANCE: f32 = 1e-4;

/// A trainer that says that it computes with another arithmetic than it does.
struct Claims {
    trainer: Arc<dyn Trainer>,
    claimed: NumericEnvironment,
}

impl Trainer for Claims {
    fn environment(&self) -> NumericEnvironment {
        self.claimed.clone()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        Ok(TrainedStage { environment: self.claimed.clone(), ..self.trainer.train(job, progress)? })
    }

    fn forget(&self, records: &[Digest]) {
        self.trainer.forget(records);
    }

    fn forget_all(&self) {
        self.trainer.forget_all();
    }
}

/// A folder with a tiny model.
fn with_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    s3t_testkit::write_tiny_model(&folder.path().join("model"), 4).unwrap();
    folder
}

fn pipeline(folder: &Path, store: &str, device: &str) -> Pipeline {
    let mut pipeline = s3t_testkit::tiny_pipeline(&folder.join("model"), &folder.join(store));
    pipeline.training.seed = 1;
    pipeline.device = device.parse().unwrap();
    pipeline
}

fn trained(pipeline: Pipeline) -> System {
    let system =
        System::create(pipeline, &s3t_testkit::toy_records(40, 0, 1), Some(StoreSecret::from_bytes([1; 32]))).unwrap();
    system.train(&Quiet).unwrap();
    system
}

/// A system on a device whose stages have the lineage that they have on `flex`.
fn trained_as_flex(folder: &Path, device: &str) -> System {
    let mut pipeline = pipeline(folder, device, device);
    let claimed = "flex".parse::<DeviceSpec>().unwrap().environment();
    pipeline.executor = Planted::trainer(move |trainer| Arc::new(Claims { trainer, claimed: claimed.clone() }));
    trained(pipeline)
}

/// Every parameter of every stage, in order.
fn parameters(system: &System) -> Vec<f32> {
    let snapshot = system.snapshot().unwrap();
    let tensors = snapshot.stages().iter().map(|key| system.store().stage(key).unwrap().1);
    tensors
        .flat_map(|stage| stage.named().values().flat_map(|tensor| tensor.values.clone()).collect::<Vec<_>>())
        .collect()
}

fn scores(system: &System) -> Vec<f32> {
    let answers = system.predict(&s3t_testkit::toy_records(30, 0, 2)).unwrap();
    assert_eq!(answers.len(), 30);
    answers.into_iter().flat_map(|answer| answer.scores).collect()
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

fn assert_trains_and_answers_as_flex(device: &str) {
    let folder = with_model();
    let [flex, other] = ["flex", device].map(|device| trained_as_flex(folder.path(), device));
    assert_eq!(flex.snapshot().unwrap().stages(), other.snapshot().unwrap().stages());
    for (values, of) in [("parameters", parameters as fn(&System) -> Vec<f32>), ("scores", scores)] {
        let apart = largest_difference(&of(&flex), &of(&other));
        assert!(apart < TOLERANCE, "{values} on `{device}` are up to {apart} apart");
    }
}

#[test]
fn ndarray_trains_and_answers_as_flex_does() {
    assert_trains_and_answers_as_flex("ndarray");
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::*;

    #[test]
    fn wgpu_trains_and_answers_as_flex_does() {
        assert_trains_and_answers_as_flex("wgpu");
    }

    #[test]
    fn stages_trained_again_have_the_same_bits() {
        let folder = with_model();
        let system = trained(pipeline(folder.path(), "store", "wgpu"));
        let report = system.verify(VerifyScope::All, &Quiet).unwrap();
        assert!(report.passed() && !report.stages.is_empty());
    }

    #[test]
    fn the_kind_of_card_is_part_of_the_arithmetic() {
        let environment = "wgpu".parse::<DeviceSpec>().unwrap().environment();
        let (name, compiled_for) =
            environment.architecture.split_once(", ").expect("a name, and what kernels are compiled for");
        assert!(!name.is_empty() && !compiled_for.is_empty(), "{environment}");
    }

    #[test]
    fn stages_of_wgpu_are_not_those_of_flex() {
        let folder = with_model();
        let [card, flex] = ["wgpu", "flex"].map(|device| trained(pipeline(folder.path(), device, device)));
        assert!(card.snapshot().unwrap().stages().is_disjoint(flex.snapshot().unwrap().stages()));
    }
}
