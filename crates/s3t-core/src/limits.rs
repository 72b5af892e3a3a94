//! Limits of what comes from outside, and the small guards that keep them.
//!
//! # Proof note
//!
//! *Before*: bytes that anybody may have made. *After*: reading them takes memory that is bounded by a limit here, or by a small
//! multiple of their own number; a panic of somebody else's reader is an error. *Why*: a limit is checked before the memory is
//! taken: [`read_at_most`] stops at the limit, [`check_json`] counts a text before it becomes values.

use std::cell::Cell;
use std::io::{Error, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that is read of data and of models: the section `[limits]` of a pipeline. The defaults are above what data sets and
/// models in use have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Megabytes of a data file, unpacked.
    pub file_mb: u64,
    /// The largest ratio of the unpacked size of a `.gz` file to its own size, above a megabyte.
    pub unpacked_ratio: u64,
    /// Records of a data file.
    pub records: u64,
    /// Megabytes of one line or record of a data file.
    pub line_mb: u64,
    /// Columns of a table, and numbers of a record.
    pub columns: u64,
    /// Kilobytes of one text.
    pub text_kb: u64,
    /// Class names.
    pub labels: u64,
    /// Megabytes of memory that one JSON file or line may take.
    pub json_mb: u64,
    /// Megabytes of a model's `tokenizer.json`.
    pub tokenizer_mb: u64,
    /// Megabytes of the header of a safetensors file.
    pub header_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_mb: 16 << 10,
            unpacked_ratio: 100,
            records: 4_000_000,
            line_mb: 16,
            columns: 1_000_000,
            text_kb: 4 << 10,
            labels: 1_000_000,
            json_mb: 400,
            tokenizer_mb: 64,
            header_mb: 16,
        }
    }
}

impl Limits {
    /// The bytes of so many megabytes.
    pub fn megabytes(count: u64) -> u64 {
        count.saturating_mul(1 << 20)
    }

    /// Checks the length of a text.
    ///
    /// # Errors
    ///
    /// The sentence for a text that is too long.
    pub fn check_text(&self, bytes: usize) -> Result<(), String> {
        let most = self.text_kb.saturating_mul(1 << 10);
        if bytes as u64 > most {
            return Err(too_large(&format!("a text has {bytes} bytes"), &format!("{} KB", self.text_kb), "text_kb"));
        }
        Ok(())
    }

    /// Checks a JSON text: see [`check_json`].
    ///
    /// # Errors
    ///
    /// The sentence for a text that would take too much memory.
    pub fn check_json(&self, text: &[u8]) -> Result<(), String> {
        check_json(text, Self::megabytes(self.json_mb))
            .map_err(|found| too_large(&found, &format!("{} MB", self.json_mb), "json_mb"))
    }
}

/// The sentence for what is above a limit of a pipeline.
pub fn too_large(found: &str, most: &str, key: &str) -> String {
    format!("{found}, but at most {most} are read; if that is right, raise `limits.{key}` in the pipeline")
}

/// Reads everything that a source holds, up to so many bytes.
///
/// # Errors
///
/// [`ErrorKind::FileTooLarge`] if there are more; the source's own error.
pub fn read_at_most(source: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than the {most} bytes that are read")));
    }
    Ok(bytes)
}

/// The same for a text.
///
/// # Errors
///
/// As [`read_at_most`]; [`ErrorKind::InvalidData`] for bytes that are not UTF-8.
pub fn read_text_at_most(source: impl Read, most: u64) -> std::io::Result<String> {
    String::from_utf8(read_at_most(source, most)?)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// Checks that a JSON text takes at most so many bytes of memory once it is read into values. Counts commas and brackets: an
/// empty list costs two bytes on disk, but ten times that in memory, and an object with one key three hundred times.
///
/// # Errors
///
/// The memory that it would take, in words.
pub fn check_json(text: &[u8], most: u64) -> Result<(), String> {
    const VALUE: u64 = 64;
    const LIST: u64 = 128;
    const OBJECT: u64 = 700;
    let (mut cost, mut inside, mut escaped) = (text.len() as u64, false, false);
    for byte in text {
        match (byte, inside) {
            _ if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => inside = !inside,
            (b',', false) => cost += VALUE,
            (b'[', false) => cost += LIST,
            (b'{', false) => cost += OBJECT,
            _ => {}
        }
    }
    if cost > most {
        return Err(format!("the JSON would take about {} MB of memory", cost >> 20));
    }
    Ok(())
}

/// The start of a text that a message quotes.
pub fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs what somebody else's reader does with bytes from outside; a panic in it is an error, and is not printed.
///
/// # Errors
///
/// The message of the panic.
pub fn caught<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    // What the closure left half done is dropped with its error.
    let result = catch_unwind(AssertUnwindSafe(read));
    QUIET.set(before);
    result.map_err(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        shown(&said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_measured_before_it_is_read() {
        assert!(check_json(br#"{"text": "[[[[{{{{,,,,\"[[[["}"#, 1000).is_ok());
        assert!(check_json(&b"[".repeat(20), 1000).unwrap_err().contains("memory"));
        let objects = r#"{"a":1},"#.repeat(1000);
        assert!(check_json(objects.as_bytes(), 700_000).is_err());
        assert!(check_json(objects.as_bytes(), 800_000).is_ok());
    }

    #[test]
    fn reading_stops_at_the_limit() {
        assert_eq!(read_at_most(&b"abc"[..], 3).unwrap(), b"abc");
        // An endless source is not read to its end.
        let error = read_at_most(std::io::repeat(7), 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(read_text_at_most(&b"\xff"[..], 3).is_err());
    }

    #[test]
    fn a_panic_is_an_error_with_what_it_said() {
        assert_eq!(caught(|| 7), Ok(7));
        let problem = caught(|| assert!(std::hint::black_box(2) < 1, "no {} here", 7)).unwrap_err();
        assert_eq!(problem, "no 7 here");
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(shown("é"), "é");
        assert!(shown(&"é".repeat(1000)).len() < 200);
    }
}
