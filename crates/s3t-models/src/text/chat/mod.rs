//! Chat templates: the text that a model was trained to read for a list of messages.
//!
//! A template is Jinja, set up as `apply_chat_template` of `transformers` sets it up: `trim_blocks`, `lstrip_blocks`, loop controls,
//! `raise_exception`, Python's JSON in `tojson`, and the special tokens of the tokenizer as variables. Two things differ, as a text
//! here is a function of the messages alone: `strftime_now` is not defined, so that a template that can do without today's date does,
//! and another one is refused; and the method `format` of texts is refused, as its widths have no limit.
//!
//! # Proof note
//!
//! *Before*: a template that anybody may have written. *After*: reading and rendering it ends within bounded time, memory and stack. *Why*:
//! the engine counts every instruction, every visited item and every byte it makes (`fuel`) and checks large allocations in advance;
//! filters and methods that escape the count are taken out; the source and each of its tags have a largest length; and both run on
//! a thread whose stack holds the deepest value and expression that source and fuel pay for.

mod engine;
mod json;
mod source;

use std::path::{Path, PathBuf};

use minijinja::value::Value;
use minijinja::{Environment, context};
use s3t_core::Digest;
use s3t_core::chat::Message;
use s3t_core::digest::DigestBuilder;

use crate::ModelError;

pub(crate) use source::{ChatSource, special};

/// The work that a rendering may take whatever the messages are.
const WORK: u64 = 200_000;

/// The work that a rendering may take at all.
const MOST_WORK: u64 = 1_000_000;

/// The name of the template in its environment.
const NAME: &str = "chat";

/// A model's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
    source: String,
    tokens: Value,
    digest: Digest,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chat template of {}", self.path.display())
    }
}

impl ChatTemplate {
    /// Compiles a template of a file, with special tokens by their names, such as `bos_token`.
    pub(super) fn new(path: &Path, source: String, tokens: &[(String, String)]) -> Result<Self, ModelError> {
        let refuse = |problem: String| ModelError::ChatTemplate { path: path.into(), problem };
        let runnable = engine::prepared(&source).map_err(refuse)?;
        let environment = engine::on_own_stack(|| engine::compiled(runnable)).and_then(|made| made).map_err(refuse)?;
        let mut digest = DigestBuilder::new("chat template");
        digest.bytes(engine::LIBRARY.as_bytes()).bytes(source.as_bytes()).number(tokens.len() as u64);
        for (name, token) in tokens {
            digest.bytes(name.as_bytes()).bytes(token.as_bytes());
        }
        let digest = digest.finish();
        let tokens = Value::from_pairs(tokens.iter().map(|(name, token)| (name.as_str(), token.as_str())));
        Ok(Self { environment, path: path.into(), source, tokens, digest })
    }

    /// The file that the template is written in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The template as it is written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The digest of everything that a rendered text depends on beside the messages.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The text of a chat; with `add_generation_prompt` it ends where the model's next message begins.
    ///
    /// # Errors
    ///
    /// [`ModelError::ChatTemplate`] if the template refuses these messages, uses what is not supported, or takes too much work.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ModelError> {
        let whole = self.prefixes(messages, &[(messages.len(), add_generation_prompt)], |_, _| true)?;
        Ok(whole.unwrap_or_default())
    }

    /// The text of a chat, and in turn the texts of its first messages: for each prefix so many of them, with or without a generation
    /// prompt. The first is handed back; `takes` is asked about it and each of the others, and the first that it does not take
    /// is the inner error.
    pub(crate) fn prefixes(
        &self,
        messages: &[Message],
        prefixes: &[(usize, bool)],
        mut takes: impl FnMut(&str, &str) -> bool + Send,
    ) -> Result<Result<String, (usize, bool)>, ModelError> {
        let refuse = |problem: String| ModelError::ChatTemplate { path: self.path.clone(), problem };
        if messages.is_empty() {
            return Err(refuse("it was given no messages; a chat has at least one".into()));
        }
        let rendered = |(count, prompt): (usize, bool)| self.rendered(&messages[..count], prompt);
        let texts = engine::on_own_stack(|| -> Result<_, String> {
            let Some((first, others)) = prefixes.split_first() else { return Ok(Ok(String::new())) };
            let whole = rendered(*first)?;
            for prefix in others {
                if !takes(&whole, &rendered(*prefix)?) {
                    return Ok(Err(*prefix));
                }
            }
            Ok(Ok(whole))
        });
        texts.and_then(|texts| texts).map_err(refuse)
    }

    fn rendered(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, String> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let work = WORK.saturating_add(1_000 * messages.len() as u64).saturating_add(bytes as u64 / 8);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(work.min(MOST_WORK)));
        let list: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.content.as_str() })
            .collect();
        let (tools, documents) = (Value::from(()), Value::from(()));
        let values = context! { messages => list, tools, documents, add_generation_prompt };
        let template = environment.get_template(NAME).map_err(|error| engine::problem(&error))?;
        template.render(context! { ..values, ..self.tokens.clone() }).map_err(|error| engine::problem(&error))
    }
}
