//! JSON files of a model's folder.

use std::fs::File;
use std::path::Path;

use s3t_core::Limits;
use s3t_core::limits::read_text_at_most;

use crate::ModelError;

/// Reads a JSON file of a model, within the limits.
///
/// # Errors
///
/// [`ModelError::Read`], [`ModelError::Config`].
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limits: &Limits) -> Result<T, ModelError> {
    let read = File::open(path).and_then(|file| read_text_at_most(file, Limits::megabytes(limits.json_mb)));
    let text = read.map_err(|cause| ModelError::Read { path: path.into(), cause })?;
    let refuse = |problem: String| ModelError::Config { path: path.into(), problem };
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("not the expected JSON: {error}")))
}
