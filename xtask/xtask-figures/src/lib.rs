//! The parts of a page in docs/reproduction.

use std::error::Error;
use std::fmt::Write as _;

/// The result of a task: its error is told to a person.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A section of a page: its heading, its text in lines of at most 120 characters, and a body that stays as it is.
pub fn section(title: &str, text: &str, body: &str) -> String {
    format!("\n## {title}\n\n{}\n\n{body}", wrapped(text))
}

/// The page with another section under the heading `title`, up to the next heading of the same rank; `None` if it has no such heading.
pub fn with_section(page: &str, title: &str, section: &str) -> Option<String> {
    let heading = format!("\n## {title}\n");
    let start = page.find(&heading)?;
    let rest = start + heading.len();
    let after = page[rest..].find("\n## ").map_or("", |end| &page[rest + end..]);
    Some(format!("{}{}\n{after}", &page[..start], section.trim_end()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_its_neighbours_stay() {
        let page = "# Page\n\nText.\n\n## one\n\nold\n\n### part\n\n## two\n\nkept\n";
        let new = section("one", "new", "| 1 |\n");
        let with = with_section(page, "one", &new).unwrap();
        assert_eq!(with, "# Page\n\nText.\n\n## one\n\nnew\n\n| 1 |\n\n## two\n\nkept\n");
        assert_eq!(with_section(&with, "one", &new).unwrap(), with);
        let last = with_section(page, "two", &section("two", "new", "")).unwrap();
        assert!(last.ends_with("### part\n\n## two\n\nnew\n"), "{last}");
        assert_eq!(with_section(page, "three", &new), None);
    }
}
