//! The likelihoods of texts under the ensemble, token by token from the tokens before.

use std::sync::Arc;

use s3t_core::aggregate::argmax;
use s3t_core::{Aggregator, MemberInfo, Record};
use s3t_models::{Backbone, Input, ModelError};
use s3t_peft::tensors::to_host;
use s3t_train::{StageModel, learnt_tokens, rows};

use crate::ensemble::{Member, each_member, places};
use crate::{EngineError, System};

/// A token whose likelihood was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredToken {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability in the combined distribution.
    pub log_probability: f64,
    /// True if no other token is likelier.
    pub predicted: bool,
}

/// The likelihood of one record's target behind its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// The record's id.
    pub id: String,
    /// The tokens of the target.
    pub tokens: Vec<ScoredToken>,
}

impl Likelihood {
    /// The natural logarithm of the probability of all tokens.
    pub fn log_probability(&self) -> f64 {
        self.tokens.iter().map(|token| token.log_probability).sum()
    }

    /// True if greedy decoding would give exactly these tokens.
    pub fn predicted(&self) -> bool {
        self.tokens.iter().all(|token| token.predicted)
    }
}

/// The cutting of a record's text and target into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// Each by itself, and an end token behind the target: the tokens that training learns.
    AsTrained,
    /// Both as one text, without an end token, as [`Backbone::prepare_continuation`] does.
    AsOneText,
}

impl System {
    /// The likelihoods of records' targets behind their texts.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoLikelihood`] where the aggregator gives a token no probability, [`EngineError::Model`] for a record that the
    /// model cannot take, or as [`members`](System::members).
    pub fn likelihoods(&self, records: &[Record], cutting: Cutting) -> Result<Vec<Likelihood>, EngineError> {
        self.likelihoods_of(&self.members()?, records, cutting)
    }

    /// The likelihoods under these members, whatever is deleted in the meantime.
    ///
    /// # Errors
    ///
    /// As [`likelihoods`](System::likelihoods).
    pub fn likelihoods_of(
        &self,
        members: &[Arc<Member>],
        records: &[Record],
        cutting: Cutting,
    ) -> Result<Vec<Likelihood>, EngineError> {
        let backbone = &**self.backbone();
        let inputs = prepare(backbone, records, cutting)?;
        let aggregator = &*self.pipeline().serving.aggregator;
        let places = places(members);
        finite(self.in_batches(&inputs, |batch| {
            let learnt = Learnt::new(batch);
            let of_members = each_member(backbone, members, batch, |model, hidden| {
                rows(&to_host(model.next_token_logits(backbone, hidden, &learnt.at)), learnt.at.len())
            });
            let row = |token: usize| {
                aggregator.combine_placed(&of_members.iter().map(|rows| &*rows[token]).collect::<Vec<_>>(), &places)
            };
            learnt.likelihoods(batch, row, aggregator.keeps_scale())
        })?)
    }

    /// The likelihoods under the base model alone, without any adapter.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take.
    pub fn base_likelihoods(&self, records: &[Record], cutting: Cutting) -> Result<Vec<Likelihood>, EngineError> {
        let backbone = &**self.backbone();
        let inputs = prepare(backbone, records, cutting)?;
        let Some(base) = StageModel::base(backbone, self.device(), self.pipeline().task) else {
            return Err(EngineError::NoRecords("the base model has no head for this task".into()));
        };
        finite(self.in_batches(&inputs, |batch| {
            let learnt = Learnt::new(batch);
            let hidden = base.first_input(backbone, batch);
            let logits = rows(&to_host(base.next_token_logits(backbone, hidden, &learnt.at)), learnt.at.len());
            learnt.likelihoods(batch, |token| logits[token].clone(), true)
        })?)
    }
}

fn prepare<'a>(backbone: &Backbone, records: &'a [Record], cutting: Cutting) -> Result<Vec<Input<'a>>, EngineError> {
    let input = |record: &'a Record| match cutting {
        Cutting::AsTrained => backbone.prepare(record),
        Cutting::AsOneText => backbone.prepare_continuation(record),
    };
    Ok(records.iter().map(input).collect::<Result<_, _>>()?)
}

fn finite(likelihoods: Vec<Likelihood>) -> Result<Vec<Likelihood>, EngineError> {
    for likelihood in &likelihoods {
        let record = || likelihood.id.clone();
        match likelihood.tokens.iter().find(|token| !token.log_probability.is_finite()) {
            Some(token) if token.log_probability.is_nan() => {
                return Err(ModelError::OutputNotFinite { record: record() }.into());
            }
            Some(token) => return Err(EngineError::NoLikelihood { record: record(), token: token.token }),
            None => {}
        }
    }
    Ok(likelihoods)
}

/// The tokens of a batch that are scored: the rows that predict them, and their ids.
struct Learnt {
    at: Vec<usize>,
    ids: Vec<u32>,
}

impl Learnt {
    fn new(inputs: &[&Input<'_>]) -> Self {
        let padded = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
        let (at, ids) = learnt_tokens(inputs, padded).into_iter().unzip();
        Self { at, ids }
    }

    /// Scores the tokens; `row` gives the combined outputs at each of them in order.
    fn likelihoods(&self, inputs: &[&Input<'_>], row: impl Fn(usize) -> Vec<f32>, logits: bool) -> Vec<Likelihood> {
        let mut tokens = self.ids.iter().enumerate().map(|(at, id)| scored(&row(at), *id, logits));
        inputs
            .iter()
            .map(|input| Likelihood {
                id: input.id().to_string(),
                tokens: tokens.by_ref().take(input.learnt()).collect(),
            })
            .collect()
    }
}

/// Scores a token by the combined outputs at its place.
pub(crate) fn scored(row: &[f32], token: u32, logits: bool) -> ScoredToken {
    let log_probability = log_probability(row, token as usize, logits);
    ScoredToken { token, log_probability, predicted: argmax(row) == token as usize }
}

/// The natural logarithm of the probability of an entry of a row of logits, or of shares of one whole; minus infinity for no share.
fn log_probability(row: &[f32], at: usize, logits: bool) -> f64 {
    let value = row.get(at).copied().map_or(f64::NEG_INFINITY, f64::from);
    if logits {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|logit| libm::exp(f64::from(*logit) - f64::from(largest))).sum();
        value - f64::from(largest) - libm::log(sum)
    } else {
        libm::log(value) - libm::log(row.iter().copied().map(f64::from).sum::<f64>())
    }
}

/// The combination of members' outputs at one place, scored.
pub(crate) fn combined(
    aggregator: &dyn Aggregator,
    members: &[&[f32]],
    places: &[MemberInfo],
    token: u32,
) -> ScoredToken {
    scored(&aggregator.combine_placed(members, places), token, aggregator.keeps_scale())
}

#[cfg(test)]
mod tests {
    use s3t_core::aggregate::{MajorityVote, MeanLogits, MeanProbabilities, softmax};

    use super::*;

    const MEMBERS: [&[f32]; 2] = [&[2.0, 1.0, 0.0, -40.0], &[0.0, 5.0, 0.0, -3.0]];
    const PLACES: [MemberInfo; 2] = [MemberInfo { shard: s3t_core::ShardId(0), depth: 1, distance: None }; 2];

    #[test]
    fn probabilities_of_the_combined_distribution_add_up_to_1() {
        for aggregator in [&MeanLogits {} as &dyn Aggregator, &MeanProbabilities::default(), &MajorityVote {}] {
            let sum: f64 =
                (0..4).map(|token| combined(aggregator, &MEMBERS, &PLACES, token).log_probability.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{aggregator:?}: {sum}");
        }
    }

    #[test]
    fn each_aggregator_has_the_likelihood_of_its_own_distribution() {
        let of_logits = combined(&MeanLogits {}, &MEMBERS, &PLACES, 0).log_probability;
        let mean: Vec<f32> = (0..4).map(|at| f32::midpoint(MEMBERS[0][at], MEMBERS[1][at])).collect();
        assert!((of_logits - f64::from(softmax(&mean)[0]).ln()).abs() < 1e-6);
        let of_shares = combined(&MeanProbabilities::default(), &MEMBERS, &PLACES, 0).log_probability;
        let share = f64::midpoint(f64::from(softmax(MEMBERS[0])[0]), f64::from(softmax(MEMBERS[1])[0]));
        assert!((of_shares - share.ln()).abs() < 1e-6);
        assert_eq!(combined(&MajorityVote {}, &MEMBERS, &PLACES, 2).log_probability, f64::NEG_INFINITY);
        assert!(combined(&MeanLogits {}, &MEMBERS, &PLACES, 1).predicted);
        assert!(!combined(&MeanLogits {}, &MEMBERS, &PLACES, 0).predicted);
    }
}
