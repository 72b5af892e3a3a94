use std::io::ErrorKind;
use std::path::Path;

use s3t_core::ids::lines_of_list;
use s3t_core::{CoreError, Limits};

use crate::{DataError, input};

/// The largest list of ids in megabytes, unpacked: a million ids of the greatest length.
pub const MAX_LIST_MB: u64 = 256;

/// Reads a file with one id a line; `check` makes an id of each, for example `RecordId::new`. Line ends and a byte order mark at the
/// start are taken off, and nothing else: blanks belong to the id. A name ending in `.gz` is decompressed. At most [`MAX_LIST_MB`].
///
/// # Errors
///
/// [`DataError`] naming the file and the first line that is no id.
pub fn read_id_list<T>(path: &Path, check: impl Fn(String) -> Result<T, CoreError>) -> Result<Vec<T>, DataError> {
    let limits = Limits { file_mb: MAX_LIST_MB, unpacked_ratio: u64::MAX, ..Limits::default() };
    // The limit is not the pipeline's, which `Input` names.
    let text = input::text(path, &limits).map_err(|error| match error {
        DataError::Read { cause, .. } if cause.kind() == ErrorKind::FileTooLarge => {
            DataError::file(path, format!("has more than the {MAX_LIST_MB} MB of a list of ids; split it into several"))
        }
        other => other,
    })?;
    parse_id_list(&text, path, check)
}

/// The same for a text that was read already; `path` is what messages call it.
///
/// ```
/// use s3t_core::RecordId;
/// use s3t_data::parse_id_list;
///
/// let ids = parse_id_list("record-3\nrecord-6\n", "ids.txt".as_ref(), RecordId::new)?;
/// assert_eq!(ids.len(), 2);
/// # Ok::<(), s3t_data::DataError>(())
/// ```
///
/// # Errors
///
/// [`DataError`] naming the first line that is no id.
pub fn parse_id_list<T>(
    text: &str,
    path: &Path,
    check: impl Fn(String) -> Result<T, CoreError>,
) -> Result<Vec<T>, DataError> {
    let id =
        |(line, id): (u64, &str)| check(id.to_owned()).map_err(|error| DataError::line(path, line, error.to_string()));
    lines_of_list(text).map(id).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use s3t_core::RecordId;

    use super::*;

    #[test]
    fn list_of_many_bytes_is_refused_without_a_setting_that_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("ids.txt.gz");
        let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(&list).unwrap(), Compression::fast());
        let megabyte = vec![b'\n'; 1 << 20];
        for _ in 0..=MAX_LIST_MB {
            packed.write_all(&megabyte).unwrap();
        }
        packed.finish().unwrap();
        let error = read_id_list(&list, RecordId::new).unwrap_err().to_string();
        assert!(error.contains("has more than the 256 MB of a list of ids; split it into several"), "{error}");
    }

    #[test]
    fn one_byte_order_mark_is_the_files_and_another_is_the_ids() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("ids.txt");
        for (text, ids) in
            [("\u{feff}a\nb\n", ["a", "b"]), ("\u{feff}\u{feff}a\n\u{feff}b\n", ["\u{feff}a", "\u{feff}b"])]
        {
            std::fs::write(&list, text).unwrap();
            let read = read_id_list(&list, RecordId::new).unwrap();
            assert_eq!(read, parse_id_list(text, &list, RecordId::new).unwrap());
            assert_eq!(read.iter().map(RecordId::as_str).collect::<Vec<_>>(), ids);
        }
    }
}
