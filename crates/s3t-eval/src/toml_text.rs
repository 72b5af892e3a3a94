//! Files in TOML beside a pipeline: reading, and errors that name file and line.

use std::path::{Path, PathBuf};

use s3t_core::limits::read_text_at_most;
use serde::de::DeserializeOwned;

use crate::EvalError;

/// The largest size of such a file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A file that was read.
pub(crate) struct TomlText {
    file: String,
    text: String,
    folder: PathBuf,
}

impl TomlText {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, EvalError> {
        let read = std::fs::File::open(path).and_then(|file| read_text_at_most(file, MAX_BYTES));
        let text = read.map_err(|cause| EvalError::Read { path: path.into(), cause })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { file: path.display().to_string(), text, folder })
    }

    /// Its content; unknown keys are refused with their line.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, EvalError> {
        toml::from_str(&self.text).map_err(|error| {
            let line = error.span().map(|span| self.text[..span.start].matches('\n').count() + 1);
            self.refused(line, error.message().trim())
        })
    }

    /// A refused key of its top level, or of a section after the section's name and a dot.
    pub(crate) fn refuse(&self, key: &str, problem: impl AsRef<str>) -> EvalError {
        let problem = format!("`{key}` {}", problem.as_ref());
        let (section, name) = key.split_once('.').map_or((None, key), |(section, name)| (Some(section), name));
        let mut lines = self.text.lines().enumerate();
        let found = match section {
            Some(section) => lines.by_ref().find(|(_, line)| line.trim().trim_matches(['[', ']']) == section),
            None => None,
        };
        let of_key =
            |line: &str| line.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='));
        let line = lines.find(|(_, line)| of_key(line)).or(found).map(|(at, _)| at + 1);
        self.refused(line, &problem)
    }

    fn refused(&self, line: Option<usize>, problem: &str) -> EvalError {
        EvalError::File { file: self.file.clone(), line, problem: problem.to_owned() }
    }

    /// A path in it, which starts from its folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}
