//! The wire format of OpenAI's interface for texts: requests, answers and refusals.

mod answer;
mod document;
mod fields;
mod refusal;
mod request;
mod scores;

pub(crate) use answer::{
    ChatAnswer, ChatChoice, Choice, Completion, CompletionChoice, Delta, Head, Model, Models, Origin, Usage,
};
pub(crate) use document::{ChatRequest, CompletionRequest};
pub(crate) use refusal::{OpenAiError, in_openai_shape};
pub(crate) use request::{Asked, Form};
pub(crate) use scores::{ChatScores, CompletionScores, Score};
