//! Texts as tokens, by the model's own `tokenizer.json`.

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, Payload, Record, Target};
use tokenizers::{Encoding, Tokenizer, TruncationDirection, TruncationParams};

use crate::huggingface::ModelFile;
use crate::{BackendError, Input, tokenizer_files};

/// Texts are padded to a multiple of this many tokens where a record's bits must not depend on its neighbours.
const PADDING: usize = 8;

/// The version of the library that cuts texts: another one may cut them otherwise.
pub(crate) const LIBRARY: &str = "tokenizers 0.23.2";

/// What a model has room for.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens that have an embedding.
    pub(crate) vocabulary: usize,
    /// Tokens of a text.
    pub(crate) positions: usize,
    /// Types of tokens; `None` for a model without them.
    pub(crate) types: Option<usize>,
}

/// Tokens with a meaning at the end of a text.
#[derive(Default)]
pub(crate) struct Ends {
    /// Those that a completion ends before.
    pub(crate) stops: Vec<u32>,
    /// The one that training puts behind a response.
    pub(crate) learnt: Option<u32>,
    /// The padding token, for a model whose head reads the last token that is another.
    pub(crate) padding: Option<u32>,
}

/// Cuts records into tokens.
pub(crate) struct TextEncoder {
    /// Whole texts: with special tokens, cut to the limit of the user.
    whole: Tokenizer,
    /// The same without truncation, for the parts of an instruction.
    parts: Tokenizer,
    /// The most tokens of a record.
    max_tokens: usize,
    /// Whether `max_tokens` is a limit of the user, to which texts are cut; otherwise longer ones are refused.
    cuts: bool,
    limits: Limits,
    ends: Ends,
    digest: Digest,
}

impl TextEncoder {
    /// Reads `tokenizer.json` and compares it with the files beside it. Its own truncation and padding are switched off: how
    /// long a record may be is the user's choice.
    pub(crate) fn load(file: &ModelFile, limits: Limits, ends: Ends) -> Result<Self, BackendError> {
        let path = file.directory.join("tokenizer.json");
        let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
        let cuts = file.options.max_tokens.is_some();
        let max_tokens = file.options.max_tokens.unwrap_or(limits.positions);
        if !(4..=limits.positions).contains(&max_tokens) {
            return Err(BackendError::MaxTokens { asked: max_tokens, positions: limits.positions });
        }
        let bytes = std::fs::read(&path).map_err(|source| BackendError::Tokenizer { path: path.clone(), source })?;
        // Dropout of merges draws from a generator that no lineage seeds: the same text would have other tokens each time.
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if json["model"]["dropout"].as_f64().is_some_and(|share| share > 0.0) {
            return Err(refuse("its `model.dropout` makes tokens random; set it to null".into()));
        }
        let mut parts = Tokenizer::from_bytes(&bytes).map_err(|error| refuse(format!("not a tokenizer: {error}")))?;
        // Tokens that were added to the vocabulary may be more than the model has embeddings for; a text with one is refused.
        let largest = parts.get_vocab(false).into_values().max().unwrap_or(0) as usize;
        if largest >= limits.vocabulary {
            return Err(refuse(format!(
                "it has tokens up to {largest}, but the model has embeddings for 0 to {}; they are not of one model",
                limits.vocabulary - 1
            )));
        }
        let side = tokenizer_files::check(file, &json, &parts)?;
        parts.with_padding(None);
        let none = parts.with_truncation(None).map(drop);
        none.map_err(|error| refuse(error.to_string()))?;
        let mut whole = parts.clone();
        if cuts {
            let direction = if side == Side::Left { TruncationDirection::Left } else { TruncationDirection::Right };
            let truncation = TruncationParams { max_length: max_tokens, direction, ..TruncationParams::default() };
            whole.with_truncation(Some(truncation)).map_err(|error| refuse(error.to_string()))?;
        }
        let mut digest = DigestBuilder::new("tokenizer");
        digest.bytes(LIBRARY.as_bytes()).bytes(&bytes).number(max_tokens as u64);
        if cuts && side == Side::Left {
            digest.bytes(b"left");
        }
        let digest = digest.finish();
        Ok(Self { whole, parts, max_tokens, cuts, limits, ends, digest })
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
        let failed = |error: tokenizers::Error| BackendError::WrongInput {
            record: record.id.to_string(),
            found: format!("text that cannot be cut into tokens ({error})"),
            expected: "texts".into(),
        };
        let encode = |tokenizer: &Tokenizer| match &record.payload {
            Payload::Text(text) => Some(tokenizer.encode(text.as_str(), true)),
            Payload::TextPair(first, second) => Some(tokenizer.encode((first.as_str(), second.as_str()), true)),
            _ => None,
        };
        let whole = if matches!(record.target, Target::Text(_)) { &self.parts } else { &self.whole };
        let Some(encoding) = encode(whole) else {
            return refuse(record.payload.describe(), "texts".into());
        };
        let encoding = encoding.map_err(failed)?;
        let mut cut = encoding.get_overflowing().iter().map(own_tokens).sum::<usize>();
        let mut types = self.types(&encoding);
        let mut ids = encoding.get_ids().to_vec();
        let prompt = ids.len();
        if let Target::Text(response) = &record.target {
            ids.extend(self.parts.encode(response.as_str(), false).map_err(failed)?.get_ids());
            ids.extend(self.ends.learnt);
            if ids.len() == prompt {
                let expected = "responses of at least one token: the model has no token that ends a text".into();
                return refuse("response without any token".into(), expected);
            }
            if prompt == 0 || prompt >= self.max_tokens {
                let expected = format!("prompts of 1 to {} tokens, so that a response follows", self.max_tokens - 1);
                return refuse(format!("prompt of {prompt} tokens"), expected);
            }
        }
        if ids.len() > self.max_tokens {
            if !self.cuts {
                let expected = format!(
                    "texts of at most {} tokens; `model.max_tokens` or `--max-tokens` cuts longer ones to a limit",
                    self.max_tokens
                );
                return refuse(format!("text of {} tokens", ids.len()), expected);
            }
            cut += ids.len() - self.max_tokens;
            ids.truncate(self.max_tokens);
            types.truncate(self.max_tokens);
        }
        if ids.is_empty() {
            return refuse("text without any token".into(), "texts of at least one token".into());
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.limits.vocabulary) {
            let token = self.parts.id_to_token(*id).unwrap_or_default();
            let found = format!("text with the token `{token}` (number {id}), for which the model has no embedding");
            return refuse(found, format!("tokens 0 to {}", self.limits.vocabulary - 1));
        }
        if let (Some(known), Some(kind)) = (self.limits.types, types.iter().find(|kind| !self.has_type(**kind))) {
            let found = format!("text with tokens of type {kind}, as those of the second of a pair");
            return refuse(found, format!("tokens of {known} types, from 0 (`type_vocab_size`)"));
        }
        let tokens = ids.len();
        // The head reads the last token that is not padding; of padding alone, the first.
        let is_own = |id: &u32| Some(*id) != self.ends.padding;
        let length = ids.iter().rposition(is_own).unwrap_or(0) + 1;
        let padded = tokens.next_multiple_of(PADDING);
        Ok(Input { record, ids, prompt: prompt.min(tokens), types, cut, tokens, length, padded })
    }

    /// The types of the tokens; none where all are 0, or the model has no types.
    fn types(&self, encoding: &Encoding) -> Vec<u32> {
        let types = encoding.get_type_ids();
        let has_types = self.limits.types.is_some() && types.iter().any(|kind| *kind != 0);
        if has_types { types.to_vec() } else { Vec::new() }
    }

    fn has_type(&self, kind: u32) -> bool {
        self.limits.types.is_none_or(|known| (kind as usize) < known)
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.parts.decode(ids, true).unwrap_or_default()
    }

    /// The tokens that a completion ends before.
    pub(crate) fn stops(&self) -> &[u32] {
        &self.ends.stops
    }
}

/// The side of a text that a limit cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The tokens of a text itself, without those that the tokenizer puts around it.
fn own_tokens(encoding: &Encoding) -> usize {
    encoding.get_special_tokens_mask().iter().filter(|special| **special == 0).count()
}

/// The ids of all inputs, padded with `padding` to `tokens` each, as one row.
pub(crate) fn padded_ids(inputs: &[&Input<'_>], tokens: usize, padding: u32) -> Vec<i32> {
    let row = |input: &&Input<'_>| {
        let own = input.ids.iter().map(|id| *id as i32);
        own.chain(std::iter::repeat_n(padding as i32, tokens - input.tokens)).collect::<Vec<_>>()
    };
    inputs.iter().flat_map(row).collect()
}
