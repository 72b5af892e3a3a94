//! Tables for people, one JSON object for machines.

use s3t::core::wording::with_commas;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use console::style;
use s3t::api::{ErrorKind, FailedAnswer};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::{Failure, exit_code, message};

/// `true` if something could not be printed, although somebody may be waiting for it.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line, like `println!`, but goes on when it cannot be printed: the work is not done yet.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        $crate::output::printed(writeln!(std::io::stdout(), $($text)*));
    }};
}
pub(crate) use say;

/// Remembers that a line was lost. A reader that has gone (`s3t run ... | head`) has seen enough.
pub(crate) fn printed(result: std::io::Result<()>) {
    if result.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// The exit code of a command; a command whose results could not be printed has failed.
pub(crate) fn code_after_printing(code: u8) -> u8 {
    use std::io::Write as _;
    printed(std::io::stdout().flush());
    if !LOST.load(Ordering::Relaxed) {
        return code;
    }
    complain("cannot write to standard output; what the command did stands");
    if code == 0 { exit_code(ErrorKind::Failed) } else { code }
}

/// Prints an error to standard error, if that takes it.
fn complain(message: &str) {
    use std::io::Write as _;
    let mark = style("error:").for_stderr().red().bold();
    // Where not even an error can be printed, the exit code says it.
    drop(writeln!(std::io::stderr(), "{mark} {message}"));
}

/// The output of a command: tables as the results come, or one JSON object printed at the end.
pub(crate) struct Output {
    json: Option<Map<String, Value>>,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json: json.then(Map::new), quiet }
    }

    /// `true` if progress is shown.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && self.json.is_none()
    }

    /// `true` if one JSON object is printed at the end.
    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// An answer, or a part of one: fields of the JSON object, or the text that `print` prints.
    pub(crate) fn answer(&mut self, answer: &impl Serialize, print: impl FnOnce()) {
        match &mut self.json {
            Some(object) => match serde_json::to_value(answer) {
                Ok(Value::Object(fields)) => object.extend(fields),
                // An answer is an object of texts and numbers; if it were not, the reader is told and not left without.
                other => drop(object.insert("answer".into(), other.unwrap_or_else(|error| error.to_string().into()))),
            },
            None => print(),
        }
    }

    /// A headline, for people only.
    pub(crate) fn heading(&self, text: &str) {
        if self.json.is_none() {
            say!("\n{}", style(text).bold());
        }
    }

    /// A sentence, for people only.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if self.json.is_none() {
            say!("{}", text.as_ref());
        }
    }

    /// Prints the JSON object.
    pub(crate) fn finish(self) {
        if let Some(object) = self.json {
            say!("{:#}", Value::Object(object));
        }
    }

    /// Reports a failure on standard error; with `--json` also as an object with the fields that were there until then.
    pub(crate) fn fail(mut self, failure: &Failure) {
        let error = message(failure);
        complain(&error);
        if self.json.is_some() {
            let kind = failure.kind();
            self.answer(&FailedAnswer { error, kind, exit_code: exit_code(kind) }, || {});
            self.finish();
        }
    }
}

/// Prints a table; the columns after the first `left` are aligned right.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, left: usize) {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule)).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    say!("{table}");
}

/// `0.8312` as `83.1 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A moment in milliseconds since 1970, in UTC: `2026-03-01T12:00:05Z`.
pub(crate) fn time(milliseconds: u64) -> String {
    let moment = jiff::Timestamp::from_second((milliseconds / 1000) as i64);
    moment.map_or_else(|_| format!("{milliseconds} ms since 1970"), |moment| moment.to_string())
}

/// A number with the digits that matter: `14.7`, `0.03`, `1,234`, `never` for infinity.
pub(crate) fn decimal(number: f64) -> String {
    match number.abs() {
        n if n.is_infinite() => "never".to_owned(),
        n if n >= 1000.0 => with_commas(number.round() as u64),
        n if n >= 10.0 || n == 0.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// The first twelve digits of a key or digest.
pub(crate) fn short(key: &str) -> String {
    key.chars().take(12).collect()
}

/// Bytes in the unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// Seconds in the unit that fits: microseconds, milliseconds, seconds, minutes.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.1} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_units_and_separators() {
        assert_eq!(
            [duration(2e-6), duration(0.0123), duration(3.0), duration(600.0)],
            ["2 us", "12.3 ms", "3.0 s", "10.0 min"]
        );
        assert_eq!(percent(0.8312), "83.1 %");
        assert_eq!(time(1_772_366_405_999), "2026-03-01T12:00:05Z");
        assert_eq!([0.0, 0.034, 14.68, 1234.4, f64::INFINITY].map(decimal), ["0.0", "0.03", "14.7", "1,234", "never"]);
        assert_eq!([17, 20_500, 3_000_000, 1_250_000_000].map(size), ["17 B", "20.5 kB", "3.0 MB", "1.2 GB"]);
    }
}
