//! Benchmarks, run by `cargo bench -p s3t-benches`, and what their programs have in common.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use s3t::core::tensors::{HostTensor, StageTensors};
use s3t::core::{Payload, Record, RecordId, Target};
use s3t::engine::{EngineError, Quiet, System};
use s3t::models::Backbone;
use s3t::peft::PeftMethod;
use s3t::train::{StageBuilder, StageJob, StageProgress, TrainError};

/// A record with this text and the id `row-N`.
///
/// # Panics
///
/// Never: the id is well-formed.
pub fn text_record(row: u64, text: &str) -> Record {
    let id = RecordId::new(format!("row-{row}")).expect("a number makes a well-formed id");
    Record { id, subject: None, target: Target::Class(0), ordinal: row, payload: Payload::Text(text.to_owned()) }
}

/// The records of a JSON list of texts.
///
/// # Errors
///
/// For a text that is no such list.
pub fn text_records(json: &str) -> serde_json::Result<Vec<Record>> {
    let texts: Vec<String> = serde_json::from_str(json)?;
    Ok((0..).zip(&texts).map(|(row, text)| text_record(row, text)).collect())
}

/// The median and the 99th percentile.
///
/// # Panics
///
/// If there are no times.
pub fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)])
}

/// Adapters on some blocks and a head with so many outputs, with small values that differ from one `seed` to the next: as good as
/// trained ones for measuring time.
pub fn made_up_stage(
    backbone: &Backbone,
    method: &dyn PeftMethod,
    blocks: &BTreeSet<usize>,
    outputs: usize,
    seed: usize,
) -> StageTensors {
    let made_up = |shape: Vec<usize>| {
        let value = |place: usize| ((place * 31 + seed * 7) % 97) as f32 * 2e-4 - 1e-2;
        let values = (0..shape.iter().product()).map(value).collect();
        HostTensor { shape, values }
    };
    let specs = method.parameters(&backbone.block_shape());
    let mut tensors = StageTensors::default();
    for block in blocks {
        for spec in &specs {
            tensors.insert(*block, &spec.name, made_up(spec.shape.clone()));
        }
    }
    for spec in backbone.head().parameters(outputs, backbone.hidden()) {
        tensors.insert_head(spec.name, made_up(spec.shape));
    }
    tensors
}

/// The system with a made-up stage for every one that is missing, as if it had been trained; `method` is its PEFT method.
///
/// # Errors
///
/// Whatever is wrong with its store.
pub fn with_made_up_stages(system: System, method: impl PeftMethod + 'static) -> Result<System, EngineError> {
    let backbone = Arc::clone(system.backbone());
    let system =
        system.with_builder(Arc::new(MadeUp { backbone, method: Box::new(method), next: AtomicUsize::new(0) }));
    system.train(&Quiet)?;
    Ok(system)
}

/// Makes stages up.
struct MadeUp {
    backbone: Arc<Backbone>,
    method: Box<dyn PeftMethod>,
    next: AtomicUsize,
}

impl StageBuilder for MadeUp {
    fn build(&self, job: &StageJob, _: &dyn StageProgress) -> Result<StageTensors, TrainError> {
        let blocks = job.lineage.trained().range().collect();
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let outputs = job.lineage.recipe.task.outputs();
        Ok(made_up_stage(&*self.backbone, &*self.method, &blocks, outputs, seed))
    }
}
