//! Evaluation: accuracy of an ensemble, tasks of language models, memorisation, audits by attack, and ordinary fine-tuning to compare with.

pub mod attack;
mod baseline;
pub mod compare;
mod error;
pub mod memorisation;
pub mod methods;
mod metric;
pub mod task;
pub mod text;
mod toml_text;

use std::sync::Arc;

use s3t_core::{Record, Serving, ShardId, Task};
use s3t_engine::{EngineError, Response, System};

/// Reports of attacks, and the figures in them.
pub mod report {
    pub use s3t_attack::interval::{Estimate, Interval};
    pub use s3t_attack::report::*;
    pub use s3t_attack::roc::TprAtFpr;
}

pub use baseline::{Baseline, BaselineModel};
pub use error::EvalError;
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
    /// Of causal language modelling: the perplexity of the learnt tokens, the exponential of minus their mean log-likelihood. `None` for
    /// other tasks, and where the aggregator gives a token no probability.
    pub perplexity: Option<f64>,
    /// Each member by itself.
    pub members: Vec<MemberScore>,
}

/// The score of one member by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberScore {
    /// The shard.
    pub shard: ShardId,
    /// The sequence and depth of the member; `None` for the base model.
    pub serving: Option<Serving>,
    /// Its score.
    pub score: f64,
    /// Its perplexity, as that of the ensemble.
    pub perplexity: Option<f64>,
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
    let (all, of_members): (Score, Vec<Score>) = if task == Task::CausalLm {
        let responses = system.responses_of(&members, records)?;
        let tokens = responses.iter().map(|response| response.tokens).sum::<usize>().max(1) as f64;
        let of = |sums: &dyn Fn(&Response) -> (usize, f64)| {
            let sums: Vec<(usize, f64)> = responses.iter().map(sums).collect();
            let right: usize = sums.iter().map(|(right, _)| right).sum();
            let log_probability: f64 = sums.iter().map(|(_, log_probability)| log_probability).sum();
            let perplexity = Some((-log_probability / tokens).exp()).filter(|perplexity| perplexity.is_finite());
            Score { score: right as f64 / tokens, perplexity }
        };
        let of_member =
            |at: usize| of(&|response: &Response| (response.members[at].right, response.members[at].log_probability));
        let all = of(&|response: &Response| (response.right, response.log_probability));
        (all, (0..members.len()).map(of_member).collect())
    } else {
        let predictions = system.predict_with(&members, records)?;
        let pairs = || predictions.iter().zip(records);
        let score = |score: f64| Score { score, perplexity: None };
        let of_member = |index: usize| {
            let outputs = pairs().map(|(prediction, record)| (prediction.members[index].as_slice(), &record.target));
            score(metric.score(outputs))
        };
        let outputs = pairs().map(|(prediction, record)| (prediction.scores.as_slice(), &record.target));
        (score(metric.score(outputs)), (0..members.len()).map(of_member).collect())
    };
    let member = |(member, own): (&Arc<s3t_engine::Member>, Score)| MemberScore {
        shard: member.shard,
        serving: member.serving,
        score: own.score,
        perplexity: own.perplexity,
    };
    Ok(Evaluation {
        records: records.len(),
        metric,
        score: all.score,
        perplexity: all.perplexity,
        members: members.iter().zip(of_members).map(member).collect(),
    })
}

/// A score with its perplexity.
struct Score {
    score: f64,
    perplexity: Option<f64>,
}
