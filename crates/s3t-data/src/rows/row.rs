//! A row of a table or of JSON lines.

use std::borrow::Cow;

use s3t_core::limits::shown;
use s3t_core::registry::unknown;
use s3t_core::{Limits, Message, Payload, Role};
use serde_json::{Map, Value};

/// A row of a file: its values by column, and its line.
pub struct Row {
    /// The line, from 1.
    pub line: u64,
    pub(super) values: Map<String, Value>,
}

impl Row {
    /// The names of its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A value that must be there.
    ///
    /// # Errors
    ///
    /// The missing column, in words, with those that are there.
    pub fn required(&self, column: &str) -> Result<&Value, String> {
        self.values.get(column).ok_or_else(|| {
            let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
            unknown(&format!("column `{}`", shown(column)), column, &known)
        })
    }

    /// A text that must be there.
    ///
    /// # Errors
    ///
    /// The problem with the column, in words.
    pub fn text(&self, column: &str) -> Result<&str, String> {
        let value = self.required(column)?;
        value.as_str().ok_or_else(|| format!("`{column}` is {}, not a text", quoted(value)))
    }

    /// An id: a text, or in JSON a whole number.
    ///
    /// # Errors
    ///
    /// The problem with the column, in words.
    pub fn id(&self, column: &str) -> Result<Cow<'_, str>, String> {
        match self.required(column)? {
            Value::String(text) => Ok(text.into()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Ok(number.to_string().into()),
            other => Err(format!("`{column}` is {}, not an id", quoted(other))),
        }
    }

    /// A list of texts that must be there.
    ///
    /// # Errors
    ///
    /// The problem with the column, in words.
    pub fn texts(&self, column: &str) -> Result<Vec<String>, String> {
        let value = self.required(column)?;
        let refuse = || format!("`{column}` is {}, not a list of texts", quoted(value));
        let texts = value.as_array().ok_or_else(refuse)?.iter().map(|text| text.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(refuse)
    }

    /// Two texts that must be there and are not too long.
    pub(crate) fn text_pair(&self, first: &str, second: &str, limits: &Limits) -> Result<Payload, String> {
        Ok(Payload::TextPair(self.short_text(first, limits)?.to_owned(), self.short_text(second, limits)?.to_owned()))
    }

    /// A list of messages that are not too long together.
    pub(crate) fn chat(&self, column: &str, limits: &Limits) -> Result<Vec<Message>, String> {
        let messages = Message::list(self.required(column)?).map_err(|problem| format!("`{column}`: {problem}"))?;
        limits.check_text(messages.iter().map(|message| message.content.len()).sum())?;
        Ok(messages)
    }

    /// A chat in which the assistant answers.
    pub(crate) fn answered_chat(&self, column: &str, limits: &Limits) -> Result<Payload, String> {
        let messages = self.chat(column, limits)?;
        match messages.iter().position(|message| message.role == Role::Assistant) {
            Some(0) => Err(format!("`{column}`: begins with the assistant, who has nothing to answer")),
            Some(_) => Ok(Payload::Messages(messages)),
            None => Err(format!("`{column}`: has no message of the assistant, so that nothing is learnt of it")),
        }
    }

    /// A text that must be there and is not too long.
    pub(crate) fn short_text(&self, column: &str, limits: &Limits) -> Result<&str, String> {
        let text = self.text(column)?;
        limits.check_text(text.len())?;
        Ok(text)
    }
}

/// A value as a message quotes it.
pub(crate) fn quoted(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(fields) if fields.len() > 8 => format!("an object of {} keys", fields.len()),
        other => shown(&other.to_string()),
    }
}
