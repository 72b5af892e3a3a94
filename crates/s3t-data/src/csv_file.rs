use std::path::{Path, PathBuf};

use s3t_core::Record;
use s3t_core::limits::shown;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rows::{Columns, content, each_csv, records};
use crate::{DataError, Targets};

/// Text or feature records from a CSV file with a header line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSource {
    /// The file; a name ending in `.gz` is decompressed.
    pub file: PathBuf,
    /// The column of what is learnt: a class name; for `multi-label` names separated by `|`; for `regression` a number; for
    /// `causal-lm` the text that follows.
    #[serde(default = "label")]
    pub label: String,
    /// The column of the record id; without it ids are `row-0`, `row-1`, ...
    #[serde(default)]
    pub id: Option<String>,
    /// The column of the subject; an empty cell is no subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// The column of the text. Give one of this, `template` and `features`.
    #[serde(default)]
    pub text: Option<String>,
    /// The column of the second text of a pair, such as a passage that answers a question.
    #[serde(default)]
    pub text_pair: Option<String>,
    /// A text made of several columns: `{name}` stands for a column, `{{` for a brace. Give one of this, `text` and `features`.
    #[serde(default)]
    pub template: Option<String>,
    /// The columns of the numbers. Give one of this, `text` and `template`.
    #[serde(default)]
    pub features: Option<Vec<String>>,
}

pub(crate) fn label() -> String {
    "label".into()
}

impl CsvSource {
    pub(crate) fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        let path = base_dir.join(&self.file);
        let content = content(
            &path,
            self.text.as_deref(),
            self.text_pair.as_deref(),
            self.template.as_deref(),
            self.features.as_deref(),
        )?;
        let columns = Columns { label: Some(&self.label), id: self.id.as_deref(), subject: self.subject.as_deref() };
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|value| value.is_finite());
        records(
            &path,
            |visit| each_csv(&path, &targets.limits, visit),
            &columns,
            targets,
            |row, _| Ok(format!("row-{row}")),
            |row| {
                content.payload(row, &targets.limits, |names| {
                    let value = |name: &String| {
                        let text = row.text(name)?;
                        number(text).ok_or_else(|| format!("`{name}` is `{}`, not a finite number", shown(text)))
                    };
                    names.iter().map(value).collect()
                })
            },
        )
    }
}
