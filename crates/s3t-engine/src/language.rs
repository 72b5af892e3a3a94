//! Answering in causal language modelling: how well responses are predicted, and what follows a prompt.

use s3t_backends::{Backbone, Hidden, Input};
use s3t_core::aggregate::argmax;
use s3t_core::{Aggregator, Record, Target};
use s3t_peft::tensors::to_host;
use s3t_train::{StageModel, learnt_tokens};
use serde::Serialize;

use crate::ensemble::{Member, each_member};
use crate::{EngineError, System};

/// How well the response of one record is predicted, token by token from those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Response {
    /// The record's id.
    pub id: String,
    /// The tokens of the response.
    pub tokens: usize,
    /// How many of them the ensemble predicts.
    pub right: usize,
    /// How many of them each member predicts by itself.
    pub members: Vec<usize>,
}

/// A text that was continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// The record's id.
    pub id: String,
    /// What follows its text.
    pub text: String,
}

impl System {
    /// How well the responses of records are predicted.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take, or as [`members`](System::members).
    pub fn responses(&self, records: &[Record]) -> Result<Vec<Response>, EngineError> {
        let inputs = self.prepare(records)?;
        let members = self.members()?;
        let backbone = &**self.backbone();
        let aggregator = &*self.pipeline().serving.aggregator;
        self.in_batches(&inputs, |batch| score(backbone, &members, aggregator, batch))
    }

    /// Continues the texts of records by up to `most` tokens: in each step the token with the largest combined score, until
    /// the one that ends a text.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take, or as [`members`](System::members).
    pub fn complete(&self, records: &[Record], most: usize) -> Result<Vec<Completion>, EngineError> {
        let prompts: Vec<Record> =
            records.iter().map(|record| Record { target: Target::None, ..record.clone() }).collect();
        let inputs = self.prepare(&prompts)?;
        let members = self.members()?;
        let backbone = &**self.backbone();
        let aggregator = &*self.pipeline().serving.aggregator;
        self.in_batches(&inputs, |batch| {
            batch.iter().map(|input| complete(backbone, &members, aggregator, input, most)).collect()
        })
    }
}

fn score(
    backbone: &dyn Backbone,
    members: &[Member],
    aggregator: &dyn Aggregator,
    inputs: &[&Input<'_>],
) -> Vec<Response> {
    let padded = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let learnt = learnt_tokens(inputs, padded);
    let rows: Vec<usize> = learnt.iter().map(|(row, _)| *row).collect();
    let logits = each_member(backbone, members, inputs, |model, hidden| {
        to_host(model.next_token_logits(backbone, hidden, &rows))
    });
    let mut responses: Vec<Response> = inputs
        .iter()
        .map(|input| Response { id: input.id().to_string(), tokens: 0, right: 0, members: vec![0; members.len()] })
        .collect();
    let vocabulary = logits.first().map_or(0, Vec::len) / rows.len().max(1);
    for (at, (row, id)) in learnt.iter().enumerate() {
        let of_token: Vec<&[f32]> =
            logits.iter().map(|logits| &logits[at * vocabulary..(at + 1) * vocabulary]).collect();
        let response = &mut responses[row / padded];
        response.tokens += 1;
        response.right += usize::from(argmax(&aggregator.combine(&of_token)) == *id as usize);
        for (right, logits) in response.members.iter_mut().zip(of_token) {
            *right += usize::from(argmax(logits) == *id as usize);
        }
    }
    responses
}

fn complete(
    backbone: &dyn Backbone,
    members: &[Member],
    aggregator: &dyn Aggregator,
    prompt: &Input<'_>,
    most: usize,
) -> Completion {
    let mut input = prompt.clone();
    let mut made = Vec::new();
    while made.len() < most && input.tokens < backbone.max_tokens() {
        input.padded = input.tokens;
        let last = [input.tokens - 1];
        let logits = each_member(backbone, members, &[&input], |model, hidden| {
            to_host(model.next_token_logits(backbone, hidden, &last))
        });
        let next = argmax(&aggregator.combine(&logits.iter().map(Vec::as_slice).collect::<Vec<_>>())) as u32;
        if Some(next) == backbone.end_token() {
            break;
        }
        made.push(next);
        input.ids.push(next);
        input.tokens += 1;
    }
    Completion { id: prompt.id().to_string(), text: backbone.decode(&made).unwrap_or_default() }
}

/// How many of each input's learnt tokens one model predicts, and how many there are, given the input of its first block.
pub fn right_tokens(
    backbone: &dyn Backbone,
    model: &StageModel,
    hidden: Hidden,
    inputs: &[&Input<'_>],
) -> Vec<(usize, usize)> {
    let padded = hidden.states.dims()[1];
    let learnt = learnt_tokens(inputs, padded);
    let rows: Vec<usize> = learnt.iter().map(|(row, _)| *row).collect();
    let logits = to_host(model.next_token_logits(backbone, hidden, &rows));
    let vocabulary = logits.len() / rows.len().max(1);
    let mut counts = vec![(0, 0); inputs.len()];
    for ((row, id), logits) in learnt.iter().zip(logits.chunks(vocabulary.max(1))) {
        let (right, all) = &mut counts[row / padded];
        *right += usize::from(argmax(logits) == *id as usize);
        *all += 1;
    }
    counts
}
