//! The places of a pipeline's keys in its file, for messages.

use s3t_core::CoreError;
use serde::de::DeserializeOwned;
use toml::Value;

use crate::error::EngineError;
use crate::section::Section;

/// The text of a pipeline file, to find the lines of its keys.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Lines {
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> EngineError {
        let file = if self.file.is_empty() { format!("pipeline `{key}`") } else { self.file.clone() };
        EngineError::Pipeline { file, line: self.line(key), key: key.to_owned(), problem: problem.into() }
    }

    /// A core error at the key that it names inside a section.
    pub(crate) fn refuse_core(&self, section: Section, error: &CoreError) -> EngineError {
        match error {
            CoreError::InvalidField { field, problem } => self.refuse_field(section, field, problem),
            CoreError::BudgetOutOfRange { .. } => self.refuse(&section.key("budget"), error.to_string()),
            _ => self.refuse(section.name(), error.to_string()),
        }
    }

    /// A refused field of a section; `problem` goes on after its name.
    pub(crate) fn refuse_field(&self, section: Section, field: &str, problem: &str) -> EngineError {
        let key = section.key(field);
        let message = format!("`{key}` {problem}");
        self.refuse(&key, message)
    }

    /// Reads the value at a dotted key.
    pub(crate) fn read_value<T: DeserializeOwned>(&self, path: &str, value: Value) -> Result<T, EngineError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let message = error.into_inner().message().trim().to_owned();
            let mut key = if inner == "." { path.to_owned() } else { format!("{path}.{inner}") };
            if let Some(name) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
                && !key.ends_with(name)
            {
                key = format!("{key}.{name}");
            }
            self.refuse(&key, format!("`{key}`: {message}"))
        })
    }

    /// The line of a dotted key, or of the innermost table around it that is there.
    fn line(&self, key: &str) -> Option<usize> {
        // Read when there is something to say: the document takes more memory than the file.
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut table = document.as_table() as &dyn toml_edit::TableLike;
        let mut found = None;
        for part in key.split('.') {
            let Some((key, item)) = table.get_key_value(part) else { break };
            found = key.span().or_else(|| item.span()).or(found);
            match item.as_table_like() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        found.map(|span| self.text[..span.start].matches('\n').count() + 1)
    }
}
