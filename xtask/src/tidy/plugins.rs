//! Plugins are linked by the facade and listed nowhere else: tests, pages and messages read the registry.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::Visit;

use super::workspace::{File, Workspace};

/// A list with as many names of plugins of one kind is a list of plugins.
const LIST: usize = 5;

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) {
    check_notes(workspace, problems);
    let facade = workspace.crates.get("s3t");
    for name in
        workspace.crates.iter().filter(|(_, member)| member.folder.starts_with("plugins/")).map(|(name, _)| name)
    {
        let module = name.replace('-', "_");
        let linked = facade.is_some_and(|facade| {
            facade.depends_on.contains(name)
                && facade.sources().any(|file| file.text.contains(&format!("use {module}")))
        });
        if !linked {
            problems.push(format!(
                "the facade s3t does not link the plugin {name}: a line in its Cargo.toml, and one in src/lib.rs"
            ));
        }
    }
    // The registered names, by kind.
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, member) in workspace.product() {
        for (kind, name) in member.sources().flat_map(registered) {
            kinds.entry(kind).or_default().insert(name);
        }
    }
    for (name, member) in workspace.product().filter(|(_, member)| member.folder.starts_with("crates/")) {
        for file in &member.files {
            let own: BTreeSet<String> = registered(file).into_iter().map(|(_, name)| name).collect();
            let mut lists = Vec::new();
            // The file was parsed before: it is a stream of tokens too.
            lists_of(file.text.parse().unwrap_or_default(), &mut lists);
            for (kind, names) in &kinds {
                let others: BTreeSet<&String> = names.difference(&own).collect();
                let listed =
                    lists.iter().map(|list| list.iter().filter(|text| others.contains(text)).collect::<Vec<_>>());
                if let Some(listed) = listed.filter(|listed| listed.len() >= LIST).max_by_key(Vec::len) {
                    let listed: Vec<&str> = listed.into_iter().map(String::as_str).collect();
                    problems.push(format!(
                        "{} of {name} lists plugins of the kind {kind} ({}): read them from the registry",
                        file.path,
                        listed.join(", ")
                    ));
                }
            }
        }
    }
}

/// Every plugin has its proof note beside its code.
fn check_notes(workspace: &Workspace, problems: &mut Vec<String>) {
    let outside = |folder: &str| folder.starts_with("plugins/") || folder == "examples/third-party-plugin";
    for file in workspace.crates.values().filter(|member| outside(&member.folder)).flat_map(|member| &member.files) {
        let plugins = file.text.matches("#[typetag::serde(name").count();
        let notes = file.text.matches("# Proof note").count();
        if notes < plugins {
            problems.push(format!("{} has {plugins} plugins and {notes} proof notes", file.path));
        }
    }
}

/// The plugins that a file registers by `plugin!(Trait, "name", Type)`: the trait and the name.
fn registered(file: &File) -> Vec<(String, String)> {
    struct Calls(Vec<(String, String)>);
    impl<'ast> Visit<'ast> for Calls {
        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            if call.path.segments.last().is_some_and(|segment| segment.ident == "plugin") {
                let words: Vec<String> = call.tokens.clone().into_iter().map(|token| token.to_string()).collect();
                if let [kind, _, name, ..] = &words[..] {
                    self.0.push((kind.clone(), name.trim_matches('"').to_owned()));
                }
            }
        }
    }
    let mut calls = Calls(Vec::new());
    calls.visit_file(&file.tree);
    calls.0
}

/// The string literals of each list in square brackets, those of lists inside it included, and of the arms of each `match`.
fn lists_of(tokens: TokenStream, lists: &mut Vec<BTreeSet<String>>) {
    for token in tokens {
        let TokenTree::Group(group) = token else { continue };
        lists.push(match group.delimiter() {
            Delimiter::Bracket => texts(group.stream(), false),
            _ => texts(group.stream(), true),
        });
        lists_of(group.stream(), lists);
    }
}

/// String literals; with `arms` only those before `=>` or `|`, and none from groups inside.
fn texts(tokens: TokenStream, arms: bool) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if !arms => texts.extend(self::texts(group.stream(), false)),
            TokenTree::Literal(literal) => {
                let of_arm = matches!(tokens.peek(), Some(TokenTree::Punct(mark)) if "=|".contains(mark.as_char()));
                let literal = literal.to_string();
                let text = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                texts.extend(text.filter(|_| of_arm || !arms).map(str::to_owned));
            }
            _ => {}
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_arms_are_found() {
        let code = r#"fn f() { let a = [("x", 1), ("y", 2)]; match b { "p" | "q" => g("no"), _ => {} } }"#;
        let mut lists = Vec::new();
        lists_of(code.parse().unwrap(), &mut lists);
        let found: Vec<Vec<String>> = lists.into_iter().map(|list| list.into_iter().collect()).collect();
        assert!(found.contains(&vec!["x".into(), "y".into()]) && found.contains(&vec!["p".into(), "q".into()]));
        assert!(!found.iter().flatten().any(|text| text == "no"));
    }
}
