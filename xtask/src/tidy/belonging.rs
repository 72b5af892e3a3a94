//! Every Rust file is part of a program or library, and every test is run: a file that no `mod` names is never compiled, and tests of a
//! target with `test = false` are not either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{Target, TargetKind};
use syn::{Attribute, Expr, Item, Lit, Meta};

use super::circles::is_test;
use super::workspace::{File, Workspace};

/// The files of each crate that none of its targets reaches, and those with tests that no target runs.
pub fn check(workspace: &Workspace, problems: &mut Vec<String>) {
    let files: Vec<&File> = workspace.crates.values().flat_map(|member| &member.files).collect();
    let packages = workspace.metadata.workspace_packages();
    let targets = || packages.iter().flat_map(|package| &package.targets);
    let root = |target: &Target| {
        let path = target.src_path.strip_prefix(&workspace.metadata.workspace_root).ok()?;
        Some(PathBuf::from(path.as_str()))
    };
    let reached = reach(&files, targets().filter_map(root));
    // A skeleton of `cargo xtask new` becomes a part of the crate that it is written to.
    let is_missing = |file: &&&File| !file.path.contains("/templates/") && !reached.contains(Path::new(&file.path));
    for file in files.iter().filter(is_missing) {
        problems.push(format!("{} is part of no program: no `mod` names it", file.path));
    }
    // Examples and benches have no tests of their own.
    let is_silent = |target: &&Target| {
        let of_source = |kind: &TargetKind| matches!(kind, TargetKind::Lib | TargetKind::Bin);
        !target.test && target.kind.iter().any(of_source)
    };
    let run = reach(&files, targets().filter(|target| target.test).filter_map(root));
    for path in never_run(&files, targets().filter(is_silent).filter_map(root), &run) {
        problems.push(format!("{path} has tests that never run: its Cargo.toml says `test = false`"));
    }
}

/// The files with tests that the roots reach and that are not among those that run.
fn never_run<'a>(files: &[&'a File], roots: impl Iterator<Item = PathBuf>, run: &BTreeSet<PathBuf>) -> Vec<&'a str> {
    let silent: BTreeSet<PathBuf> = reach(files, roots).difference(run).cloned().collect();
    let has_tests = |file: &File| file.tree.items.iter().any(|item| is_test(item) || is_one_test(item));
    let found = files.iter().filter(|file| silent.contains(Path::new(&file.path)) && has_tests(file));
    found.map(|file| &*file.path).collect()
}

/// A test outside a module of tests.
fn is_one_test(item: &Item) -> bool {
    matches!(item, Item::Fn(function) if function.attrs.iter().any(|attribute| attribute.path().is_ident("test")))
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

    #[test]
    fn tests_that_a_manifest_leaves_out_are_found() {
        let files = [
            file("a/src/lib.rs", "mod one; mod two;"),
            file("a/src/one.rs", "#[cfg(test)] mod tests { #[test] fn never() {} }"),
            file("a/src/two.rs", "#[test] fn in_the_program() {}"),
            file("a/src/main.rs", "mod two;"),
        ];
        let files: Vec<&File> = files.iter().collect();
        let root = |path: &str| std::iter::once(PathBuf::from(path));
        let run = reach(&files, root("a/src/main.rs"));
        assert_eq!(never_run(&files, root("a/src/lib.rs"), &run), ["a/src/one.rs"]);
    }
}
