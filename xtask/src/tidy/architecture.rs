//! docs/architecture.md beside the disk and `cargo metadata`: every crate has its entry, and the invariants hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, PackageId};

use super::workspace::{Member, Workspace};

/// Crates that a crate must not reach, directly or by way of others, outside tests.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // The trainer sees a stage's lineage and its records, and cannot reach another stage, another record or a count of them.
    ("s3t-train", &["s3t-store", "s3t-engine", "s3t-data"]),
    ("s3t-ledger", &["s3t-store", "s3t-peft", "burn", "rusqlite"]),
    ("s3t-data", &["s3t-store", "s3t-peft", "burn", "rusqlite"]),
    ("s3t-peft", &["s3t-models", "s3t-store", "tokenizers", "rusqlite"]),
    ("s3t-backends", &["s3t-models", "s3t-peft", "s3t-store", "s3t-train", "rusqlite"]),
    ("s3t-models", &["s3t-backends", "s3t-store", "s3t-train", "rusqlite"]),
    ("s3t-store", &["s3t-models", "s3t-train", "s3t-data", "tokenizers"]),
    ("s3t-engine", &["s3t", "s3t-cli", "s3t-server", "axum", "clap"]),
    ("s3t-server", &["s3t", "s3t-cli", "clap"]),
];

/// Crates of ours that a crate may depend on, for those that may depend on few.
const ONLY: &[(&str, &[&str])] = &[
    ("s3t-core", &[]),
    ("s3t-kernels", &[]),
    ("s3t-executor", &["s3t-core"]),
    ("s3t-objects", &["s3t-executor"]),
    ("s3t-cluster", &["s3t-executor", "s3t-objects"]),
    ("s3t-cli", &["s3t", "s3t-server"]),
];

/// A plugin depends on one of these, and on no other crate of ours.
const TRAITS: [&str; 5] = ["s3t-cluster", "s3t-core", "s3t-executor", "s3t-peft", "s3t-models"];

/// Crates that may link plugins.
const LINKS_PLUGINS: [&str; 2] = ["s3t", "s3t-testkit"];

/// Crates that `s3t-core` may depend on: none brings tensors, files, clocks, threads or random numbers.
const PURE: [&str; 13] = [
    "libm",
    "blake3",
    "icu_normalizer",
    "icu_properties",
    "inventory",
    "schemars",
    "serde",
    "serde_json",
    "statrs",
    "strsim",
    "thiserror",
    "typetag",
    "zeroize",
];

pub fn check(workspace: &Workspace, problems: &mut Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    check_folders(workspace, problems);
    check_page(workspace, problems)?;
    check_reach(workspace, problems)?;
    check_plugins(workspace, problems);
    check_core_is_pure(workspace, problems);
    check_sources(workspace, problems);
    Ok(())
}

/// Folder name = crate name, for everything in crates/, plugins/ and xtask/.
fn check_folders(workspace: &Workspace, problems: &mut Vec<String>) {
    for (name, Member { folder, .. }) in &workspace.crates {
        let expected = ["crates", "plugins", "xtask"].map(|place| format!("{place}/{name}"));
        let elsewhere = ["xtask", "benches"].contains(&folder.as_str()) || folder.starts_with("examples/");
        if !elsewhere && !expected.contains(folder) {
            problems.push(format!("the crate {name} is in {folder}, not in {}", expected.join(" or ")));
        }
    }
}

/// The code map names every crate, nothing that is not there, and a crate after those that it depends on.
fn check_page(workspace: &Workspace, problems: &mut Vec<String>) -> std::io::Result<()> {
    let page = fs::read_to_string(workspace.root.join("docs/architecture.md"))?;
    let map = page.split("## Code map").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let entry = |line: &str| line.strip_prefix("- `").and_then(|rest| rest.split('`').next()).map(str::to_owned);
    let named: Vec<String> = map.lines().filter_map(entry).collect();
    let there: BTreeSet<&String> = workspace.crates.values().map(|member| &member.folder).collect();
    // Plugins are described by their own documentation, which `s3t plugins` shows.
    let lacks = |folder: &&&String| !named.contains(folder) && !folder.starts_with("plugins/");
    problems
        .extend(there.iter().filter(lacks).map(|folder| format!("docs/architecture.md: the code map lacks {folder}")));
    for folder in named.iter().filter(|folder| !there.contains(folder) && *folder != "plugins") {
        problems.push(format!("docs/architecture.md names {folder}, which is not there"));
    }
    let place = |member: &Member| named.iter().position(|folder| *folder == member.folder);
    for (name, member) in &workspace.crates {
        for other in &member.depends_on {
            let is_plugin = |member: &Member| member.folder.starts_with("plugins/");
            if is_plugin(member) || is_plugin(&workspace.crates[other]) {
                continue;
            }
            if place(&workspace.crates[other]) > place(member) {
                problems.push(format!(
                    "docs/architecture.md: {name} depends on {other} and stands above it in the code map"
                ));
            }
        }
    }
    Ok(())
}

fn check_reach(workspace: &Workspace, problems: &mut Vec<String>) -> Result<(), String> {
    let resolve = workspace.metadata.resolve.as_ref().ok_or("cargo metadata has no graph")?;
    let normal = |node: &cargo_metadata::Node| {
        let wanted = |dep: &&cargo_metadata::NodeDep| dep.dep_kinds.iter().any(|of| of.kind == DependencyKind::Normal);
        node.deps.iter().filter(wanted).map(|dep| dep.pkg.clone()).collect::<Vec<_>>()
    };
    let graph: BTreeMap<&PackageId, Vec<PackageId>> =
        resolve.nodes.iter().map(|node| (&node.id, normal(node))).collect();
    let name_of: BTreeMap<&PackageId, &str> =
        workspace.metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    for package in workspace.metadata.workspace_packages() {
        let Some((name, forbidden)) = FORBIDDEN.iter().find(|(name, _)| *package.name == *name) else { continue };
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![&package.id]);
        while let Some(id) = waiting.pop() {
            if reached.insert(name_of[id]) {
                waiting.extend(&graph[id]);
            }
        }
        for other in forbidden.iter().filter(|other| reached.contains(**other)) {
            problems.push(format!(
                "{name} depends on {other}, directly or by way of others, which the architecture forbids"
            ));
        }
    }
    for (name, allowed) in ONLY {
        match workspace.crates.get(*name) {
            Some(member) => {
                for other in member.depends_on.iter().filter(|other| !allowed.contains(&other.as_str())) {
                    problems.push(format!("{name} depends on {other}, which the architecture does not allow"));
                }
            }
            None => problems.push(format!("the crate {name} is not there")),
        }
    }
    Ok(())
}

/// A plugin depends on one trait crate, and nobody but the facade and the test kit depends on a plugin.
fn check_plugins(workspace: &Workspace, problems: &mut Vec<String>) {
    let is_plugin = |name: &str| workspace.crates[name].folder.starts_with("plugins/");
    for (name, member) in workspace.product() {
        if is_plugin(name) {
            let traits: Vec<&str> = member.depends_on.iter().map(String::as_str).collect();
            if traits.len() != 1 || !TRAITS.contains(&traits[0]) {
                let found = if traits.is_empty() { "no crate".to_owned() } else { traits.join(", ") };
                let known = TRAITS.join(", ");
                problems
                    .push(format!("the plugin {name} depends on {found} of ours; a plugin depends on one of {known}"));
            }
        } else if !LINKS_PLUGINS.contains(&name.as_str()) {
            for other in member.depends_on.iter().filter(|other| is_plugin(other)) {
                problems.push(format!("{name} links the plugin {other}; only {} may", LINKS_PLUGINS.join(" and ")));
            }
        }
    }
}

fn check_core_is_pure(workspace: &Workspace, problems: &mut Vec<String>) {
    let core = workspace.metadata.workspace_packages().into_iter().find(|package| package.name == "s3t-core");
    let Some(core) = core else { return };
    for dependency in core.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal) {
        if !PURE.contains(&dependency.name.as_str()) {
            problems.push(format!("s3t-core depends on {}, which is not on its list of pure crates", dependency.name));
        }
    }
}

/// Words that must not stand in the sources of the product, outside tests.
fn check_sources(workspace: &Workspace, problems: &mut Vec<String>) {
    let pure = ["std::fs", "std::time", "std::thread", "std::net", "std::env", "SystemTime", "Instant::now"];
    let talk = ["println!", "eprintln!", "print!(", "process::exit"];
    for (name, member) in workspace.product() {
        for file in member.sources() {
            let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
            // Comments may show what a program of the reader's own does.
            let code: Vec<&str> = code.lines().filter(|line| !is_documentation(line)).collect();
            let code = code.join("\n");
            let mut forbid = |words: &[&str], why: &str| {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    problems.push(format!("{} has `{word}`: {why}", file.path));
                }
            };
            if name == "s3t-core" {
                forbid(&pure, "s3t-core knows no files, clock, threads or environment");
            }
            if name != "s3t-cli" {
                forbid(&talk, "nothing below the command line prints or exits");
            }
            forbid(&["todo!(", "unimplemented!("], "there is no such code in this project");
            if name != "s3t-kernels" {
                forbid(&["unsafe {", "unsafe fn"], "only kernels have such code");
            }
            if code.matches("unsafe {").count() > code.matches("// SAFETY:").count() {
                problems
                    .push(format!("{} has an `unsafe` block without a comment that starts with `SAFETY:`", file.path));
            }
        }
    }
}

fn is_documentation(line: &str) -> bool {
    ["///", "//!"].iter().any(|mark| line.trim_start().starts_with(mark))
}
