//! Versions that decide bits are pinned.

use cargo_metadata::Metadata;

/// Libraries whose arithmetic, random numbers, texts or tokens are part of every stage. Other crates may use other versions of the random
/// number generators for purposes of their own; of the others there is one version only.
const PINNED: [(&str, bool); 10] = [
    ("burn", true),
    ("burn-flex", true),
    ("libm", true),
    ("pulp", true),
    ("tokenizers", true),
    ("minijinja", true),
    ("minijinja-contrib", true),
    ("rand", false),
    ("rand_chacha", false),
    ("rand_distr", false),
];

/// Checks that every crate of the workspace asks for exactly the version that is locked.
pub fn check(metadata: &Metadata, problems: &mut Vec<String>) {
    for (name, is_only) in PINNED {
        let locked: Vec<String> =
            metadata.packages.iter().filter(|of| of.name == name).map(|of| of.version.to_string()).collect();
        if locked.is_empty() {
            problems.push(format!(
                "{name} decides bits, but Cargo.lock has no such package; correct the list in xtask/src/tidy/pins.rs"
            ));
        }
        if is_only && locked.len() > 1 {
            problems.push(format!(
                "{name} decides bits, but Cargo.lock has {} versions of it: {}",
                locked.len(),
                locked.join(", ")
            ));
        }
        for package in metadata.workspace_packages() {
            for dependency in package.dependencies.iter().filter(|dependency| dependency.name == name) {
                let asked = dependency.req.to_string();
                if !asked.strip_prefix('=').is_some_and(|version| locked.iter().any(|locked| locked == version)) {
                    problems.push(format!(
                        "{} asks for {name} {asked}, which decides bits; write `={}` in [workspace.dependencies]",
                        package.name,
                        locked.join("` or `=")
                    ));
                }
            }
        }
    }
}
