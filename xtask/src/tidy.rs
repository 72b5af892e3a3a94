//! Compares docs/architecture.md and its invariants with the disk and with `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

type Problems = Vec<String>;

pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    let metadata = MetadataCommand::new().exec()?;
    let root: PathBuf = metadata.workspace_root.clone().into();
    let mut problems = Problems::new();
    let crates = crates(&metadata);
    check_folders(&crates, &root, &mut problems);
    check_page(&crates, &root, &mut problems)?;
    check_arrows(&crates, &mut problems);
    check_core_is_pure(&metadata, &mut problems);
    check_sources(&crates, &root, &mut problems)?;
    check_proof_notes(&root, &mut problems)?;
    for problem in &problems {
        println!("tidy: {problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} crates agree with docs/architecture.md", crates.len());
        Ok(())
    } else {
        Err(format!("{} problems", problems.len()).into())
    }
}

/// A crate of the workspace: its folder from the root, and our crates that it depends on outside tests.
struct Member {
    folder: String,
    depends_on: BTreeSet<String>,
}

fn crates(metadata: &Metadata) -> BTreeMap<String, Member> {
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let member = |package: &&cargo_metadata::Package| {
        let folder = package.manifest_path.parent().map(|folder| folder.strip_prefix(&metadata.workspace_root));
        let folder = folder.and_then(Result::ok).map(ToString::to_string).unwrap_or_default();
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let depends_on = normal.map(|dependency| dependency.name.clone()).filter(|name| ours.contains(name)).collect();
        (package.name.to_string(), Member { folder, depends_on })
    };
    packages.iter().map(member).collect()
}

/// Folder name = crate name, for everything in crates/, plugins/ and xtask/.
fn check_folders(crates: &BTreeMap<String, Member>, root: &Path, problems: &mut Problems) {
    for (name, member) in crates {
        let expected = ["crates", "plugins", "xtask"].map(|folder| format!("{folder}/{name}"));
        let elsewhere =
            ["xtask", "benches"].contains(&member.folder.as_str()) || member.folder.starts_with("examples/");
        if !elsewhere && !expected.contains(&member.folder) {
            problems.push(format!("the crate {name} is in {}, not in {}", member.folder, expected.join(" or ")));
        }
        if !root.join(&member.folder).join("Cargo.toml").is_file() {
            problems.push(format!("{} has no Cargo.toml", member.folder));
        }
    }
}

/// The code map names every crate, and nothing that is not there.
fn check_page(
    crates: &BTreeMap<String, Member>,
    root: &Path,
    problems: &mut Problems,
) -> Result<(), Box<dyn std::error::Error>> {
    let page = fs::read_to_string(root.join("docs/architecture.md"))?;
    let map = page.split("## Code map").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let entry = |line: &str| line.strip_prefix("- `").and_then(|rest| rest.split('`').next()).map(str::to_owned);
    let named: BTreeSet<String> = map.lines().filter_map(entry).collect();
    let there: BTreeSet<String> = crates.values().map(|member| member.folder.clone()).collect();
    problems
        .extend(there.difference(&named).map(|folder| format!("the code map of docs/architecture.md lacks {folder}")));
    problems.extend(
        named.difference(&there).map(|folder| format!("docs/architecture.md names {folder}, which is not there")),
    );
    Ok(())
}

/// Arrows point towards s3t-core.
fn check_arrows(crates: &BTreeMap<String, Member>, problems: &mut Problems) {
    let allowed: &[(&str, &[&str])] = &[
        ("s3t-core", &[]),
        ("s3t-kernels", &[]),
        ("s3t-peft", &["s3t-core", "s3t-kernels"]),
        ("s3t-data", &["s3t-core"]),
        ("s3t-backends", &["s3t-core", "s3t-kernels", "s3t-peft"]),
        ("s3t-train", &["s3t-core", "s3t-peft", "s3t-backends"]),
        ("s3t-ledger", &["s3t-core"]),
        ("s3t-store", &["s3t-core", "s3t-peft", "s3t-ledger"]),
        ("s3t-engine", &["s3t-core", "s3t-peft", "s3t-backends", "s3t-data", "s3t-ledger", "s3t-store", "s3t-train"]),
        ("s3t-eval", &["s3t-core", "s3t-peft", "s3t-backends", "s3t-train", "s3t-engine"]),
        (
            "s3t-interchange",
            &["s3t-core", "s3t-peft", "s3t-backends", "s3t-ledger", "s3t-store", "s3t-train", "s3t-engine"],
        ),
        (
            "s3t-api",
            &[
                "s3t-core",
                "s3t-peft",
                "s3t-backends",
                "s3t-data",
                "s3t-ledger",
                "s3t-store",
                "s3t-train",
                "s3t-engine",
                "s3t-eval",
                "s3t-interchange",
            ],
        ),
        ("s3t-cli", &["s3t"]),
    ];
    for (name, allowed) in allowed {
        let Some(member) = crates.get(*name) else {
            problems.push(format!("the crate {name} is not there"));
            continue;
        };
        for other in member.depends_on.iter().filter(|other| !allowed.contains(&other.as_str())) {
            problems.push(format!("{name} depends on {other}, which the architecture does not allow"));
        }
    }
    for (name, member) in crates.iter().filter(|(_, member)| member.folder.starts_with("plugins/")) {
        for other in member.depends_on.iter().filter(|other| !["s3t-core", "s3t-peft"].contains(&other.as_str())) {
            problems.push(format!("the plugin {name} depends on {other}; a plugin depends on one trait crate"));
        }
        if member.depends_on.len() != 1 {
            problems
                .push(format!("the plugin {name} depends on {} of our crates, not on one", member.depends_on.len()));
        }
        let facade = crates.get("s3t").is_some_and(|facade| facade.depends_on.contains(name));
        if !facade {
            problems.push(format!("the facade s3t does not link the plugin {name}"));
        }
    }
}

/// s3t-core knows no tensors, files, clock, threads or global randomness: none of its dependencies brings them in.
fn check_core_is_pure(metadata: &Metadata, problems: &mut Problems) {
    let known = [
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
    let Some(core) = metadata.workspace_packages().into_iter().find(|package| package.name == "s3t-core") else {
        return;
    };
    for dependency in core.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal) {
        if !known.contains(&dependency.name.as_str()) {
            problems.push(format!("s3t-core depends on {}, which is not on its list of pure crates", dependency.name));
        }
    }
}

/// Words that must not stand in a crate's sources, outside its tests.
fn check_sources(
    crates: &BTreeMap<String, Member>,
    root: &Path,
    problems: &mut Problems,
) -> Result<(), Box<dyn std::error::Error>> {
    let pure = ["std::fs", "std::time", "std::thread", "std::net", "std::env", "SystemTime", "Instant::now"];
    let talk = ["println!", "eprintln!", "print!(", "process::exit"];
    for member in
        crates.values().filter(|member| member.folder.starts_with("crates/") || member.folder.starts_with("plugins/"))
    {
        for file in rust_files(&root.join(&member.folder).join("src"))? {
            let text = fs::read_to_string(&file)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let mut forbid = |words: &[&str], why: &str| {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    problems.push(format!("{shown} has `{word}`: {why}"));
                }
            };
            if member.folder == "crates/s3t-core" {
                forbid(&pure, "s3t-core knows no files, clock, threads or environment");
            }
            if member.folder != "crates/s3t-cli" {
                forbid(&talk, "nothing below the command line prints or exits");
            }
            forbid(&["todo!(", "unimplemented!("], "there is no such code in this project");
            if member.folder != "crates/s3t-kernels" {
                forbid(&["unsafe {", "unsafe fn"], "only kernels have such code");
            }
            if code.matches("unsafe {").count() > code.matches("// SAFETY:").count() {
                problems.push(format!("{shown} has an `unsafe` block without a comment that starts with `SAFETY:`"));
            }
        }
    }
    Ok(())
}

/// Every plugin has its proof note beside its code.
fn check_proof_notes(root: &Path, problems: &mut Problems) -> Result<(), Box<dyn std::error::Error>> {
    for folder in ["plugins", "examples/third-party-plugin"] {
        for file in rust_files(&root.join(folder))? {
            let text = fs::read_to_string(&file)?;
            let plugins = text.matches("#[typetag::serde(name").count();
            let notes = text.matches("# Proof note").count();
            if notes < plugins {
                problems.push(format!("{} has {plugins} plugins and {notes} proof notes", file.display()));
            }
        }
    }
    Ok(())
}

fn rust_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
