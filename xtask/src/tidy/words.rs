//! The words of docs/style.md that can be checked, in comments and pages.

use std::fs;

use super::workspace::{Workspace, files_below, shown};

/// Words that no documentation comment starts with: the thing that is documented comes first.
const NO_START: [&str; 9] = ["What", "How", "Whether", "Which", "Who", "Where", "Those", "That", "Such"];

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) -> std::io::Result<()> {
    let style = fs::read_to_string(workspace.root.join("docs/style.md"))?;
    let avoided = avoided(&style);
    if avoided.is_empty() {
        problems.push("docs/style.md has no table with the heading `instead of`".into());
    }
    for member in workspace.crates.values() {
        for file in &member.files {
            for (line, text) in starts_of_comments(&file.text) {
                let first = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                if NO_START.contains(&first) {
                    problems.push(format!(
                        "{} line {line}: a comment starts with `{first}`; name its subject first",
                        file.path
                    ));
                }
            }
            for (line, text) in (1..).zip(file.text.lines()) {
                if let Some((_, comment)) = text.split_once("//") {
                    look_for(&avoided, &file.path, line, comment, problems);
                }
            }
        }
    }
    let pages = files_below(&workspace.root.join("docs"), "md")?;
    for page in pages.iter().filter(|page| !page.ends_with("docs/style.md")) {
        for (line, text) in (1..).zip(fs::read_to_string(page)?.lines()) {
            look_for(&avoided, &shown(&workspace.root, page), line, text, problems);
        }
    }
    Ok(())
}

fn look_for(avoided: &[(String, String)], path: &str, line: usize, text: &str, problems: &mut Vec<String>) {
    let text = text.to_lowercase();
    for (old, new) in avoided.iter().filter(|(old, _)| has_words(&text, old)) {
        problems.push(format!("{path} line {line}: `{old}`; docs/style.md says {new}"));
    }
}

/// True if the words stand in a text as whole words.
fn has_words(text: &str, words: &str) -> bool {
    let free = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(words)
        .any(|(at, _)| free(text[..at].chars().next_back()) && free(text[at + words.len()..].chars().next()))
}

/// The rows of the table in docs/style.md whose first column is headed `instead of`.
fn avoided(style: &str) -> Vec<(String, String)> {
    let row = |line: &str| -> Option<(String, String)> {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.to_lowercase(), cells.next()?.to_owned()))
    };
    let table = style.lines().skip_while(|line| !line.starts_with("| instead of"));
    table.skip(2).map_while(row).collect()
}

/// The first line with words of each documentation comment, with its number.
fn starts_of_comments(text: &str) -> Vec<(usize, &str)> {
    let mut starts = Vec::new();
    let mut before = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        let kind = ["///", "//!"].into_iter().find(|mark| line.starts_with(mark) && !line.starts_with("////"));
        if let Some(kind) = kind
            && before != Some(kind)
        {
            starts.push((number, line[3..].trim()));
        }
        before = kind;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_a_comment_is_a_start() {
        let text = "//! A\n//! How\n\n/// What\nfn f() {}\n    /// B\n    fn g() {}\n";
        assert_eq!(starts_of_comments(text), [(1, "A"), (4, "What"), (6, "B")]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_words("it is none of these", "is none") && has_words("is none", "is none"));
        assert!(!has_words("this nonesuch", "is none"));
    }

    #[test]
    fn the_table_of_words_is_read() {
        let style = "text\n\n| instead of | write |\n|---|---|\n| Is None | is absent |\n| x | y |\n\n| a | b |\n";
        assert_eq!(avoided(style), [("is none".into(), "is absent".into()), ("x".into(), "y".into())]);
    }
}
