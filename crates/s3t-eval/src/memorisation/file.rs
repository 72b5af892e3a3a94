//! Files of canaries and of what is extracted.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Canary, Comparison, SecretSpace};
use crate::EvalError;
use crate::toml_text::TomlText;

/// The measurements that a file asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Canaries {
    /// Secrets whose exposure is measured.
    pub canaries: Vec<Canary>,
    /// The secrets that they are compared with.
    pub comparison: Comparison,
    /// Records that a prefix may bring back.
    pub extraction: Option<Extraction>,
}

/// The records that a prefix may bring back, and the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The file, with the columns of the pipeline's `data.train`; `None` for that file itself.
    pub data: Option<PathBuf>,
    /// The tokens of a response that are given behind its prompt.
    pub prefix_tokens: usize,
    /// The tokens behind these that must come back; `None` for all of the response.
    pub suffix_tokens: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    canaries: Vec<CanaryOfFile>,
    rank_up_to: Option<usize>,
    samples: Option<usize>,
    seed: Option<u64>,
    extraction: Option<ExtractionOfFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryOfFile {
    id: String,
    prompt: String,
    target: String,
    secret: String,
    alphabet: Option<String>,
    length: Option<u32>,
    choices: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtractionOfFile {
    data: Option<PathBuf>,
    prefix_tokens: Option<usize>,
    suffix_tokens: Option<usize>,
}

impl Canaries {
    /// Reads a file. Relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// [`EvalError::Read`], or [`EvalError::File`] for the first thing in it that cannot be used.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let text = TomlText::read(path)?;
        let file: File = text.parse()?;
        if file.canaries.is_empty() && file.extraction.is_none() {
            return Err(text.refuse("canaries", "is missing; give `[[canaries]]`, `[extraction]`, or both"));
        }
        let samples = file.samples.unwrap_or(1000);
        if samples < s3t_attack::skew_normal::MIN_VALUES {
            let least = s3t_attack::skew_normal::MIN_VALUES;
            return Err(text.refuse("samples", format!("is {samples}; use at least {least}")));
        }
        if let Some(0) = file.extraction.as_ref().and_then(|extraction| extraction.suffix_tokens) {
            return Err(text.refuse("extraction.suffix_tokens", "is 0; use at least 1, or leave it out for all"));
        }
        let canary = |canary: CanaryOfFile| {
            let id = canary.id.clone();
            canary.checked().map_err(|problem| text.refuse("canaries", format!("`{id}` {problem}")))
        };
        Ok(Self {
            canaries: file.canaries.into_iter().map(canary).collect::<Result<_, _>>()?,
            comparison: Comparison {
                rank_up_to: file.rank_up_to.unwrap_or(10_000),
                samples,
                seed: file.seed.unwrap_or(0),
            },
            extraction: file.extraction.map(|extraction| Extraction {
                data: extraction.data.map(|data| text.path(&data)),
                prefix_tokens: extraction.prefix_tokens.unwrap_or(0),
                suffix_tokens: extraction.suffix_tokens,
            }),
        })
    }
}

impl CanaryOfFile {
    fn checked(self) -> Result<Canary, String> {
        let space = match (self.alphabet, self.length, self.choices) {
            (Some(alphabet), Some(length), None) => SecretSpace::words(&alphabet, length)?,
            (None, None, Some(choices)) => SecretSpace::list(choices)?,
            _ => {
                return Err("needs either `alphabet` and `length`, or `choices`, to say which secrets there are".into());
            }
        };
        Canary::new(self.id, self.prompt, self.target, self.secret, space)
    }
}
