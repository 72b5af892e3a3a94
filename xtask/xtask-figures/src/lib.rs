//! The parts of a page in docs/reproduction.

use std::error::Error;
use std::fmt::Write as _;

/// The result of a task: its error is told to a person.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A section of a page: its heading, its text in lines of at most 120 characters, and a body that stays as it is.
pub fn section(title: &str, text: &str, body: &str) -> String {
    format!("\n## {title}\n\n{}\n\n{body}", wrapped(text))
}

/// Lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() >= 120 {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

/// A Markdown table.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}
