//! Every Rust file is part of a program or library: one that no `mod` names is never compiled, and its tests never run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, Item, Lit, Meta};

use super::workspace::{File, Workspace};

/// The files of each crate that none of its targets reaches.
pub fn check(workspace: &Workspace, problems: &mut Vec<String>) {
    let files: Vec<&File> = workspace.crates.values().flat_map(|member| &member.files).collect();
    let targets = workspace.metadata.workspace_packages().into_iter().flat_map(|package| &package.targets);
    let roots = targets.filter_map(|target| target.src_path.strip_prefix(&workspace.metadata.workspace_root).ok());
    let reached = reach(&files, roots.map(|root| PathBuf::from(root.as_str())));
    // A skeleton of `cargo xtask new` becomes a part of the crate that it is written to.
    let is_missing = |file: &&&File| !file.path.contains("/templates/") && !reached.contains(Path::new(&file.path));
    for file in files.iter().filter(is_missing) {
        problems.push(format!("{} is part of no program: no `mod` names it", file.path));
    }
}

/// The files that the roots name, directly or by way of others.
fn reach(files: &[&File], roots: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let (mut reached, mut left) = (BTreeSet::new(), Vec::new());
    left.extend(roots.map(|root| (root, true)));
    while let Some((path, is_root)) = left.pop() {
        let Some(file) = files.iter().find(|file| Path::new(&file.path) == path) else { continue };
        if !reached.insert(path.clone()) {
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let has_name = !is_root && !path.ends_with("mod.rs");
        let below = if has_name { path.with_extension("") } else { folder.clone() };
        modules(&file.tree.items, &folder, &below, &mut left);
    }
    reached
}

/// Adds the files that the modules among these items may have. `folder` is the one that a `#[path]` starts in, `below` the one of the
/// other modules.
fn modules(items: &[Item], folder: &Path, below: &Path, found: &mut Vec<(PathBuf, bool)>) {
    for item in items {
        let Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        if let Some((_, items)) = &module.content {
            modules(items, &below.join(&name), &below.join(&name), found);
            continue;
        }
        let given = module.attrs.iter().find_map(path_of);
        match given {
            // The modules of a file that is named like this lie beside it, as those of a root do.
            Some(given) => found.push((plain(&folder.join(given)), true)),
            None => {
                found.push((below.join(format!("{name}.rs")), false));
                found.push((below.join(name).join("mod.rs"), false));
            }
        }
    }
}

/// The file that an attribute `#[path]` gives.
fn path_of(attribute: &Attribute) -> Option<String> {
    if let Meta::NameValue(pair) = &attribute.meta
        && pair.path.is_ident("path")
        && let Expr::Lit(literal) = &pair.value
        && let Lit::Str(text) = &literal.lit
    {
        return Some(text.value());
    }
    None
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path {
        if part == ".." {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into(), tree: syn::parse_file(text).unwrap() }
    }

    #[test]
    fn a_file_that_no_module_names_is_found() {
        let files = [
            file("a/tests/all/main.rs", "mod one; mod world; mod inside { mod deep; }"),
            file("a/tests/all/one.rs", "mod engine;"),
            file("a/tests/all/one/engine.rs", ""),
            file("a/tests/all/world/mod.rs", "mod served;"),
            file("a/tests/all/world/served.rs", ""),
            file("a/tests/all/inside/deep.rs", ""),
            file("a/tests/all/forgotten.rs", "#[test] fn never() {}"),
            file("b/tests/other.rs", "#[path = \"../../shared/mod.rs\"] mod shared;"),
            file("shared/mod.rs", "mod part;"),
            file("shared/part.rs", ""),
        ];
        let files: Vec<&File> = files.iter().collect();
        let roots = ["a/tests/all/main.rs", "b/tests/other.rs"].into_iter().map(PathBuf::from);
        let reached = reach(&files, roots);
        let left: Vec<&str> =
            files.iter().map(|file| &*file.path).filter(|path| !reached.contains(Path::new(path))).collect();
        assert_eq!(left, ["a/tests/all/forgotten.rs"]);
    }
}
