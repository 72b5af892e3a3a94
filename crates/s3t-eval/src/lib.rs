//! Evaluation: accuracy of the ensemble, ordinary fine-tuning to compare with, simulated request streams, pictures.

mod baseline;
pub mod compare;
mod error;
pub mod figures;
pub mod plot;
pub mod simulate;
mod trace;

use s3t_core::aggregate::argmax;
use s3t_core::{Record, Serving, ShardId};
use s3t_engine::{EngineError, System};
use serde::Serialize;

pub use baseline::{Baseline, BaselineModel};
pub use error::EvalError;
pub use trace::Trace;

/// How well a system answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Records answered.
    pub records: usize,
    /// The share that was answered right, 0 to 1.
    pub accuracy: f64,
    /// Each member by itself.
    pub members: Vec<MemberAccuracy>,
}

/// How well one shard answers by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberAccuracy {
    /// The shard.
    pub shard: ShardId,
    /// What it answers with; `None` for the base model.
    pub serving: Option<Serving>,
    /// The share that it answered right, 0 to 1.
    pub accuracy: f64,
}

/// Evaluates a system on labelled records.
///
/// # Errors
///
/// Those of [`System::predict`]; [`EngineError::NoRecords`] if there are none.
pub fn evaluate(system: &System, records: &[Record]) -> Result<Evaluation, EngineError> {
    if records.is_empty() {
        return Err(EngineError::NoRecords(
            "`data.test` is empty or missing, so there is nothing to evaluate on".into(),
        ));
    }
    let predictions = system.predict(records)?;
    let members = system.members()?;
    let share = |right: usize| right as f64 / records.len() as f64;
    let pairs = || predictions.iter().zip(records);
    let of_member = |(index, member): (usize, &s3t_engine::Member)| MemberAccuracy {
        shard: member.shard,
        serving: member.serving,
        accuracy: share(pairs().filter(|(p, record)| argmax(&p.members[index]) == record.label as usize).count()),
    };
    Ok(Evaluation {
        records: records.len(),
        accuracy: share(pairs().filter(|(prediction, record)| prediction.label == record.label as usize).count()),
        members: members.iter().enumerate().map(of_member).collect(),
    })
}
