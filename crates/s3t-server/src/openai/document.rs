//! Requests as the document describes them. They are read field by field (see the `fields` module), so that each refusal names its field.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The choice of tokens.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the document is made from it")]
pub(crate) struct Choosing {
    /// The model's name; the server has one.
    model: Option<String>,
    /// Divides the scores before a token is drawn: 0 takes the likeliest token, 1 is the default.
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// Only so many of the likeliest tokens are drawn from.
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    /// Added to the scores of tokens, by their numbers.
    logit_bias: Option<BTreeMap<String, f32>>,
    /// The same seed gives the same text, whatever is asked beside it.
    seed: Option<i64>,
    /// A text or a list of texts before which the made text ends.
    #[schema(value_type = Option<Object>)]
    stop: Option<serde_json::Value>,
    stop_token_ids: Option<Vec<u32>>,
    ignore_eos: Option<bool>,
    /// `true` for server-sent events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Passed over.
    user: Option<String>,
}

/// The options of a stream.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the document is made from it")]
pub(crate) struct StreamOptions {
    /// `true` for a last chunk with the number of tokens.
    include_usage: Option<bool>,
}

/// A request for completions.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the document is made from it")]
pub(crate) struct CompletionRequest {
    /// A text, a list of texts, a list of tokens, or a list of lists of tokens.
    #[schema(value_type = Object)]
    prompt: serde_json::Value,
    /// The largest number of tokens behind the prompt; 16 if it is not given.
    max_tokens: Option<u32>,
    /// `true` if the answer begins with the prompt.
    echo: Option<bool>,
    /// So many of the likeliest tokens are told in each place, with the log-probability of the token that was made.
    logprobs: Option<u32>,
    #[serde(flatten)]
    choosing: Choosing,
}

/// A message.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the document is made from it")]
pub(crate) struct ChatMessage {
    /// `system`, `user` or `assistant`.
    role: String,
    content: String,
}

/// A request for the next message of a conversation.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the document is made from it")]
pub(crate) struct ChatRequest {
    messages: Vec<ChatMessage>,
    /// The largest number of tokens of the message; 1,024, or what the model takes, if it is not given.
    max_completion_tokens: Option<u32>,
    /// The older name of `max_completion_tokens`.
    max_tokens: Option<u32>,
    /// `true` for the log-probability of each token.
    logprobs: Option<bool>,
    /// So many of the likeliest tokens are told in each place.
    top_logprobs: Option<u32>,
    #[serde(flatten)]
    choosing: Choosing,
}
