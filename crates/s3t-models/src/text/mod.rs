//! Texts as tokens, by the model's own `tokenizer.json`.

mod beside;
mod chat;
mod chats;
mod class;
mod continuation;
mod prompts;
mod tokenizer_file;

use s3t_core::digest::DigestBuilder;
use s3t_core::limits::{caught, read_at_most, shown};
use s3t_core::{Digest, Limits, Payload, Record, Target};
use serde_json::{Map, Value};
use tokenizers::{Encoding, Tokenizer, TruncationDirection, TruncationParams};

use self::beside::Beside;
use self::chat::ChatSource;
use self::tokenizer_file::TokenizerFile;
use crate::checks::{MIN_TOKENS, token_ids};
use crate::json_file::{open_file, read_json};
use crate::model_file::ModelFile;
use crate::{FieldError, Input, ModelError, fields};

pub use chat::ChatTemplate;

/// Texts are padded to a multiple of this many tokens where a record's bits must not depend on its neighbours.
const PADDING: usize = 8;

/// The version of the library that cuts texts: another one may cut them otherwise.
const LIBRARY: &str = "tokenizers 0.23.2";

/// The message for a panic of the library that reads and uses the file.
fn broken(panic: &str) -> String {
    format!("`tokenizer.json` is not one that can be used: the library that reads it failed with \"{panic}\"")
}

/// The room of a model for texts.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The number of tokens that have an embedding.
    pub vocabulary: usize,
    /// The largest number of tokens of a text.
    pub positions: usize,
    /// The number of types of tokens; `None` for a model without them.
    pub types: Option<usize>,
}

/// Tokens with a meaning at the end of a text.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// The tokens that a completion ends before.
    pub stops: Vec<u32>,
    /// The token that training puts behind a response.
    pub learnt: Option<u32>,
    /// The padding token, for a model whose head reads the last token that is another.
    pub padding: Option<u32>,
}

impl Ends {
    /// The ends of a model that continues texts. Completions end before the tokens of `generation_config.json`, as in `generate` of
    /// Python, or without that file before those of `eos_token_id` of `config.json`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] naming the file for a field of `generation_config.json` that cannot be used.
    pub fn of_causal(file: &ModelFile, eos_token_ids: &[u32], padding: Option<u32>) -> Result<Self, ModelError> {
        Ok(Self { stops: stops(file, eos_token_ids)?, learnt: eos_token_ids.first().copied(), padding })
    }
}

/// The tokens that a completion ends before.
fn stops(file: &ModelFile, of_model: &[u32]) -> Result<Vec<u32>, ModelError> {
    let path = file.directory().join(fields::GENERATION.file);
    if !path.exists() {
        // `generate` of Python takes what config.json says of generation then.
        fields::GENERATION
            .check_known(file.fields(), &file.options().accept_fields)
            .map_err(|error| file.refuse(error))?;
        return Ok(of_model.to_vec());
    }
    let generation: Map<String, Value> = read_json(&path, &file.options().limits)?;
    let refuse = |error: FieldError| ModelError::Field { path: path.clone(), error };
    fields::GENERATION.check(&generation, &file.options().accept_fields).map_err(refuse)?;
    token_ids("eos_token_id", generation.get("eos_token_id").unwrap_or(&Value::Null)).map_err(refuse)
}

/// The encoder that cuts records into tokens.
pub struct TextEncoder {
    /// Whole texts: with special tokens, cut to the limit of the user.
    whole: Tokenizer,
    /// The same without truncation, for the parts of an instruction.
    parts: Tokenizer,
    /// The largest number of tokens of a record.
    max_tokens: usize,
    /// True if `max_tokens` is a limit of the user, to which texts are cut; otherwise longer ones are refused.
    cuts: bool,
    room: Room,
    limits: Limits,
    ends: Ends,
    chat: ChatSource,
    /// True if records may be chats that are learnt from.
    chats: bool,
    /// True if the tokens of the second text of a pair get a type of their own.
    types: bool,
    digest: Digest,
}

impl TextEncoder {
    /// Reads `tokenizer.json` and compares it with the files beside it. Its own truncation and padding are switched off: how
    /// long a record may be is the user's choice.
    pub(crate) fn load(file: &ModelFile, room: Room, ends: Ends) -> Result<Self, ModelError> {
        let limits = file.options().limits;
        let path = file.directory().join("tokenizer.json");
        let refuse = |problem: String| ModelError::Config { path: path.clone(), problem };
        let cuts = file.options().max_tokens.is_some();
        let max_tokens = file.options().max_tokens.unwrap_or(room.positions);
        if !(MIN_TOKENS..=room.positions).contains(&max_tokens) {
            return Err(ModelError::MaxTokens { asked: max_tokens, positions: room.positions });
        }
        let read = open_file(&path).and_then(|file| read_at_most(file, Limits::megabytes(limits.tokenizer_mb)));
        let bytes = read.map_err(|cause| ModelError::Tokenizer { path: path.clone(), cause })?;
        limits.check_json(&bytes).map_err(refuse)?;
        TokenizerFile::check(&bytes).map_err(refuse)?;
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let beside = Beside::read(file, &json)?;
        let rebuilt = beside.rebuilt(&json)?;
        let parsed = caught(|| match &rebuilt {
            Some(rebuilt) => Tokenizer::from_bytes(rebuilt.to_string()),
            None => Tokenizer::from_bytes(&bytes),
        });
        let parsed = parsed.map_err(|panic| refuse(broken(&panic)))?;
        let mut parts = parsed.map_err(|error| refuse(format!("not a tokenizer: {}", shown(&error.to_string()))))?;
        // Tokens that were added to the vocabulary may be more than the model has embeddings for; a text with one is refused.
        let largest = parts.get_vocab(false).into_values().max().unwrap_or(0) as usize;
        if largest >= room.vocabulary {
            return Err(refuse(format!(
                "it has tokens up to {largest}, but the model has embeddings for 0 to {}; they are not of one model",
                room.vocabulary - 1
            )));
        }
        parts.with_padding(None);
        let differs = rebuilt.as_ref().map(|built| format!("{}{}", built["pre_tokenizer"], built["decoder"]));
        json = rebuilt.unwrap_or(json);
        let side = caught(|| beside.check(file, &json, &parts)).map_err(|panic| refuse(broken(&panic)))??;
        let truncation = cuts.then(|| TruncationParams {
            max_length: max_tokens,
            direction: if side == Side::Left { TruncationDirection::Left } else { TruncationDirection::Right },
            ..TruncationParams::default()
        });
        let whole = caught(|| {
            parts.with_truncation(None)?;
            let mut whole = parts.clone();
            whole.with_truncation(truncation)?;
            Ok::<_, tokenizers::Error>(whole)
        });
        let whole = whole.map_err(|panic| refuse(broken(&panic)))?.map_err(|error| refuse(error.to_string()))?;
        let (chat, chats) = (beside.chat(file), file.options().chats);
        let mut digest = DigestBuilder::new("tokenizer");
        digest.bytes(LIBRARY.as_bytes()).bytes(&bytes).number(max_tokens as u64);
        if cuts && side == Side::Left {
            digest.bytes(b"left");
        }
        // A tokenizer that counts as it is keeps the digest that it had before classes were followed.
        if let Some(parts) = differs {
            digest.bytes(parts.as_bytes());
        }
        // Where a class passes no types on, the second text of a pair is another input than the tokenizer makes of it.
        let has_types = || match caught(|| parts.encode(("a", "a"), true)) {
            Ok(Ok(pair)) => pair.is_empty() || pair.get_type_ids().contains(&1),
            _ => true,
        };
        if room.types.is_some() && !beside.class.types && has_types() {
            digest.bytes(b"no types");
        }
        // The template makes texts of records only where records are chats, and leaves the digests of other systems as they were.
        if chats {
            digest.bytes(b"chat").digest(&chat.template()?.digest());
        }
        let digest = digest.finish();
        Ok(Self { whole, parts, max_tokens, cuts, room, limits, ends, chat, chats, types: beside.class.types, digest })
    }

    /// The digest of the tokenizer and of the largest number of tokens of a record.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The model's chat template.
    pub(crate) fn chat_template(&self) -> Result<&ChatTemplate, ModelError> {
        self.chat.template()
    }

    /// The largest number of tokens of a record.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of a record: those of its text, and behind them those of a text that is to be learnt.
    pub(crate) fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, ModelError> {
        let refuse = |found: String, expected: String| {
            Err(ModelError::WrongInput { record: record.id.to_string(), found, expected })
        };
        let failed = |why: &str| ModelError::WrongInput {
            record: record.id.to_string(),
            found: format!("text that cannot be cut into tokens ({why})"),
            expected: "texts".into(),
        };
        let tokens = |encode: &dyn Fn() -> tokenizers::Result<Encoding>| {
            let encoding = caught(encode).map_err(|panic| failed(&broken(&panic)))?;
            encoding.map_err(|error| failed(&shown(&error.to_string())))
        };
        let fits = |text: &str| {
            self.limits.check_text(text.len()).map_err(|problem| ModelError::WrongInput {
                record: record.id.to_string(),
                found: "text that is too long".into(),
                expected: problem,
            })
        };
        let encode = |tokenizer: &Tokenizer| match &record.payload {
            Payload::Text(text) => Some(fits(text).and_then(|()| tokens(&|| tokenizer.encode(text.as_str(), true)))),
            Payload::TextPair(first, second) => {
                let pair = || tokenizer.encode((first.as_str(), second.as_str()), true);
                Some(fits(first).and_then(|()| fits(second)).and_then(|()| tokens(&pair)))
            }
            _ => None,
        };
        let (mut ids, mut types, mut cut, mut targets) = match (&record.payload, &record.target) {
            (Payload::Messages(messages), Target::Turns) => {
                if !self.chats {
                    let expected = "texts; chats are learnt from where `messages` of `data.train` names them";
                    return refuse(record.payload.describe(), expected.into());
                }
                let (ids, targets) = self.learnt_chat(record, messages)?;
                (ids, Vec::new(), 0, targets)
            }
            (Payload::Messages(messages), _) => (self.asked_chat(record, messages)?, Vec::new(), 0, Vec::new()),
            _ => {
                let whole = if matches!(record.target, Target::Text(_)) { &self.parts } else { &self.whole };
                let Some(encoding) = encode(whole) else {
                    return refuse(record.payload.describe(), "texts".into());
                };
                let encoding = encoding?;
                let cut = encoding.get_overflowing().iter().map(own_tokens).sum::<usize>();
                (encoding.get_ids().to_vec(), self.types(&encoding), cut, Vec::new())
            }
        };
        if let Target::Text(response) = &record.target {
            let prompt = ids.len();
            fits(response)?;
            ids.extend(tokens(&|| self.parts.encode(response.as_str(), false))?.get_ids());
            ids.extend(self.ends.learnt);
            if ids.len() == prompt {
                let expected = "responses of at least one token: the model has no token that ends a text".into();
                return refuse("response without any token".into(), expected);
            }
            targets.push(prompt..ids.len());
        }
        if let Some(prompt) =
            targets.first().map(|range| range.start).filter(|prompt| !(1..self.max_tokens).contains(prompt))
        {
            let expected = format!("prompts of 1 to {} tokens, so that a response follows", self.max_tokens - 1);
            return refuse(format!("prompt of {prompt} tokens"), expected);
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
            targets.retain(|range| range.start < self.max_tokens);
            if let Some(last) = targets.last_mut() {
                last.end = last.end.min(self.max_tokens);
            }
        }
        if ids.is_empty() {
            return refuse("text without any token".into(), "texts of at least one token".into());
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.room.vocabulary) {
            let token = self.parts.id_to_token(*id).unwrap_or_default();
            let found = format!("text with the token `{token}` (number {id}), for which the model has no embedding");
            return refuse(found, format!("tokens 0 to {}", self.room.vocabulary - 1));
        }
        if let (Some(known), Some(kind)) = (self.room.types, types.iter().find(|kind| !self.has_type(**kind))) {
            let found = format!("text with tokens of type {kind}, as those of the second of a pair");
            return refuse(found, format!("tokens of {known} types, from 0 (`type_vocab_size`)"));
        }
        let tokens = ids.len();
        // The head reads the last token that is not padding; of padding alone, the first.
        let is_own = |id: &u32| Some(*id) != self.ends.padding;
        let length = ids.iter().rposition(is_own).unwrap_or(0) + 1;
        let padded = tokens.next_multiple_of(PADDING);
        Ok(Input { record, ids, targets, types, cut, tokens, length, padded })
    }

    /// The types of the tokens; empty if all are 0, or the model has no types.
    fn types(&self, encoding: &Encoding) -> Vec<u32> {
        let types = encoding.get_type_ids();
        let has_types = self.types && self.room.types.is_some() && types.iter().any(|kind| *kind != 0);
        if has_types { types.to_vec() } else { Vec::new() }
    }

    fn has_type(&self, kind: u32) -> bool {
        self.room.types.is_none_or(|known| (kind as usize) < known)
    }

    /// The text of tokens, without special tokens.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        caught(|| self.parts.decode(ids, true)).ok().and_then(Result::ok).unwrap_or_default()
    }

    /// The number of a special token.
    pub(crate) fn special_token(&self, text: &str) -> Option<u32> {
        let is_special = self.parts.get_added_vocabulary().is_special_token(text);
        self.parts.token_to_id(text).filter(|_| is_special)
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

#[cfg(test)]
mod tests {
    use super::LIBRARY;

    #[test]
    fn the_library_in_digests_is_the_linked_version() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{LIBRARY}");
    }
}
