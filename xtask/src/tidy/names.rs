//! Every name in backticks in docs/architecture.md exists.

use std::collections::BTreeSet;
use std::fs;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::workspace::{Member, Workspace};

/// Names that stand for something outside the sources: keywords, and parts of a store's paths that differ from store to store.
const ELSEWHERE: [&str; 5] = ["unsafe", "stages/KEY.stage", "records/", "typetag", "burn"];

/// The declarations in the sources of some crates.
#[derive(Default)]
struct Declared {
    /// Names of items, variants, fields, methods and modules.
    names: BTreeSet<String>,
    /// String literals: names that are known at run time only.
    texts: BTreeSet<String>,
}

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) -> std::io::Result<()> {
    let page = fs::read_to_string(workspace.root.join("docs/architecture.md"))?;
    let everywhere = Declared::of(workspace.crates.values());
    let packages: BTreeSet<&str> = workspace.metadata.packages.iter().map(|package| package.name.as_str()).collect();
    // Inside an entry of the code map a name is one of the entry's crate.
    let mut entry: Option<(&str, Declared)> = None;
    for (line, text) in (1..).zip(page.lines()) {
        if let Some(folder) = text.strip_prefix("- `").and_then(|rest| rest.split('`').next()) {
            let member = workspace.crates.values().find(|member| member.folder == folder);
            entry = member.map(|member| (folder, Declared::of([member])));
        } else if !text.starts_with("  ") {
            entry = None;
        }
        for name in text.split('`').skip(1).step_by(2) {
            let known = |declared: &Declared| declared.knows(name);
            let found = ELSEWHERE.contains(&name)
                || workspace.root.join(name).exists()
                || workspace.root.join("docs").join(name).exists()
                || packages.contains(name)
                || is_command(name, &everywhere)
                || match &entry {
                    Some((_, declared)) => known(declared) || name.contains("::") && known(&everywhere),
                    None => known(&everywhere),
                };
            if !found {
                let place = entry.as_ref().map_or("in the sources", |(folder, _)| folder);
                problems.push(format!("docs/architecture.md line {line}: `{name}` is not there ({place})"));
            }
        }
    }
    Ok(())
}

/// `s3t plan`, `cargo xtask tidy`: a program and a command that is a variant of one of the sources' enumerations.
fn is_command(name: &str, everywhere: &Declared) -> bool {
    let variant = |command: &str| -> String {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        command.split('-').filter(|word| !word.is_empty()).map(capital).collect()
    };
    let words: Vec<&str> = name.split(' ').collect();
    match words[..] {
        ["cargo", "xtask", command, ..] | ["s3t", command, ..] => everywhere.names.contains(&variant(command)),
        ["cargo", ..] => true,
        _ => false,
    }
}

impl Declared {
    fn of<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        let mut declared = Self::default();
        for file in members.into_iter().flat_map(|member| &member.files) {
            let stem = file.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
            let folder = file.path.rsplit('/').nth(1).unwrap_or_default();
            declared.names.extend([stem.to_owned(), folder.to_owned()]);
            declared.visit_file(&file.tree);
        }
        declared
    }

    /// A path of items, a call, a field, a table or key of a pipeline file, or a text.
    fn knows(&self, name: &str) -> bool {
        if self.texts.contains(name) || self.texts.iter().any(|text| text.contains(name) && name.contains(['.', '/'])) {
            return true;
        }
        let name = name.trim_end_matches(['!', ')', '(']).trim_matches(['[', ']']);
        let parts: Vec<&str> = name.split("::").flat_map(|part| part.split('.')).collect();
        let known = |part: &&str| {
            let part = part.replace('-', "_");
            self.names.contains(&part) || self.texts.contains(&part) || part.starts_with("s3t")
        };
        !name.is_empty() && parts.iter().all(known)
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                        self.texts.insert(text.to_owned());
                    }
                }
                _ => {}
            }
        }
    }
}

macro_rules! declares {
    ($($visit:ident($kind:ident) $($name:ident).+;)*) => {
        impl<'ast> Visit<'ast> for Declared {
            $(fn $visit(&mut self, item: &'ast syn::$kind) {
                self.names.insert(item.$($name).+.to_string());
                visit::$visit(self, item);
            })*

            fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
                self.names.extend(item.ident.as_ref().map(ToString::to_string));
                visit::visit_item_macro(self, item);
            }

            fn visit_field(&mut self, field: &'ast syn::Field) {
                self.names.extend(field.ident.as_ref().map(ToString::to_string));
                visit::visit_field(self, field);
            }

            fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
                self.texts.insert(text.value());
            }

            fn visit_macro(&mut self, call: &'ast syn::Macro) {
                self.tokens(call.tokens.clone());
            }

            fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
                self.tokens(list.tokens.clone());
            }
        }
    };
}

declares! {
    visit_item_const(ItemConst) ident;
    visit_item_enum(ItemEnum) ident;
    visit_item_fn(ItemFn) sig.ident;
    visit_item_mod(ItemMod) ident;
    visit_item_static(ItemStatic) ident;
    visit_item_struct(ItemStruct) ident;
    visit_item_trait(ItemTrait) ident;
    visit_item_type(ItemType) ident;
    visit_variant(Variant) ident;
    visit_impl_item_fn(ImplItemFn) sig.ident;
    visit_impl_item_const(ImplItemConst) ident;
    visit_trait_item_fn(TraitItemFn) sig.ident;
}
