//! Texts as tokens, by the model's own `tokenizer.json`.

use std::fs::File;
use std::path::Path;

use s3t_core::digest::DigestBuilder;
use s3t_core::limits::{caught, read_at_most, shown};
use s3t_core::{Digest, Limits, Payload, Record, Target};
use tokenizers::{Tokenizer, TruncationParams};

use crate::tokenizer_file::TokenizerFile;
use crate::{BackendError, Input, LoadOptions};

/// Texts are padded to a multiple of this many tokens where a record's bits must not depend on its neighbours.
const PADDING: usize = 8;

/// The most tokens of a record unless the pipeline says otherwise.
const DEFAULT_TOKENS: usize = 512;

/// The version of the library that cuts texts: another one may cut them otherwise.
pub(crate) const LIBRARY: &str = "tokenizers 0.23.2";

/// What a panic of the library that reads and uses the file means.
fn broken(panic: &str) -> String {
    format!("`tokenizer.json` is not one that can be used: the library that reads it failed with \"{panic}\"")
}

/// Cuts records into tokens.
pub(crate) struct TextEncoder {
    /// Whole texts: with special tokens, cut to `max_tokens`.
    whole: Tokenizer,
    /// The same without truncation, for the parts of an instruction.
    parts: Tokenizer,
    max_tokens: usize,
    limits: Limits,
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
        options: LoadOptions,
        ends: &[u32],
    ) -> Result<Self, BackendError> {
        let LoadOptions { max_tokens, limits } = options;
        let path = directory.join("tokenizer.json");
        let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
        let max_tokens = max_tokens.unwrap_or(positions.min(DEFAULT_TOKENS));
        if !(4..=positions).contains(&max_tokens) {
            return Err(BackendError::MaxTokens { asked: max_tokens, positions });
        }
        let read = File::open(&path).and_then(|file| read_at_most(file, Limits::megabytes(limits.tokenizer_mb)));
        let bytes = read.map_err(|source| BackendError::Tokenizer { path: path.clone(), source })?;
        limits.check_json(&bytes).map_err(refuse)?;
        TokenizerFile::check(&bytes).map_err(refuse)?;
        let parsed = caught(|| Tokenizer::from_bytes(&bytes)).map_err(|panic| refuse(broken(&panic)))?;
        let mut parts = parsed.map_err(|error| refuse(format!("not a tokenizer: {}", shown(&error.to_string()))))?;
        let largest = parts.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(refuse(format!(
                "it has tokens up to {largest}, but the model has embeddings for 0 to {}; they are not of one model",
                vocabulary - 1
            )));
        }
        parts.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        let whole = caught(|| {
            parts.with_truncation(None)?;
            let mut whole = parts.clone();
            whole.with_truncation(Some(truncation))?;
            Ok::<_, tokenizers::Error>(whole)
        });
        let whole = whole.map_err(|panic| refuse(broken(&panic)))?.map_err(|error| refuse(error.to_string()))?;
        let mut digest = DigestBuilder::new("tokenizer");
        let digest = digest.bytes(LIBRARY.as_bytes()).bytes(&bytes).number(max_tokens as u64).finish();
        Ok(Self { whole, parts, max_tokens, limits, ends: ends.to_vec(), digest })
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
        let encode = |tokenizer: &Tokenizer, text: &str, special: bool| {
            let refuse = |found: String, expected: &str| BackendError::WrongInput {
                record: record.id.to_string(),
                found,
                expected: expected.into(),
            };
            self.limits.check_text(text.len()).map_err(|problem| refuse("text that is too long".into(), &problem))?;
            let cannot = |why: &str| refuse(format!("text that cannot be cut into tokens ({why})"), "texts");
            let encoding = caught(|| tokenizer.encode(text, special)).map_err(|panic| cannot(&broken(&panic)))?;
            Ok(encoding.map_err(|error| cannot(&shown(&error.to_string())))?.get_ids().to_vec())
        };
        let (mut ids, prompt) = match &record.target {
            Target::Text(response) => {
                let mut ids = encode(&self.parts, text, true)?;
                let prompt = ids.len();
                ids.extend(encode(&self.parts, response, false)?);
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
                let ids = encode(&self.whole, text, true)?;
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
        caught(|| self.parts.decode(ids, true)).ok().and_then(Result::ok).unwrap_or_default()
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
