//! Signals about records, from what a system answers.

use s3t_attack::language::ZoneToken;
use s3t_attack::signal;
use s3t_core::{Aggregator, MemberInfo, Record, Target, Task};
use s3t_engine::{Cutting, Likelihood, Places, System, in_batches};
use s3t_train::StageModel;

use crate::EvalError;

/// The distance from 0 and 1 to which shares of votes are taken, so that their logit is finite.
const EDGE: f64 = 1e-6;

/// The signals of a model about records, in the order of the records.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Signals {
    /// The scaled logit of the right class, or the mean log-probability of the learnt tokens.
    pub scaled: Vec<f64>,
    /// The probability of the right class, or the geometric mean of the learnt tokens' probabilities; above 0.
    pub confidence: Vec<f64>,
    /// Of language models: each record's tokens.
    pub tokens: Vec<Likelihood>,
    /// The bits of every answer, to compare systems.
    pub bits: Vec<Vec<u64>>,
}

/// Refuses tasks without a right class or learnt tokens.
pub(crate) fn check_task(task: Task) -> Result<(), EvalError> {
    match task {
        Task::Classification { .. } | Task::CausalLm => Ok(()),
        Task::MultiLabel { .. } | Task::Regression => Err(EvalError::NotAttackable(task.name())),
    }
}

impl Signals {
    /// The signals of the ensemble as it answers now.
    pub(crate) fn of_system(system: &System, records: &[Record]) -> Result<Self, EvalError> {
        if system.pipeline().task == Task::CausalLm {
            return Ok(Self::of_likelihoods(system.likelihoods(records, Cutting::AsTrained)?));
        }
        let predictions = system.predict(records)?;
        let mut signals =
            Self::of_scores(predictions.iter().map(|prediction| &*prediction.scores), records, aggregator(system))?;
        for (bits, prediction) in signals.bits.iter_mut().zip(&predictions) {
            bits.extend(prediction.members.iter().flatten().map(|output| u64::from(output.to_bits())));
        }
        Ok(signals)
    }

    /// The signals of the frozen base model.
    pub(crate) fn of_base(system: &System, records: &[Record]) -> Result<Self, EvalError> {
        Ok(Self::of_likelihoods(system.base_likelihoods(records, Cutting::AsTrained)?))
    }

    /// The signals of models that are combined as the system combines its members, each with its place; with the bits that a system of these
    /// members has.
    pub(crate) fn of_models(
        system: &System,
        models: &[(MemberInfo, StageModel)],
        records: &[Record],
    ) -> Result<Self, EvalError> {
        let backbone = &**system.backbone();
        let inputs = records
            .iter()
            .map(|record| backbone.prepare(record))
            .collect::<Result<Vec<_>, _>>()
            .map_err(s3t_engine::EngineError::from)?;
        let answers = in_batches(system.pipeline().resources.job_count(), &inputs, |batch| {
            let of_models: Vec<Vec<Vec<f32>>> =
                models.iter().map(|(_, model)| model.outputs(backbone, batch)).collect();
            let asked = models.iter().map(|(place, model)| (*place, model));
            let places = Places::new(backbone, aggregator(system), asked, batch);
            let combine = |row: usize| {
                let rows: Vec<&[f32]> = of_models.iter().map(|rows| &*rows[row]).collect();
                (aggregator(system).combine_placed(&rows, &places.of(row)), rows.concat())
            };
            (0..batch.len()).map(combine).collect()
        })?;
        let mut signals = Self::of_scores(answers.iter().map(|(scores, _)| &**scores), records, aggregator(system))?;
        for (bits, (_, outputs)) in signals.bits.iter_mut().zip(&answers) {
            bits.extend(outputs.iter().map(|output| u64::from(output.to_bits())));
        }
        Ok(signals)
    }

    fn of_scores<'a>(
        scores: impl Iterator<Item = &'a [f32]>,
        records: &[Record],
        aggregator: &dyn Aggregator,
    ) -> Result<Self, EvalError> {
        let mut signals = Self::default();
        for (scores, record) in scores.zip(records) {
            let Target::Class(class) = record.target else { return Err(EvalError::NoClass(record.id.to_string())) };
            let (scaled, confidence) = of_class(scores, class as usize, aggregator.keeps_scale())?;
            signals.scaled.push(scaled);
            signals.confidence.push(confidence);
            signals.bits.push(scores.iter().map(|score| u64::from(score.to_bits())).collect());
        }
        Ok(signals)
    }

    fn of_likelihoods(tokens: Vec<Likelihood>) -> Self {
        let mean = |of: &Likelihood| of.log_probability() / of.tokens.len().max(1) as f64;
        let scaled: Vec<f64> = tokens.iter().map(mean).collect();
        Self {
            confidence: scaled.iter().map(|mean| mean.exp().max(f64::MIN_POSITIVE)).collect(),
            bits: tokens
                .iter()
                .map(|of| of.tokens.iter().map(|token| token.log_probability.to_bits()).collect())
                .collect(),
            scaled,
            tokens,
        }
    }

    /// The log-probabilities of a record's tokens.
    pub(crate) fn log_probabilities(&self, record: usize) -> Vec<f64> {
        self.tokens[record].tokens.iter().map(|token| token.log_probability.min(0.0)).collect()
    }

    /// A record's tokens beside the base model's.
    pub(crate) fn zone(&self, base: &Self, record: usize) -> Vec<ZoneToken> {
        let base = base.log_probabilities(record);
        let tokens = self.tokens[record].tokens.iter().zip(base);
        tokens
            .map(|(token, base)| ZoneToken { target: token.log_probability.min(0.0), base, is_error: !token.predicted })
            .collect()
    }
}

fn aggregator(system: &System) -> &dyn Aggregator {
    &*system.pipeline().serving.aggregator
}

/// The scaled logit and the probability of a class, from logits or from shares of one whole.
pub(crate) fn of_class(scores: &[f32], class: usize, logits: bool) -> Result<(f64, f64), EvalError> {
    let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    if logits {
        let confidence = signal::confidence(&scores, class)?.max(f64::MIN_POSITIVE);
        return Ok((signal::scaled_logit(&scores, class)?, confidence));
    }
    let share = scores.get(class).copied().unwrap_or_default() / scores.iter().sum::<f64>();
    let share = share.clamp(EDGE, 1.0 - EDGE);
    Ok(((share / (1.0 - share)).ln(), share))
}
