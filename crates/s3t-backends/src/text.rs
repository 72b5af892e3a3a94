//! Texts as tokens, by the model's own `tokenizer.json`.

use std::path::Path;

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, Payload, Record, Target};
use tokenizers::{Tokenizer, TruncationParams};

use crate::{BackendError, Input};

/// Texts are padded to a multiple of this many tokens where a record's bits must not depend on its neighbours.
const PADDING: usize = 8;

/// The most tokens of a record unless the pipeline says otherwise.
const DEFAULT_TOKENS: usize = 512;

/// The version of the library that cuts texts: another one may cut them otherwise.
pub(crate) const LIBRARY: &str = "tokenizers 0.23.2";

/// Cuts records into tokens.
pub(crate) struct TextEncoder {
    /// Whole texts: with special tokens, cut to `max_tokens`.
    whole: Tokenizer,
    /// The same without truncation, for the parts of an instruction.
    parts: Tokenizer,
    max_tokens: usize,
    ends: Vec<u32>,
    digest: Digest,
}

impl TextEncoder {
    /// Reads `tokenizer.json` for a model with this many embeddings and positions. The file's own truncation and padding
    /// are switched off: how long a record may be is the pipeline's choice.
    pub(crate) fn load(
        directory: &Path,
        vocabulary: usize,
        positions: usize,
        max_tokens: Option<usize>,
        ends: &[u32],
    ) -> Result<Self, BackendError> {
        let path = directory.join("tokenizer.json");
        let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
        let max_tokens = max_tokens.unwrap_or(positions.min(DEFAULT_TOKENS));
        if !(4..=positions).contains(&max_tokens) {
            return Err(BackendError::MaxTokens { asked: max_tokens, positions });
        }
        let bytes = std::fs::read(&path).map_err(|source| BackendError::Tokenizer { path: path.clone(), source })?;
        // Dropout of merges draws from a generator that no lineage seeds: the same text would have other tokens each time.
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if json["model"]["dropout"].as_f64().is_some_and(|share| share > 0.0) {
            return Err(refuse("its `model.dropout` makes tokens random; set it to null".into()));
        }
        let mut parts = Tokenizer::from_bytes(&bytes).map_err(|error| refuse(format!("not a tokenizer: {error}")))?;
        let largest = parts.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(refuse(format!(
                "it has tokens up to {largest}, but the model has embeddings for 0 to {}; they are not of one model",
                vocabulary - 1
            )));
        }
        parts.with_padding(None);
        let none = parts.with_truncation(None).map(drop);
        none.map_err(|error| refuse(error.to_string()))?;
        let mut whole = parts.clone();
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        whole.with_truncation(Some(truncation)).map_err(|error| refuse(error.to_string()))?;
        let mut digest = DigestBuilder::new("tokenizer");
        let digest = digest.bytes(LIBRARY.as_bytes()).bytes(&bytes).number(max_tokens as u64).finish();
        Ok(Self { whole, parts, max_tokens, ends: ends.to_vec(), digest })
    }

    /// The digest of the tokenizer and the most tokens of a record.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of a record: those of its text, and behind them those of a text that is to be learnt.
    pub(crate) fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, BackendError> {
        let refuse = |found: String, expected: String| {
            Err(BackendError::WrongInput { record: record.id.to_string(), found, expected })
        };
        let Payload::Text(text) = &record.payload else {
            return refuse(record.payload.describe(), "texts".into());
        };
        let failed = |error: tokenizers::Error| BackendError::WrongInput {
            record: record.id.to_string(),
            found: format!("text that cannot be cut into tokens ({error})"),
            expected: "texts".into(),
        };
        let (mut ids, prompt) = match &record.target {
            Target::Text(response) => {
                let mut ids = self.parts.encode(text.as_str(), true).map_err(failed)?.get_ids().to_vec();
                let prompt = ids.len();
                ids.extend(self.parts.encode(response.as_str(), false).map_err(failed)?.get_ids());
                ids.extend(self.ends.first());
                if ids.len() == prompt {
                    let expected = "responses of at least one token: the model has no token that ends a text".into();
                    return refuse("response without any token".into(), expected);
                }
                if prompt == 0 || prompt >= self.max_tokens {
                    let expected =
                        format!("prompts of 1 to {} tokens, so that a response follows", self.max_tokens - 1);
                    return refuse(format!("prompt of {prompt} tokens"), expected);
                }
                (ids, prompt)
            }
            _ => {
                let ids = self.whole.encode(text.as_str(), true).map_err(failed)?.get_ids().to_vec();
                let length = ids.len();
                (ids, length)
            }
        };
        ids.truncate(self.max_tokens);
        if ids.is_empty() {
            return refuse("text without any token".into(), "texts of at least one token".into());
        }
        let tokens = ids.len();
        Ok(Input { record, ids, prompt, tokens, padded: tokens.next_multiple_of(PADDING) })
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.parts.decode(ids, true).unwrap_or_default()
    }

    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// The ids of all inputs, padded with `padding` to `tokens` each, as one row.
pub(crate) fn padded_ids(inputs: &[&Input<'_>], tokens: usize, padding: u32) -> Vec<i32> {
    let row = |input: &&Input<'_>| {
        let own = input.ids.iter().map(|id| *id as i32);
        own.chain(std::iter::repeat_n(padding as i32, tokens - input.tokens)).collect::<Vec<_>>()
    };
    inputs.iter().flat_map(row).collect()
}
