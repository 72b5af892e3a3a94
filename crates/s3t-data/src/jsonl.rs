use std::path::{Path, PathBuf};

use s3t_core::{Limits, Record, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::csv_file::label;
use crate::input::check_columns;
use crate::rows::{Columns, Content, content, each_jsonl, quoted, records};
use crate::{DataError, Targets};

/// Text or feature records from a file with one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlSource {
    /// The file; a name ending in `.gz` is decompressed.
    pub file: PathBuf,
    /// The key of what is learnt: a class name, or its index where no class name is a number; for `multi-label` a list of them; for
    /// `regression` a number; for `causal-lm` the text that follows.
    #[serde(default = "label")]
    pub label: String,
    /// The key of the record id; without it ids are `row-0`, `row-1`, ...
    #[serde(default)]
    pub id: Option<String>,
    /// The key of the subject; null or an empty text is no subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// The key of the text. Give one of this, `template` and `features`.
    #[serde(default)]
    pub text: Option<String>,
    /// The key of the second text of a pair, such as a passage that answers a question.
    #[serde(default)]
    pub text_pair: Option<String>,
    /// A text made of several keys: `{name}` stands for a key, `{{` for a brace. Give one of this, `text` and `features`.
    #[serde(default)]
    pub template: Option<String>,
    /// The key of the list of numbers. Give one of this, `text` and `template`.
    #[serde(default)]
    pub features: Option<String>,
    /// The key of a chat, a list of messages with `role` (`system`, `user` or `assistant`) and `content`, for `causal-lm`. The model's chat
    /// template makes its text, and the assistant's messages are learnt, so `label` is not read.
    #[serde(default)]
    pub messages: Option<String>,
    /// Has to be false: with packing, which joins chats to fill a sequence, records would share sequences.
    #[serde(default)]
    pub packing: bool,
}

impl JsonlSource {
    pub(crate) fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        let path = base_dir.join(&self.file);
        // What is learnt of a chat stands in it.
        let label = if self.messages.is_some() { None } else { Some(self.label.as_str()) };
        let columns = Columns { label, id: self.id.as_deref(), subject: self.subject.as_deref() };
        self.check_chats(&path, targets)?;
        // The numbers are under one key, in a list of their own.
        let keys = self.features.as_ref().map(std::slice::from_ref);
        let (text, pair, template) = (self.text.as_deref(), self.text_pair.as_deref(), self.template.as_deref());
        let content = match &self.messages {
            Some(messages) => Content::Chat(messages),
            None => content(&path, text, pair, template, keys)?,
        };
        let limits = &targets.limits;
        let mut length = None;
        records(
            &path,
            |visit| each_jsonl(&path, limits, visit),
            &columns,
            targets,
            |row, _| Ok(format!("row-{row}")),
            |row| {
                content.payload(row, limits, |keys| {
                    let values = numbers(&keys[0], row.required(&keys[0])?, limits)?;
                    let (this, first) = (values.len(), *length.get_or_insert(values.len()));
                    if this != first {
                        return Err(format!("has {this} features, but the first record has {first}"));
                    }
                    Ok(values)
                })
            },
        )
    }
}

impl JsonlSource {
    /// Checks that a chat is the only content, and that the task learns from chats.
    fn check_chats(&self, path: &Path, targets: &Targets<'_>) -> Result<(), DataError> {
        let refuse = |problem: String| Err(DataError::file(path, problem));
        if self.packing {
            let problem = "has `packing = true`, which joins records to fill a sequence: a record would then change what is learnt of \
                           its neighbours, and a deletion would reach all of them. Leave it out; `training.batch_tokens` fills batches \
                           without joining records";
            return refuse(problem.into());
        }
        if self.messages.is_none() {
            return Ok(());
        }
        let others = [
            ("text", self.text.is_some()),
            ("text_pair", self.text_pair.is_some()),
            ("template", self.template.is_some()),
            ("features", self.features.is_some()),
        ];
        if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
            return refuse(format!("has `messages` and `{other}`; a chat is the whole content, so give one of them"));
        }
        match targets.task {
            Task::CausalLm => Ok(()),
            task => {
                refuse(format!("has `messages`, which task `causal-lm` learns from, but the task is `{}`", task.name()))
            }
        }
    }
}

pub(crate) fn numbers(key: &str, value: &Value, limits: &Limits) -> Result<Vec<f32>, String> {
    let list = value.as_array().ok_or_else(|| format!("`{key}` is not a list of numbers"))?;
    check_columns(list.len(), limits)?;
    let number = |value: &Value| {
        let number = value.as_f64().map(|value| value as f32).filter(|value| value.is_finite());
        number.ok_or_else(|| format!("`{key}` holds {}, not a finite number", quoted(value)))
    };
    list.iter().map(number).collect()
}
