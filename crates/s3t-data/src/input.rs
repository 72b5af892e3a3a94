//! Files as they are read: unpacked, and never more of them than the limits allow.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use s3t_core::Limits;
use s3t_core::limits::too_large;

use crate::DataError;

/// A packed file may unpack to this many bytes whatever its ratio.
const FREE_BYTES: u64 = 1 << 20;

/// The bytes of a file, decompressed if its name ends in `.gz`. Reading fails beyond the limits.
pub(crate) struct Input {
    source: Box<dyn Read>,
    packed: bool,
    left: u64,
    /// The sentence for a file that goes on.
    too_large: String,
}

impl Input {
    /// Opens a file.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, DataError> {
        let read = |cause| DataError::Read { path: path.into(), cause };
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let most = Limits::megabytes(limits.file_mb);
        let megabytes = format!("{} MB", limits.file_mb);
        if path.extension().is_none_or(|ending| ending != "gz") {
            let too_large = too_large("it has more bytes than that", &megabytes, "file_mb");
            return Ok(Self { source: Box::new(file), packed: false, left: most, too_large });
        }
        let ratio = length.saturating_mul(limits.unpacked_ratio).max(FREE_BYTES);
        let too_large = if ratio < most {
            let found = format!("its {length} bytes unpack to more than {ratio}");
            too_large(&found, &format!("{} times as many", limits.unpacked_ratio), "unpacked_ratio")
        } else {
            too_large("it unpacks to more bytes than that", &megabytes, "file_mb")
        };
        let source = Box::new(MultiGzDecoder::new(BufReader::new(file)));
        Ok(Self { source, packed: true, left: ratio.min(most), too_large })
    }

    /// The error of a file that cannot be read.
    pub(crate) fn refuse(&self, path: &Path, error: Error) -> DataError {
        if self.packed && error.kind() != ErrorKind::FileTooLarge {
            return DataError::file(path, format!("is not a whole gzip file: {error}"));
        }
        DataError::Read { path: path.into(), cause: error }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // One byte more than the limit tells a file that goes on from one that ends there.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read(&mut buffer[..most])?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(Error::new(ErrorKind::FileTooLarge, self.too_large.clone())),
        }
        Ok(count)
    }
}

/// The text of a file as it stands, with the byte order mark of the file.
pub(crate) fn text(path: &Path, limits: &Limits) -> Result<String, DataError> {
    let mut input = Input::open(path, limits)?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| input.refuse(path, error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count() as u64;
        not_utf8(path, line)
    })
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn not_utf8(path: &Path, line: u64) -> DataError {
    DataError::line(path, line, "is not valid UTF-8; save the file as UTF-8")
}

/// Visits the lines of a file, counted from 1, one after the other: only one is in memory.
pub(crate) fn each_line(
    path: &Path,
    limits: &Limits,
    mut visit: impl FnMut(u64, &str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut input = BufReader::new(Input::open(path, limits)?);
    let most = Limits::megabytes(limits.line_mb);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = input.by_ref().take(most.saturating_add(1)).read_until(b'\n', &mut bytes);
        read.map_err(|error| input.get_ref().refuse(path, error))?;
        if bytes.is_empty() {
            break;
        }
        check_line(bytes.len(), limits).map_err(|problem| DataError::line(path, line, problem))?;
        let own = if line == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes) } else { &bytes };
        let text = std::str::from_utf8(own).map_err(|_| not_utf8(path, line))?;
        visit(line, text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)))?;
    }
    Ok(())
}

/// Checks the length of a line or record.
pub(crate) fn check_line(bytes: usize, limits: &Limits) -> Result<(), String> {
    if bytes as u64 > Limits::megabytes(limits.line_mb) {
        return Err(too_large("it is longer than that", &format!("{} MB", limits.line_mb), "line_mb"));
    }
    Ok(())
}

/// Checks the number of columns of a table or numbers of a record.
pub(crate) fn check_columns(columns: usize, limits: &Limits) -> Result<(), String> {
    if columns as u64 > limits.columns {
        return Err(too_large(&format!("it has {columns} columns"), &limits.columns.to_string(), "columns"));
    }
    Ok(())
}

/// Checks the number of records of a file.
pub(crate) fn check_records(records: u64, limits: &Limits) -> Result<(), String> {
    if records > limits.records {
        return Err(too_large("it has more records than that", &limits.records.to_string(), "records"));
    }
    Ok(())
}

/// `true` if the name, without `.gz`, ends so.
pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    endings.iter().any(|ending| name.ends_with(&format!(".{ending}")))
}
