//! The end of a worker's log, for a message.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of the end of a log that are read.
const BYTES: u64 = 2048;

/// Lines of the end of a log that are told.
const LINES: usize = 5;

/// The last lines of a log, as one line; `None` if the log says nothing.
///
/// ```
/// let log: String = (0..1000).map(|line| format!("line {line}\n\n")).collect();
/// assert_eq!(s3t_cluster::end_of_log(&log).unwrap(), "line 995 / line 996 / line 997 / line 998 / line 999");
/// assert_eq!(s3t_cluster::end_of_log("\n"), None);
/// ```
pub fn end_of_log(text: &str) -> Option<String> {
    let text = &text[text.floor_char_boundary(text.len().saturating_sub(BYTES as usize))..];
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join(" / ");
    (!end.is_empty()).then_some(end)
}

/// The last lines of a log's file, as one line; `None` if it cannot be read or says nothing.
pub fn end_of_log_file(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes).ok()?;
    end_of_log(&String::from_utf8_lossy(&bytes))
}
