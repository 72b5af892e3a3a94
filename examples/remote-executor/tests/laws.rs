//! The laws of the guide's executor, and the promises of the guide about its length and its dependencies.

use s3t_example_remote_executor as _;

/// The guide's worker.
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");

include!(concat!(env!("OUT_DIR"), "/laws.rs"));

const GUIDE: &str = include_str!("../../../docs/guide/writing-an-executor.md");

/// The manifest as it is outside this repository: versions, and no places of crates.
fn outside(manifest: &str) -> String {
    let line = |line: &str| match line.split_once(", path = ") {
        Some((before, _)) => before.replace("{ version = ", ""),
        None => line.to_owned(),
    };
    manifest.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn the_guide_names_the_dependencies_of_this_crate_and_is_short() {
    let toml = GUIDE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(outside(include_str!("../Cargo.toml")).contains(toml.trim()), "the guide's Cargo.toml is this crate's");
    let code = GUIDE.split("```").skip(1).step_by(2).filter(|block| block.starts_with("rust"));
    let lines: usize = code.map(|block| block.lines().count() - 1).sum();
    assert!(lines < 170, "{lines} lines of code");
}
