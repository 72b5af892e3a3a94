//! No file of a crate imports, directly or by way of others, a file that imports it.
//!
//! A file imports another where it names an item of it: by `use`, or by a path that starts with `crate`, `super`, `self` or a
//! module of the crate. An item that is re-exported counts for the file in which it stands. Three things are no imports: a
//! re-export (`pub use`); a test module inside a file; and what a module other than the crate's root names of the files in its own
//! folder, which are its parts. An error enumeration may name what its messages are about (`error.rs`).

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::workspace::{File, Workspace};

type Module = Vec<String>;

/// The circles of every crate of the product, each as the files in it and what leads from one to the next.
pub fn check(workspace: &Workspace, problems: &mut Vec<String>) {
    for (name, member) in &workspace.crates {
        let graph = Graph::of(&member.folder, member.sources());
        for circle in graph.circles() {
            problems.push(format!("the files of {name} import each other in a circle: {}", circle.join("; ")));
        }
    }
}

/// The modules that are files of a crate.
struct Graph<'a> {
    files: BTreeMap<Module, Contents<'a>>,
}

/// A file's module.
struct Contents<'a> {
    file: &'a File,
    /// For a name that the file imports, or makes known by a re-export, the path it stands for.
    names: BTreeMap<String, Module>,
    /// The modules whose public names are all known here.
    globs: Vec<Module>,
    /// Names of items that stand in the file.
    items: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    fn of(folder: &str, sources: impl Iterator<Item = &'a File>) -> Self {
        let mut files = BTreeMap::new();
        for file in sources {
            let Some(module) = module_of(folder, &file.path) else { continue };
            let mut names =
                Names { module: &module, names: BTreeMap::new(), globs: Vec::new(), items: BTreeSet::new() };
            file.tree.items.iter().filter(|item| !is_test(item)).for_each(|item| names.add(item));
            let Names { names, globs, items, .. } = names;
            files.insert(module, Contents { file, names, globs, items });
        }
        Self { files }
    }

    /// The file in which the item of an absolute path stands; `None` for what is not in this crate.
    fn resolve(&self, path: &[String], depth: usize) -> Option<&Module> {
        let mut at: Module = Vec::new();
        for (index, segment) in path.iter().enumerate() {
            let mut child = at.clone();
            child.push(segment.clone());
            if self.files.contains_key(&child) {
                at = child;
                continue;
            }
            let (module, contents) = self.files.get_key_value(&at)?;
            if contents.items.contains(segment) || depth == 0 {
                return Some(module);
            }
            if let Some(meant) = contents.names.get(segment) {
                let rest = [&meant[..], &path[index + 1..]].concat();
                return if rest == path { None } else { self.resolve(&rest, depth - 1) };
            }
            // By way of a glob, if the item is found there.
            for glob in &contents.globs {
                let rest = [&glob[..], &path[index..]].concat();
                if rest != path
                    && let Some(found) = self.resolve(&rest, depth - 1)
                    && self.files[found].items.contains(segment)
                {
                    return Some(found);
                }
            }
            return Some(module);
        }
        self.files.get_key_value(&at).map(|(module, _)| module)
    }

    /// For each file those it imports, with the line of the first import.
    fn imports(&self) -> BTreeMap<&Module, BTreeMap<&Module, (String, usize)>> {
        let mut graph = BTreeMap::new();
        for (module, contents) in &self.files {
            let mut paths = Paths { module, children: self.children(module), inline: false, found: Vec::new() };
            contents.file.tree.items.iter().filter(|item| !is_test(item)).for_each(|item| paths.visit_item(item));
            let mut imports: BTreeMap<&Module, (String, usize)> = BTreeMap::new();
            for (path, line) in paths.found {
                let own = |other: &&Module| !module.is_empty() && other.starts_with(module);
                let counts = |other: &&Module| !own(other) && module.last().is_none_or(|last| last != "error");
                if let Some(other) = self.resolve(&path, 8).filter(|other| *other != module && counts(other)) {
                    imports.entry(other).or_insert_with(|| (path.join("::"), line));
                }
            }
            graph.insert(module, imports);
        }
        graph
    }

    fn children(&self, module: &Module) -> BTreeSet<String> {
        let below = |other: &&Module| other.len() == module.len() + 1 && other.starts_with(module);
        self.files.keys().filter(below).map(|other| other[module.len()].clone()).collect()
    }

    /// One line an import that is part of a circle, for each set of files that import each other.
    fn circles(&self) -> Vec<Vec<String>> {
        let imports = self.imports();
        let reachable: BTreeMap<&Module, BTreeSet<&Module>> =
            imports.keys().map(|module| (*module, reach(&imports, module))).collect();
        let mut seen: BTreeSet<&Module> = BTreeSet::new();
        let mut circles = Vec::new();
        for module in imports.keys().filter(|module| reachable[**module].contains(**module)) {
            if seen.contains(module) {
                continue;
            }
            let with = |other: &&&Module| reachable[*module].contains(**other) && reachable[**other].contains(*module);
            let circle: BTreeSet<&Module> = imports.keys().filter(with).copied().collect();
            let mut lines = Vec::new();
            for from in &circle {
                for (to, (path, line)) in imports[from].iter().filter(|(to, _)| circle.contains(**to)) {
                    lines.push(format!(
                        "{}:{line} names {path} of {}",
                        self.files[*from].file.path, self.files[*to].file.path
                    ));
                }
            }
            seen.extend(circle);
            circles.push(lines);
        }
        circles
    }
}

/// Everything that a file imports, directly or by way of others.
fn reach<'a>(
    imports: &BTreeMap<&'a Module, BTreeMap<&'a Module, (String, usize)>>,
    from: &Module,
) -> BTreeSet<&'a Module> {
    let mut found: BTreeSet<&Module> = BTreeSet::new();
    let mut waiting: Vec<&Module> = imports[from].keys().copied().collect();
    while let Some(module) = waiting.pop() {
        if found.insert(module) {
            waiting.extend(imports[module].keys().copied());
        }
    }
    found
}

/// The module of a file in `src`: empty for the crate's root. Programs beside the library are crates of their own.
fn module_of(folder: &str, path: &str) -> Option<Module> {
    let inside = path.strip_prefix(folder)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
    if inside.starts_with("bin/") || inside == "main" && !path.starts_with("xtask") {
        return None;
    }
    let mut module: Module = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || ["lib", "main"].contains(&inside) {
        module.pop();
    }
    Some(module)
}

/// A module of tests.
pub fn is_test(item: &syn::Item) -> bool {
    let syn::Item::Mod(module) = item else { return false };
    module.attrs.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// An absolute path inside the crate; `None` if it starts with another crate.
fn absolute(module: &Module, children: &BTreeSet<String>, path: &[String]) -> Option<Module> {
    let mut at = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        child if children.contains(child) => return Some([&module[..], path].concat()),
        _ => return None,
    };
    let mut rest = path;
    while let [first, more @ ..] = rest {
        match first.as_str() {
            "super" => drop(at.pop()),
            "crate" | "self" => {}
            _ => break,
        }
        rest = more;
    }
    at.extend(rest.iter().cloned());
    Some(at)
}

/// Reads which names a file has.
#[expect(clippy::struct_field_names, reason = "names are what is read")]
struct Names<'a> {
    module: &'a Module,
    names: BTreeMap<String, Module>,
    globs: Vec<Module>,
    items: BTreeSet<String>,
}

impl Names<'_> {
    fn add(&mut self, item: &syn::Item) {
        let name = match item {
            syn::Item::Use(item) => {
                let mut leaves = Vec::new();
                leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
                for (path, name) in leaves {
                    // A re-export may start with a module of the file's own.
                    let path = absolute(self.module, &BTreeSet::new(), &path)
                        .unwrap_or_else(|| [&self.module[..], &path].concat());
                    match name {
                        Some(name) => drop(self.names.insert(name, path)),
                        None => self.globs.push(path),
                    }
                }
                return;
            }
            syn::Item::Const(item) => item.ident.to_string(),
            syn::Item::Enum(item) => item.ident.to_string(),
            syn::Item::Fn(item) => item.sig.ident.to_string(),
            syn::Item::Macro(item) => item.ident.as_ref().map(ToString::to_string).unwrap_or_default(),
            syn::Item::Mod(item) if item.content.is_some() => item.ident.to_string(),
            syn::Item::Static(item) => item.ident.to_string(),
            syn::Item::Struct(item) => item.ident.to_string(),
            syn::Item::Trait(item) => item.ident.to_string(),
            syn::Item::Type(item) => item.ident.to_string(),
            syn::Item::Union(item) => item.ident.to_string(),
            _ => return,
        };
        self.items.insert(name);
    }
}

/// The paths of a `use`, each with the name it gets; `None` for a glob.
fn leaves_of(tree: &syn::UseTree, before: &mut Module, leaves: &mut Vec<(Module, Option<String>)>) {
    match tree {
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            leaves_of(&path.tree, before, leaves);
            before.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => leaves.push((before.clone(), before.last().cloned())),
        syn::UseTree::Name(name) => {
            leaves.push(([&before[..], &[name.ident.to_string()]].concat(), Some(name.ident.to_string())));
        }
        syn::UseTree::Rename(name) => {
            leaves.push(([&before[..], &[name.ident.to_string()]].concat(), Some(name.rename.to_string())));
        }
        syn::UseTree::Glob(_) => leaves.push((before.clone(), None)),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves_of(tree, before, leaves)),
    }
}

/// Reads which paths a file names.
struct Paths<'a> {
    module: &'a Module,
    children: BTreeSet<String>,
    /// Inside a module that is no file.
    inline: bool,
    found: Vec<(Module, usize)>,
}

impl Paths<'_> {
    fn add(&mut self, path: &[String], line: usize) {
        let certain = !self.inline || path.first().is_some_and(|first| first == "crate");
        if let Some(path) = absolute(self.module, &self.children, path).filter(|_| certain) {
            self.found.push((path, line));
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if matches!(item.vis, syn::Visibility::Inherited) {
            let mut leaves = Vec::new();
            leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
            let line = item.use_token.span.start().line;
            for (path, _) in leaves {
                self.add(&path, line);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // `super` means the file itself inside a module of it; only what starts with `crate` is certain there.
        if item.content.is_some() {
            let outside = std::mem::replace(&mut self.inline, true);
            visit::visit_item_mod(self, item);
            self.inline = outside;
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Module = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 && path.leading_colon.is_none() {
            let line = path.segments[0].ident.span().start().line;
            self.add(&segments, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(super)` names no item.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let file = |(path, text): &(&str, &str)| File {
            path: format!("crates/x/src/{path}"),
            text: (*text).to_owned(),
            tree: syn::parse_file(text).unwrap(),
        };
        let files: Vec<File> = files.iter().map(file).collect();
        Graph::of("crates/x", files.iter()).circles()
    }

    #[test]
    fn a_circle_of_two_files_is_found_by_use_and_by_path() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B; fn f() { let _ = super::a::A; }"),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0],
            [
                "crates/x/src/a.rs:1 names b::B of crates/x/src/b.rs",
                "crates/x/src/b.rs:1 names a::A of crates/x/src/a.rs"
            ]
        );
    }

    #[test]
    fn a_circle_through_re_exports_and_globs_is_found() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::*;"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::A; pub struct C;"),
        ]);
        assert_eq!((found.len(), found[0].len()), (1, 3));
    }

    #[test]
    fn a_root_that_only_re_exports_its_modules_is_in_no_circle() {
        let tests = "use crate::B; pub struct A; #[cfg(test)] mod tests { use super::*; use crate::C; }";
        let found = circles(&[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::{B, C};"),
            ("a.rs", tests),
            ("b.rs", "pub struct B; pub struct C;"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_module_may_name_its_parts_and_an_error_what_it_is_about() {
        let found = circles(&[
            ("lib.rs", "mod a; mod error; mod ids;"),
            ("a/mod.rs", "mod part; pub struct A; fn f() { part::run(A) }"),
            ("a/part.rs", "use super::A; pub fn run(_: A) {}"),
            ("error.rs", "use crate::ids::Id; pub enum Error { Unknown(Id) }"),
            ("ids.rs", "use crate::error::Error; pub struct Id;"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_root_that_calls_a_module_that_uses_its_items_is_in_a_circle() {
        let found = circles(&[
            ("lib.rs", "mod a; pub struct Options; fn main() { a::run(Options) }"),
            ("a.rs", "use crate::Options; pub fn run(_: Options) {}"),
        ]);
        assert_eq!(found.len(), 1);
    }
}
