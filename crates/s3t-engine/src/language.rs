//! Answering in causal language modelling: how well responses are predicted, and what follows a prompt.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use s3t_core::aggregate::argmax;
use s3t_core::{Aggregator, Record};
use s3t_generate::{Event, EventKind, NewToken, Prompt, Sampling};
use s3t_models::{Backbone, Input, ModelError};
use s3t_peft::tensors::to_host;
use s3t_train::{StageModel, learnt_tokens, on_threads, rows};

use crate::ensemble::{Member, each_member, places};
use crate::generator::{ServesModels, batch};
use crate::likelihood::{combined, scored};
use crate::{EngineError, System};

/// The quality of the prediction of one record's response, token by token from the tokens before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The record's id.
    pub id: String,
    /// The tokens of the response.
    pub tokens: usize,
    /// Tokens that the ensemble predicts.
    pub right: usize,
    /// The natural logarithm of the response's probability; minus infinity if the aggregator gives a token no probability.
    pub log_probability: f64,
    /// The same of each member by itself.
    pub members: Vec<MemberResponse>,
}

/// The quality of one member's prediction of a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemberResponse {
    /// Tokens that the member predicts.
    pub right: usize,
    /// The natural logarithm of the response's probability.
    pub log_probability: f64,
}

/// A text that was continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The record's id.
    pub id: String,
    /// The text that follows the record's.
    pub text: String,
}

impl System {
    /// Counts the tokens of records' responses that the ensemble and its members predict.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take, or as [`members`](System::members).
    pub fn responses(&self, records: &[Record]) -> Result<Vec<Response>, EngineError> {
        self.responses_of(&self.members()?, records)
    }

    /// Counts the tokens of records' responses that these members predict, whatever is deleted in the meantime.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take.
    pub fn responses_of(&self, members: &[Arc<Member>], records: &[Record]) -> Result<Vec<Response>, EngineError> {
        let inputs = self.prepare(records)?;
        let backbone = &**self.backbone();
        let aggregator = &*self.pipeline().serving.aggregator;
        self.in_batches(&inputs, |batch| score(backbone, members, aggregator, batch))
    }

    /// Continues the texts of records by up to `max` tokens: in each step the token with the largest combined score, until
    /// a token that ends a text. What comes of a prompt does not depend on the others.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take, [`EngineError::Generate`] for one that does not fit into the
    /// memory for keys and values, or as [`members`](System::members).
    pub fn complete(&self, records: &[Record], max: usize) -> Result<Vec<Completion>, EngineError> {
        let prompts: Vec<Record> = records.iter().map(Record::as_question).collect();
        let inputs = self.prepare(&prompts)?;
        let backbone = &**self.backbone();
        // A prompt that was cut is another one; one that fills the model leaves no room for an answer.
        if let Some(input) = inputs.iter().find(|input| input.cut > 0 || input.tokens >= backbone.max_tokens()) {
            return Err(EngineError::Model(ModelError::WrongInput {
                record: input.id().to_string(),
                found: format!("prompt of {} tokens or more", input.tokens),
                expected: format!("prompts of 1 to {} tokens, so that a response follows", backbone.max_tokens() - 1),
            }));
        }
        let sampling = Sampling { max_tokens: max, ..Sampling::default() };
        let prompts =
            inputs.iter().map(|input| Prompt { ids: input.ids.clone(), sampling: sampling.clone() }).collect();
        let made = self.generate(prompts)?;
        let completion = |(input, made): (&Input<'_>, Vec<NewToken>)| {
            let ids: Vec<u32> = made.iter().map(|token| token.id).collect();
            Completion { id: input.id().to_string(), text: backbone.decode(&ids).unwrap_or_default() }
        };
        Ok(inputs.iter().zip(made).map(completion).collect())
    }

    /// The tokens that follow each of some prompts, all of the models of one moment.
    ///
    /// # Errors
    ///
    /// [`EngineError::Generate`] for a prompt or a setting that the model cannot take, or one that does not fit into the memory for keys
    /// and values; or as [`members`](System::members).
    pub fn generate(&self, prompts: Vec<Prompt>) -> Result<Vec<Vec<NewToken>>, EngineError> {
        let models = self.serving()?;
        let pipeline = self.pipeline();
        let mut batch = batch(&models, self.backbone(), pipeline.serving.generation)?;
        for prompt in &prompts {
            batch.check(prompt)?;
        }
        let mut made = vec![Vec::new(); prompts.len()];
        let mut waiting: VecDeque<(usize, Prompt)> = prompts.into_iter().enumerate().collect();
        let mut places: HashMap<u64, usize> = HashMap::new();
        while !waiting.is_empty() || !batch.texts().is_empty() {
            while let Some((place, prompt)) = waiting.pop_front() {
                match batch.add(prompt)? {
                    Ok(number) => {
                        places.insert(number, place);
                    }
                    Err(prompt) => {
                        waiting.push_front((place, prompt));
                        break;
                    }
                }
            }
            let step = || batch.step(&*pipeline.serving.aggregator);
            for Event { text, kind } in on_threads(pipeline.resources.job_count(), step)?? {
                match (kind, places.get(&text)) {
                    (EventKind::Token(token), Some(place)) => made[*place].push(token),
                    (EventKind::Failed(error, _), _) => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(made)
    }
}

fn score(
    backbone: &Backbone,
    members: &[Arc<Member>],
    aggregator: &dyn Aggregator,
    inputs: &[&Input<'_>],
) -> Vec<Response> {
    let padded = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let learnt = learnt_tokens(inputs, padded);
    let at: Vec<usize> = learnt.iter().map(|(row, _)| *row).collect();
    let of_members = each_member(backbone, members, inputs, |model, hidden| {
        rows(&to_host(model.next_token_logits(backbone, hidden, &at)), at.len())
    });
    let mut responses: Vec<Response> = inputs
        .iter()
        .map(|input| Response {
            id: input.id().to_string(),
            tokens: input.learnt(),
            right: 0,
            log_probability: 0.0,
            members: vec![MemberResponse { right: 0, log_probability: 0.0 }; members.len()],
        })
        .collect();
    let places = places(members);
    for (token, (row, id)) in learnt.iter().enumerate() {
        let response = &mut responses[row / padded];
        let of_members: Vec<&[f32]> = of_members.iter().map(|rows| &*rows[token]).collect();
        let all = combined(aggregator, &of_members, &places, *id);
        response.right += usize::from(all.predicted);
        response.log_probability += all.log_probability;
        for (member, row) in response.members.iter_mut().zip(of_members) {
            let own = scored(row, *id, true);
            member.right += usize::from(own.predicted);
            member.log_probability += own.log_probability;
        }
    }
    responses
}

/// Counts each record's learnt tokens that were predicted; `predicted` is asked for each learnt token in order.
fn count_right(
    learnt: &[(usize, u32)],
    padded: usize,
    records: usize,
    predicted: impl Fn(usize) -> usize,
) -> Vec<usize> {
    let mut counts = vec![0; records];
    for (token, (row, id)) in learnt.iter().enumerate() {
        counts[row / padded] += usize::from(predicted(token) == *id as usize);
    }
    counts
}

/// Counts each input's learnt tokens that a model predicts, for a batch of one padded length.
pub fn right_tokens(backbone: &Backbone, model: &StageModel, inputs: &[&Input<'_>]) -> Vec<usize> {
    let hidden = model.first_input(backbone, inputs);
    let padded = hidden.states.dims()[1];
    let learnt = learnt_tokens(inputs, padded);
    let at: Vec<usize> = learnt.iter().map(|(row, _)| *row).collect();
    let logits = rows(&to_host(model.next_token_logits(backbone, hidden, &at)), at.len());
    count_right(&learnt, padded, inputs.len(), |token| argmax(&logits[token]))
}
