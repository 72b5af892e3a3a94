//! Bytes and text of a file.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use s3t_core::ids::text_of_file;

use crate::DataError;

/// The bytes of a file, decompressed if its name ends in `.gz`.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let raw = std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    if path.extension().is_none_or(|ending| ending != "gz") {
        return Ok(raw);
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(raw.as_slice())
        .read_to_end(&mut bytes)
        .map_err(|error| DataError::file(path, format!("is not a whole gzip file: {error}")))?;
    Ok(bytes)
}

/// The text of a file without its byte order mark.
pub(crate) fn text(path: &Path) -> Result<String, DataError> {
    let mut text = String::from_utf8(bytes(path)?).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count() as u64;
        DataError::line(path, line, "is not valid UTF-8; save the file as UTF-8")
    })?;
    let mark = text.len() - text_of_file(&text).len();
    drop(text.drain(..mark));
    Ok(text)
}

/// Whether the name, without `.gz`, ends so.
pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    endings.iter().any(|ending| name.ends_with(&format!(".{ending}")))
}
