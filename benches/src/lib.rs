//! Benchmarks, run by `cargo bench -p s3t-benches`, and what their programs have in common.

use std::collections::BTreeSet;

use std::time::Duration;

use s3t::core::tensors::{HostTensor, StageTensors};
use s3t::core::{Payload, Record, RecordId, Target};
use s3t::engine::{EngineError, System};
use s3t::models::{Backbone, LoadOptions, Precision, WeightFormat};
use s3t::peft::PeftMethod;

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
pub fn with_made_up_stages(system: System, method: &dyn PeftMethod) -> Result<System, EngineError> {
    let snapshot = system.snapshot()?;
    for (seed, key) in snapshot.missing().into_iter().enumerate() {
        let Some(lineage) = snapshot.plan().lineage(&key) else { continue };
        let (blocks, outputs) = (lineage.trained().range().collect(), lineage.recipe.task.outputs());
        let mut tensors = made_up_stage(system.backbone(), method, &blocks, outputs, seed);
        let hidden = system.backbone().hidden();
        tensors.centroid = system
            .pipeline()
            .training
            .centroid
            .then(|| HostTensor { shape: vec![hidden], values: vec![seed as f32; hidden] });
        system.store().add_stage(&lineage, &tensors)?;
    }
    Ok(system)
}

/// The megabytes that this process has had at most, from Linux's `/proc`.
///
/// # Errors
///
/// [`std::io::Error`] for a missing file, and an error in words for a file without the line or with a line that is not a number.
pub fn peak_megabytes() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak of memory")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1e3)
}

/// The options with which a model is loaded for a form of its frozen weights: `f32`, `bf16`, `int8` or `nf4`.
///
/// # Errors
///
/// Another name.
pub fn load_options(form: &str) -> Result<LoadOptions, String> {
    let (precision, weights) = match form {
        "f32" => (Precision::F32, WeightFormat::Full),
        "bf16" => (Precision::Bf16, WeightFormat::Full),
        "int8" => (Precision::F32, WeightFormat::Int8),
        "nf4" => (Precision::F32, WeightFormat::Nf4),
        _ => return Err(format!("unknown form of weights `{form}`; known: f32, bf16, int8, nf4")),
    };
    Ok(LoadOptions { precision, weights, ..LoadOptions::default() })
}
