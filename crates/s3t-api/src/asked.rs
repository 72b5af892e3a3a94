//! Prompts that a run asks before and after its deletion.

use s3t_core::chat::{Message, Role};
use s3t_core::{Payload, Record, RecordId, Target};
use s3t_engine::System;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;

/// The longest answer, in tokens.
const MOST_TOKENS: usize = 32;

/// A prompt with the answer of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// The prompt.
    pub prompt: String,
    /// The answer: in each step the token with the largest combined score, up to a token that ends it or 32 tokens.
    pub answer: String,
}

/// The prompts of `run.ask` as records.
pub(crate) fn prompts(system: &System) -> Result<Vec<Record>, ApiError> {
    let pipeline = system.pipeline();
    let record = |(index, text): (usize, &String)| -> Result<Record, ApiError> {
        let payload = if pipeline.chats {
            Payload::Messages(vec![Message::new(Role::User, text)])
        } else {
            Payload::Text(text.clone())
        };
        let id = RecordId::new(format!("ask-{index}"))?;
        Ok(Record { id, subject: None, target: Target::None, ordinal: index as u64, payload })
    };
    pipeline.run.ask.iter().enumerate().map(record).collect()
}

/// The answers to the prompts.
pub(crate) fn ask(system: &System, prompts: &[Record]) -> Result<Vec<Asked>, ApiError> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let answers = system.complete(prompts, MOST_TOKENS)?;
    let texts = system.pipeline().run.ask.iter();
    Ok(texts.zip(answers).map(|(prompt, made)| Asked { prompt: prompt.clone(), answer: made.text }).collect())
}
