//! Rows of CSV and JSON lines, one after the other, each with its line.

use std::collections::HashSet;
use std::path::Path;

use s3t_core::Limits;
use s3t_core::ids::text_of_file;
use s3t_core::limits::shown;
use serde_json::Value;

use super::row::Row;
use super::unique::Unique;
use crate::{DataError, input};

/// Takes one row after the other: only one is in memory.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(Row) -> Result<(), DataError>;

/// Visits the rows of a CSV file with a header. All values are text.
pub(crate) fn each_csv(path: &Path, limits: &Limits, visit: Visit<'_>) -> Result<(), DataError> {
    let text = input::text(path, limits)?;
    let text = text_of_file(&text);
    if let Some(line) = unterminated_quote(text) {
        return Err(DataError::line(path, line, "opens a quote that is never closed"));
    }
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let mut lines = Lines::new(text);
    let refuse = |error: &csv::Error, lines: &mut Lines<'_>| match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let line = error.position().map_or(1, |position| lines.of(position.byte()));
            DataError::line(path, line, format!("has {len} fields, but the header has {expected_len}"))
        }
        _ => {
            let line = error.position().map_or(1, |position| lines.of(position.byte()));
            DataError::line(path, line, error.to_string())
        }
    };
    let header = reader.headers().map_err(|error| refuse(&error, &mut lines))?.clone();
    input::check_columns(header.len(), limits).map_err(|problem| DataError::line(path, 1, problem))?;
    let mut seen = HashSet::with_capacity(header.len());
    if let Some(twice) = header.iter().find(|name| !seen.insert(*name)) {
        return Err(DataError::line(path, 1, format!("names the column `{}` twice", shown(twice))));
    }
    drop(seen);
    let (mut record, mut count) = (csv::StringRecord::new(), 0);
    while reader.read_record(&mut record).map_err(|error| refuse(&error, &mut lines))? {
        let line = record.position().map_or(0, |position| lines.of(position.byte()));
        count += 1;
        input::check_line(record.as_slice().len(), limits)
            .and_then(|()| input::check_records(count, limits))
            .map_err(|problem| DataError::line(path, line, problem))?;
        let values = header.iter().zip(&record).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        visit(Row { line, values })?;
    }
    if count == 0 {
        return Err(DataError::file(path, "has no records; a CSV file has a header line and one line a record"));
    }
    Ok(())
}

/// Lines of a text by position, counted as an editor does.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, line: 1 }
    }

    /// The line of a record that starts at this byte, or after the line breaks there: the reader leaves half of `\r\n` to
    /// the next record. Positions must rise.
    fn of(&mut self, byte: u64) -> u64 {
        while let Some(next) = self.bytes.get(self.at) {
            let passes = (self.at as u64) < byte || matches!(next, b'\r' | b'\n');
            if !passes {
                break;
            }
            self.line += u64::from(*next == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// The line of a quote that opens a field and is not closed before the end of the text.
fn unterminated_quote(text: &str) -> Option<u64> {
    let (mut open, mut field_starts, mut line) = (None, true, 1);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, open) {
            // Two quotes in a quoted field are one quote of its text.
            (b'"', Some(_)) if bytes.peek() == Some(&b'"') => drop(bytes.next()),
            (b'"', Some(_)) => open = None,
            (b'"', None) if field_starts => open = Some(line),
            _ => {}
        }
        field_starts = matches!(byte, b',' | b'\n' | b'\r') && open.is_none();
        line += u64::from(byte == b'\n');
    }
    open
}

/// Visits the objects of a JSON lines file. Blank lines are passed over.
pub(crate) fn each_jsonl(path: &Path, limits: &Limits, visit: Visit<'_>) -> Result<(), DataError> {
    let mut count = 0;
    input::each_line(path, limits, |line, text| {
        if text.trim().is_empty() {
            return Ok(());
        }
        count += 1;
        input::check_records(count, limits)
            .and_then(|()| limits.check_json(text.as_bytes()))
            .map_err(|problem| DataError::line(path, line, problem))?;
        match serde_json::from_str(text).map(|Unique(value)| value) {
            Ok(Value::Object(values)) => visit(Row { line, values }),
            Ok(_) => Err(DataError::line(path, line, "is not a JSON object; give one object a line")),
            Err(error) => {
                let problem = format!("is not valid JSON at column {}: {error}", error.column());
                Err(DataError::line(path, line, problem))
            }
        }
    })?;
    if count == 0 {
        return Err(DataError::file(path, "has no records; give one JSON object a line"));
    }
    Ok(())
}
