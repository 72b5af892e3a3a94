//! The choice of the next token, as the asker wants it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GenerateError;

/// The choice of tokens, with the names and the meaning that they have in `transformers` and OpenAI's interface.
///
/// ```
/// use s3t_generate::Sampling;
///
/// let greedy = Sampling { max_tokens: 20, ..Sampling::default() };
/// assert!(greedy.check().is_ok());
/// let refused = Sampling { top_p: 1.5, ..greedy }.check().unwrap_err();
/// assert_eq!(refused.to_string(), "`top_p` is 1.5; it takes a number above 0, up to 1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// The largest number of tokens behind the prompt.
    pub max_tokens: usize,
    /// Divides the logits before a token is drawn; with 0 the likeliest token is taken.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability are drawn from (Holtzman et al. 2020, arXiv 1904.09751).
    pub top_p: f32,
    /// Only tokens with at least this share of the likeliest token's probability are drawn from (Nguyen et al. 2024, arXiv 2407.01082).
    pub min_p: f32,
    /// Divides positive logits of tokens that the text has, and multiplies negative ones (Keskar et al. 2019, arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that were made, for each time.
    pub frequency_penalty: f32,
    /// Subtracted from the logits of tokens that were made.
    pub presence_penalty: f32,
    /// Added to the logits of tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// The seed of the draws: the same seed gives the same text, whatever is asked beside it.
    pub seed: u64,
    /// Texts before which the made text ends. The text of a special token stands for the token.
    pub stop: Vec<String>,
    /// Tokens before which the made text ends, beside those of the model.
    pub stop_token_ids: Vec<u32>,
    /// `true` if the text goes on behind the tokens that end a text of this model.
    pub ignore_eos: bool,
    /// The log-probabilities that are told of each made token: its own, and those of so many of the likeliest; `None` for none.
    pub logprobs: Option<usize>,
    /// `true` if the log-probabilities of the prompt's tokens are told too.
    pub prompt_logprobs: bool,
}

/// The largest number of stop texts.
const MAX_STOPS: usize = 16;

/// The largest number of the likeliest tokens that are told.
const MAX_LOGPROBS: usize = 20;

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 64,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            prompt_logprobs: false,
        }
    }
}

impl Sampling {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Setting`] naming the first setting out of its range.
    pub fn check(&self) -> Result<(), GenerateError> {
        let number = |field, value: f32, fits: bool, expected| {
            if fits { Ok(()) } else { Err(GenerateError::Setting { field, found: value.to_string(), expected }) }
        };
        let penalty = |value: f32| (-2.0..=2.0).contains(&value);
        number("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "0 to 100")?;
        number("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "a number above 0, up to 1")?;
        number("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1")?;
        let repetition = self.repetition_penalty;
        let fits = repetition > 0.0 && repetition.is_finite();
        number("repetition_penalty", repetition, fits, "a number above 0")?;
        number("frequency_penalty", self.frequency_penalty, penalty(self.frequency_penalty), "-2 to 2")?;
        number("presence_penalty", self.presence_penalty, penalty(self.presence_penalty), "-2 to 2")?;
        for bias in self.logit_bias.values() {
            number("logit_bias", *bias, (-100.0..=100.0).contains(bias), "-100 to 100 for each token")?;
        }
        let count = |field, value: usize, fits: bool, expected| {
            if fits { Ok(()) } else { Err(GenerateError::Setting { field, found: value.to_string(), expected }) }
        };
        count("stop", self.stop.len(), self.stop.len() <= MAX_STOPS, "up to 16 texts")?;
        let empty = self.stop.iter().any(String::is_empty);
        count("stop", 0, !empty, "texts of at least one character")?;
        let told = self.logprobs.unwrap_or(0);
        count("logprobs", told, told <= MAX_LOGPROBS, "0 to 20")
    }
}
