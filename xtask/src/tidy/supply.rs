//! Licences, bans and sources of every package, by the lists in deny.toml.

use std::fs;

use cargo_metadata::{DependencyKind, Package};
use spdx::{Expression, LicenseReq, Licensee, ParseMode};
use toml_edit::DocumentMut;

use super::workspace::Workspace;

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let deny: DocumentMut = fs::read_to_string(workspace.root.join("deny.toml"))?.parse()?;
    let allowed: Vec<Licensee> =
        texts(&deny, "licenses", "allow", None).iter().map(|text| Licensee::parse(text)).collect::<Result<_, _>>()?;
    let banned = texts(&deny, "bans", "deny", Some("crate"));
    let registries = texts(&deny, "sources", "allow-registry", None);
    if allowed.is_empty() || banned.is_empty() || registries.is_empty() {
        return Err("deny.toml lacks `licenses.allow`, `bans.deny` or `sources.allow-registry`".into());
    }
    for package in &workspace.metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if let Err(problem) = licence(package, &allowed) {
            problems.push(format!("the licence of {name}: {problem}"));
        }
        if banned.iter().any(|banned| *banned == *package.name) {
            problems.push(format!("{name} is built, which deny.toml bans"));
        }
        match &package.source {
            Some(source) => {
                let known = |url: &String| source.repr == format!("registry+{url}");
                if !registries.iter().any(known) {
                    problems.push(format!("{name} comes from {source}, which deny.toml does not allow"));
                }
            }
            None => {
                let lacks = [
                    ("description", package.description.is_none()),
                    ("keywords", package.keywords.is_empty()),
                    ("categories", package.categories.is_empty()),
                    ("readme", package.readme.is_none()),
                    ("rust-version", package.rust_version.is_none()),
                ];
                for (field, _) in lacks.iter().filter(|(_, lacks)| *lacks && is_published(package)) {
                    problems.push(format!("{name} has no `{field}` in its Cargo.toml"));
                }
                for dependency in package.dependencies.iter().filter(|of| of.kind != DependencyKind::Development) {
                    if dependency.req.comparators.is_empty() && (dependency.path.is_none() || is_published(package)) {
                        problems.push(format!("{name} depends on {} without a version", dependency.name));
                    }
                }
            }
        }
    }
    Ok(())
}

fn is_published(package: &Package) -> bool {
    package.publish.as_ref().is_none_or(|registries| !registries.is_empty())
}

/// A licence expression of which the allowed licences are enough, or a licence text that says which it is.
fn licence(package: &Package, allowed: &[Licensee]) -> Result<(), String> {
    let Some(expression) = &package.license else {
        let text = package.license_file().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let known = text.contains("Apache License, Version 2.0");
        return if known { Ok(()) } else { Err("there is no expression, and no text that is known".into()) };
    };
    let parsed = Expression::parse_mode(expression, ParseMode::LAX).map_err(|error| error.to_string())?;
    let enough = parsed.evaluate(|wanted: &LicenseReq| allowed.iter().any(|licence| licence.satisfies(wanted)));
    if enough { Ok(()) } else { Err(format!("`{expression}` is not among those that deny.toml allows")) }
}

/// The texts of a list, or the field of each of its tables.
fn texts(deny: &DocumentMut, section: &str, key: &str, field: Option<&str>) -> Vec<String> {
    let list = deny.get(section).and_then(|section| section.get(key)).and_then(|list| list.as_array());
    let text = |value: &toml_edit::Value| match field {
        Some(field) => value.as_inline_table()?.get(field)?.as_str().map(str::to_owned),
        None => value.as_str().map(str::to_owned),
    };
    list.into_iter().flatten().filter_map(text).collect()
}
