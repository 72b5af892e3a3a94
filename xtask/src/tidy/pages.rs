//! Every page is in the book's summary, and every link between files leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::workspace::{Workspace, files_below, shown};

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) -> std::io::Result<()> {
    let root = &workspace.root;
    let docs = files_below(&root.join("docs"), "md")?;
    let summary = root.join("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        links(&fs::read_to_string(&summary)?).iter().map(|(_, link)| root.join("docs").join(link)).collect();
    for page in docs.iter().filter(|page| **page != summary && !listed.contains(*page)) {
        problems.push(format!("docs/SUMMARY.md lacks {}", shown(root, page)));
    }
    let outside: Vec<PathBuf> = fs::read_dir(root)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().map_or(true, |path| path.extension().is_some_and(|ending| ending == "md")))
        .collect::<std::io::Result<_>>()?;
    let data = [root.join("data/README.md")];
    for page in docs.iter().chain(&outside).chain(&data) {
        let text = fs::read_to_string(page)?;
        for (line, link) in links(&text) {
            check_link(root, page, line, &link, problems)?;
        }
    }
    Ok(())
}

fn check_link(root: &Path, page: &Path, line: usize, link: &str, problems: &mut Vec<String>) -> std::io::Result<()> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let place = format!("{} line {line}", shown(root, page));
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { page.to_owned() } else { page.parent().unwrap_or(root).join(path) };
    if !target.exists() {
        problems.push(format!("{place}: {link} is not there"));
    } else if !anchor.is_empty() && target.extension().is_some_and(|ending| ending == "md") {
        let text = fs::read_to_string(&target)?;
        if !text.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor) {
            problems.push(format!("{place}: {link} names a heading that is not there"));
        }
    }
    Ok(())
}

/// The targets of a page's links and pictures with their lines; what stands in code blocks is left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        // Spans of code hold no links.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let targets = plain.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.map(|target| (number, target.split(' ').next().unwrap_or_default().to_owned())));
    }
    found
}

/// The anchor that a heading gets.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stand_outside_code() {
        let text = "[a](b.md) and ![c](d.svg \"e\")\n```\n[no](no.md)\n```\n`[no](no.md)` [f](#g-h)\n";
        assert_eq!(links(text), [(1, "b.md".into()), (1, "d.svg".into()), (5, "#g-h".into())]);
    }

    #[test]
    fn headings_have_the_anchors_of_the_public_hosts() {
        assert_eq!(anchor_of("## The way of a record, in 5 steps"), "the-way-of-a-record-in-5-steps");
        assert_eq!(anchor_of("# `s3t` and `deny.toml`"), "s3t-and-denytoml");
    }
}
