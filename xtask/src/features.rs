//! Every published crate alone, and every feature that is promised: what a build of the whole workspace hides, because features add up there.

use std::collections::BTreeSet;

use cargo_metadata::{MetadataCommand, Package};
use clap::Args;

use crate::cargo::cargo_with;

/// Type-checks every published crate alone with its defaults, and each of its features without the defaults.
#[derive(Args)]
pub struct Features {
    /// Only these crates.
    #[arg(long)]
    package: Vec<String>,
    /// Only say which checks would be made.
    #[arg(long)]
    dry_run: bool,
}

/// Features whose dependencies need a graphics card's compiler to build: they are checked for the command line only.
const HEAVY: [&str; 3] = ["cuda", "vulkan", "wgpu"];

impl Features {
    pub fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let metadata = MetadataCommand::new().no_deps().exec()?;
        let mut checks: BTreeSet<Vec<String>> = BTreeSet::new();
        for package in metadata.workspace_packages() {
            let published = package.publish.is_none();
            if self.package.is_empty() && published || self.package.contains(&package.name) {
                checks.extend(checks_of(package));
            }
        }
        for check in &checks {
            println!("cargo {}", check.join(" "));
            if !self.dry_run {
                // The build script of the CUDA backend would fetch a compiler; DOCS_RS tells it that nothing will be linked.
                let variables: &[_] = if check.iter().any(|word| word == "cuda") { &[("DOCS_RS", "1")] } else { &[] };
                cargo_with(variables, check)?;
            }
        }
        println!("{} checks", checks.len());
        Ok(())
    }
}

/// The crate alone with its tests, and its library with each feature.
fn checks_of(package: &Package) -> Vec<Vec<String>> {
    let check = |more: &[&str]| {
        let words = ["check", "--quiet", "--package", package.name.as_str()];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let mut checks = vec![check(&["--all-targets"])];
    let features: Vec<&String> = package.features.keys().filter(|name| *name != "default").collect();
    if features.is_empty() {
        return checks;
    }
    checks.push(check(&["--no-default-features"]));
    let light = |name: &&&String| !HEAVY.contains(&name.as_str()) || *package.name == "s3t-cli";
    for feature in features.iter().filter(light) {
        checks.push(check(&["--no-default-features", "--features", feature]));
    }
    checks
}
