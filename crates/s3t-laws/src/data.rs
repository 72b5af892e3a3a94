//! Data files of the user.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::LawsError;

/// Reads a file with one JSON object a line; empty lines are passed over.
///
/// # Errors
///
/// [`LawsError::File`] and [`LawsError::InvalidLine`].
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, LawsError> {
    let text =
        fs::read_to_string(path).map_err(|error| LawsError::File { action: "read", path: path.into(), error })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| LawsError::InvalidLine {
            path: path.into(),
            line: number + 1,
            problem: error.to_string(),
        })
    };
    lines.map(read).collect()
}
