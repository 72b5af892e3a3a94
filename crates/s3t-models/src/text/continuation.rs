//! Texts with a continuation that is scored, cut into tokens as one text.

use s3t_core::limits::{caught, shown};
use s3t_core::{Payload, Record, Target};

use super::{PADDING, TextEncoder, broken};
use crate::{Input, ModelError};

impl TextEncoder {
    /// The tokens of a record's text and of its target as one text: blanks at the end of the text belong to the target, and no end
    /// token follows. An empty text is the token that starts a text, or without such a token the one that ends a text.
    pub(crate) fn prepare_continuation<'a>(&self, record: &'a Record) -> Result<Input<'a>, ModelError> {
        let refuse = |found: String, expected: String| {
            Err(ModelError::WrongInput { record: record.id.to_string(), found, expected })
        };
        let (Payload::Text(text), Target::Text(target)) = (&record.payload, &record.target) else {
            let found = format!("{} with {}", record.payload.describe(), record.target.describe());
            return refuse(found, "a text and the text that follows it".into());
        };
        let encode = |text: &str, special: bool| -> Result<Vec<u32>, ModelError> {
            let failed = |problem: String| ModelError::WrongInput {
                record: record.id.to_string(),
                found: format!("text that cannot be cut into tokens ({problem})"),
                expected: "texts".into(),
            };
            self.limits.check_text(text.len()).map_err(|expected| ModelError::WrongInput {
                record: record.id.to_string(),
                found: "text that is too long".into(),
                expected,
            })?;
            let encoding = caught(|| self.parts.encode(text, special)).map_err(|panic| failed(broken(&panic)))?;
            Ok(encoding.map_err(|error| failed(shown(&error.to_string())))?.get_ids().to_vec())
        };
        let context = text.trim_end();
        let behind = format!("{}{target}", &text[context.len()..]);
        let mut ids = encode(context, true)?;
        if context.is_empty() && ids.is_empty() {
            ids.extend(self.ends.learnt);
        }
        let prompt = ids.len();
        if prompt == 0 {
            return refuse("empty text".into(), "texts: the model has no token that starts or ends one".into());
        }
        if context.is_empty() {
            ids.extend(encode(&behind, false)?);
        } else {
            ids = encode(&format!("{context}{behind}"), true)?;
        }
        if ids.len() <= prompt {
            let found = "continuation that makes no token of its own".into();
            return refuse(found, "continuations that add at least one token to their text".into());
        }
        if ids.len() > self.max_tokens {
            let found = format!("text of {} tokens with its continuation", ids.len());
            return refuse(found, format!("at most {} tokens", self.max_tokens));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.room.vocabulary) {
            let found = format!("text with token number {id}, for which the model has no embedding");
            return refuse(found, format!("tokens 0 to {}", self.room.vocabulary - 1));
        }
        let tokens = ids.len();
        let padded = tokens.next_multiple_of(PADDING);
        let targets = std::iter::once(prompt..tokens).collect();
        Ok(Input { record, ids, targets, types: Vec::new(), cut: 0, tokens, length: tokens, padded })
    }
}
