//! Log-probabilities, as the two interfaces write them.

use std::collections::BTreeMap;

use s3t_generate::NewToken;
use serde::Serialize;
use utoipa::ToSchema;

/// A token with its text and the likeliest tokens in its place.
#[derive(Debug, Clone)]
pub(crate) struct Score {
    text: String,
    logprob: Option<f32>,
    top: Vec<(String, f32)>,
}

/// The log-probabilities of a completion's tokens.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct CompletionScores {
    tokens: Vec<String>,
    /// `null` for the first token of a prompt.
    token_logprobs: Vec<Option<f32>>,
    #[schema(value_type = Vec<Object>)]
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// The characters before each token.
    text_offset: Vec<usize>,
}

/// The log-probabilities of a message's tokens.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct ChatScores {
    content: Vec<ChatScore>,
}

/// The log-probability of a message's token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatScore {
    token: String,
    logprob: Option<f32>,
    bytes: Vec<u8>,
    top_logprobs: Vec<LikelyToken>,
}

/// A likely token in the place of another.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LikelyToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// A number that JSON has: the logarithm of 0 becomes the least one.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { f32::MIN }
}

impl Score {
    pub(crate) fn new(token: &NewToken, decode: impl Fn(u32) -> String) -> Self {
        let top = token.top.iter().map(|score| (decode(score.id), finite(score.logprob))).collect();
        Self { text: decode(token.id), logprob: token.logprob.map(finite), top }
    }
}

impl CompletionScores {
    /// The scores of tokens of a text that begins behind `offset` characters.
    pub(crate) fn new(scores: &[Score], mut offset: usize) -> Self {
        let mut all = Self::default();
        for Score { text, logprob, top } in scores {
            let mut by_text: BTreeMap<String, f32> = BTreeMap::new();
            // Two tokens may have one text; the likelier comes first.
            for (text, logprob) in top.iter().cloned().chain(logprob.map(|logprob| (text.clone(), logprob))) {
                by_text.entry(text).or_insert(logprob);
            }
            all.tokens.push(text.clone());
            all.token_logprobs.push(*logprob);
            all.top_logprobs.push(logprob.is_some().then_some(by_text));
            all.text_offset.push(offset);
            offset += text.chars().count();
        }
        all
    }
}

impl ChatScores {
    pub(crate) fn new(scores: &[Score]) -> Self {
        let likely = |(text, logprob): &(String, f32)| LikelyToken {
            token: text.clone(),
            logprob: *logprob,
            bytes: text.clone().into_bytes(),
        };
        let of_token = |score: &Score| ChatScore {
            token: score.text.clone(),
            logprob: score.logprob,
            bytes: score.text.clone().into_bytes(),
            top_logprobs: score.top.iter().map(likely).collect(),
        };
        Self { content: scores.iter().map(of_token).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn offsets_count_characters_and_the_likelier_of_two_tokens_with_one_text_is_told() {
        let score = |text: &str, logprob, top: &[(&str, f32)]| Score {
            text: text.into(),
            logprob,
            top: top.iter().map(|(text, logprob)| ((*text).into(), *logprob)).collect(),
        };
        let scores = [score("\u{e4}b", None, &[]), score("c", Some(-2.0), &[("x", -0.5), ("x", -1.0)])];
        let found = serde_json::to_value(CompletionScores::new(&scores, 3)).unwrap();
        let expected = json!({
            "tokens": ["\u{e4}b", "c"],
            "token_logprobs": [null, -2.0],
            "top_logprobs": [null, { "c": -2.0, "x": -0.5 }],
            "text_offset": [3, 5],
        });
        assert_eq!(found, expected);
        assert_eq!(finite(f32::NEG_INFINITY), f32::MIN);
    }
}
