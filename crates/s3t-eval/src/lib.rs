//! Evaluation: accuracy of an ensemble, and ordinary fine-tuning to compare with.

mod baseline;
mod metric;

use std::sync::Arc;

use s3t_core::{Record, Serving, ShardId, Task};
use s3t_engine::{EngineError, System};

pub use baseline::{Baseline, BaselineModel};
pub use metric::Metric;

/// The scores of a system's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Records answered.
    pub records: usize,
    /// The metric of the scores.
    pub metric: Metric,
    /// The score of the ensemble.
    pub score: f64,
    /// Each member by itself.
    pub members: Vec<MemberScore>,
}

/// The score of one shard by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberScore {
    /// The shard.
    pub shard: ShardId,
    /// The sequence and depth that the shard answers with; `None` for the base model.
    pub serving: Option<Serving>,
    /// Its score.
    pub score: f64,
}

/// Evaluates a system on records with targets.
///
/// # Errors
///
/// As [`System::predict`] and [`System::responses`]; [`EngineError::NoRecords`] for an empty list.
pub fn evaluate(system: &System, records: &[Record]) -> Result<Evaluation, EngineError> {
    if records.is_empty() {
        return Err(EngineError::NoRecords(
            "`data.test` is empty or missing, so there is nothing to evaluate on".into(),
        ));
    }
    let task = system.pipeline().task;
    let metric = Metric::of(task);
    let members = system.members()?;
    let (score, of_members): (f64, Vec<f64>) = if task == Task::CausalLm {
        let responses = system.responses_of(&members, records)?;
        let tokens = responses.iter().map(|response| response.tokens).sum::<usize>().max(1) as f64;
        let share = |right: usize| right as f64 / tokens;
        let of_member = |index: usize| share(responses.iter().map(|response| response.members[index]).sum());
        (share(responses.iter().map(|response| response.right).sum()), (0..members.len()).map(of_member).collect())
    } else {
        let predictions = system.predict_with(&members, records)?;
        let pairs = || predictions.iter().zip(records);
        let of_member = |index: usize| {
            metric.score(pairs().map(|(prediction, record)| (prediction.members[index].as_slice(), &record.target)))
        };
        let score = metric.score(pairs().map(|(prediction, record)| (prediction.scores.as_slice(), &record.target)));
        (score, (0..members.len()).map(of_member).collect())
    };
    let member = |(member, score): (&Arc<s3t_engine::Member>, f64)| MemberScore {
        shard: member.shard,
        serving: member.serving,
        score,
    };
    Ok(Evaluation {
        records: records.len(),
        metric,
        score,
        members: members.iter().zip(of_members).map(member).collect(),
    })
}
