//! The crates of the workspace and their files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Everything that the checks read.
pub struct Workspace {
    pub root: PathBuf,
    pub metadata: Metadata,
    pub crates: BTreeMap<String, Member>,
}

/// A crate of the workspace.
pub struct Member {
    /// Its folder from the root.
    pub folder: String,
    /// Our crates that it depends on outside tests.
    pub depends_on: BTreeSet<String>,
    /// Its Rust files, tests and benches included.
    pub files: Vec<File>,
}

/// A Rust file.
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    pub text: String,
    pub tree: syn::File,
}

impl Workspace {
    pub fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let metadata = MetadataCommand::new().exec()?;
        let root: PathBuf = metadata.workspace_root.clone().into();
        let packages = metadata.workspace_packages();
        let ours: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
        let folder_of = |package: &cargo_metadata::Package| {
            let folder = package.manifest_path.parent().map(|folder| folder.strip_prefix(&metadata.workspace_root));
            folder.and_then(Result::ok).map(|folder| folder.as_str().replace('\\', "/")).unwrap_or_default()
        };
        let folders: BTreeSet<String> = packages.iter().map(|package| folder_of(package)).collect();
        let mut crates = BTreeMap::new();
        for package in packages {
            let folder = folder_of(package);
            let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
            let depends_on =
                normal.map(|dependency| dependency.name.clone()).filter(|name| ours.contains(name)).collect();
            let mut files = Vec::new();
            for path in files_below(&root.join(&folder), "rs")? {
                let shown = shown(&root, &path);
                // Another crate may lie in a folder below.
                let nested = |other: &&String| {
                    other.len() > folder.len() && other.starts_with(&folder) && shown.starts_with(&format!("{other}/"))
                };
                if folders.iter().any(|other| nested(&other)) {
                    continue;
                }
                let text = fs::read_to_string(&path)?;
                let tree = syn::parse_file(&text)
                    .map_err(|error| format!("{shown} line {}: {error}", error.span().start().line))?;
                files.push(File { path: shown, text, tree });
            }
            crates.insert(package.name.to_string(), Member { folder, depends_on, files });
        }
        Ok(Self { root, metadata, crates })
    }

    /// The crates of the product: those in `crates` and `plugins`.
    pub fn product(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.crates
            .iter()
            .filter(|(_, member)| member.folder.starts_with("crates/") || member.folder.starts_with("plugins/"))
    }
}

/// A path from the root, with `/`.
pub fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string().replace('\\', "/")
}

/// The files with an ending below a folder, in order; build outputs are left out.
pub fn files_below(folder: &Path, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !["target", ".git"].iter().any(|name| path.ends_with(name)) {
                files.extend(files_below(&path, ending)?);
            }
        } else if path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Member {
    /// The files in `src`.
    pub fn sources(&self) -> impl Iterator<Item = &File> {
        let src = format!("{}/src/", self.folder);
        self.files.iter().filter(move |file| file.path.starts_with(&src))
    }
}
