//! JSON files of a model's folder.

use std::fs::File;
use std::io;
use std::path::Path;

use s3t_core::Limits;
use s3t_core::limits::read_text_at_most;

use crate::ModelError;

/// Opens a file of a model or an adapter. A pipe or a device is none: nobody can say when it has something to read.
///
/// # Errors
///
/// The system's, and one for what is no file.
pub fn open_file(path: &Path) -> io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() { File::open(path) } else { Err(io::Error::other("it is not a file")) }
}

/// Reads a JSON file of a model, within the limits.
///
/// # Errors
///
/// [`ModelError::Read`], [`ModelError::Config`].
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limits: &Limits) -> Result<T, ModelError> {
    let read = open_file(path).and_then(|file| read_text_at_most(file, Limits::megabytes(limits.json_mb)));
    let text = read.map_err(|cause| ModelError::Read { path: path.into(), cause })?;
    let refuse = |problem: String| ModelError::Config { path: path.into(), problem };
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("not the expected JSON: {error}")))
}
