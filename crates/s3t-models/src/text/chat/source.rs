//! The files that a chat template and its special tokens are read from.

use std::path::PathBuf;

use s3t_core::limits::{read_text_at_most, shown};
use serde_json::{Map, Value};

use super::ChatTemplate;
use crate::ModelError;
use crate::fields;
use crate::json_file::open_file;
use crate::model_file::ModelFile;

/// The file with a template alone; it takes precedence, as in `transformers`.
const FILE: &str = "chat_template.jinja";

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The special tokens that templates know by name.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The chat template of a model's folder. A template that cannot be used is no fault of a model that is not asked to chat, so it is
/// told when it is asked for.
pub(crate) enum ChatSource {
    /// A template.
    Ready(Box<ChatTemplate>),
    /// No template; the folder.
    Missing(PathBuf),
    /// A template that cannot be used: its file and the problem.
    Refused(PathBuf, String),
}

impl ChatSource {
    /// Reads the template, with the fields of `tokenizer_config.json` and `special_tokens_map.json`.
    pub(crate) fn read(file: &ModelFile, config: &Map<String, Value>, map: &Map<String, Value>) -> Self {
        let path = file.directory().join(FILE);
        let (path, source) = if path.exists() {
            let read = open_file(&path).and_then(|file| read_text_at_most(file, MAX_BYTES));
            (path, read.map_err(|error| error.to_string()))
        } else {
            let Some(value) = config.get("chat_template") else { return Self::Missing(file.directory().into()) };
            (file.directory().join(fields::TOKENIZER_CONFIG.file), of_field(value))
        };
        let token = |name: &&str| {
            let value = special(name, config, map)?;
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some(((*name).to_owned(), text.to_owned()))
        };
        let tokens: Vec<(String, String)> = TOKENS.iter().filter_map(token).collect();
        match source {
            Err(problem) => Self::Refused(path, problem),
            Ok(source) => match ChatTemplate::new(&path, source, &tokens) {
                Ok(template) => Self::Ready(Box::new(template)),
                Err(ModelError::ChatTemplate { path, problem }) => Self::Refused(path, problem),
                Err(other) => Self::Refused(path, other.to_string()),
            },
        }
    }

    /// The template.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ModelError> {
        match self {
            Self::Ready(template) => Ok(template),
            Self::Missing(folder) => Err(ModelError::NoChatTemplate { path: folder.join(FILE) }),
            Self::Refused(path, problem) => {
                Err(ModelError::ChatTemplate { path: path.clone(), problem: problem.clone() })
            }
        }
    }
}

/// The template of the field `chat_template`: a text, or of several by name the one that is named `default`.
fn of_field(value: &Value) -> Result<String, String> {
    let named: Vec<(&str, &Value)> = match value {
        Value::String(source) => return Ok(source.clone()),
        Value::Array(items) => {
            items.iter().map(|item| (item["name"].as_str().unwrap_or_default(), &item["template"])).collect()
        }
        Value::Object(fields) => fields.iter().map(|(name, source)| (name.as_str(), source)).collect(),
        _ => return Err("`chat_template` is neither a text nor a list of named texts".into()),
    };
    if let Some(source) = named.iter().find(|(name, _)| *name == "default").and_then(|(_, source)| source.as_str()) {
        return Ok(source.to_owned());
    }
    let names: Vec<String> = named.iter().take(8).map(|(name, _)| format!("`{}`", shown(name))).collect();
    Err(format!("`chat_template` has {}, but none named `default`, which is the one that is used", names.join(", ")))
}

/// A special token by its name. As in Python, the older `special_tokens_map.json` counts only where `added_tokens_decoder` is missing, and then
/// before `tokenizer_config.json`.
pub(crate) fn special<'a>(
    name: &str,
    config: &'a Map<String, Value>,
    map: &'a Map<String, Value>,
) -> Option<&'a Value> {
    let older = if config.contains_key("added_tokens_decoder") { None } else { map.get(name) };
    older.or_else(|| config.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_templates_the_default_one_is_used() {
        assert_eq!(of_field(&json!("a")), Ok("a".into()));
        let named = |name: &str| json!([{ "name": "tool_use", "template": "a" }, { "name": name, "template": "b" }]);
        assert_eq!(of_field(&named("default")), Ok("b".into()));
        assert_eq!(of_field(&json!({ "default": "c" })), Ok("c".into()));
        let message = of_field(&named("rag")).unwrap_err();
        assert!(message.contains("`tool_use`, `rag`, but none named `default`"), "{message}");
        assert!(of_field(&json!(7)).is_err());
    }
}
