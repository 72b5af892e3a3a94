//! Makes a module of each template of `cargo xtask new`, as the task would, and a test that expects its law to fail.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::Path;
use std::{env, fs};

/// Each kind with the law that its skeleton breaks.
const KINDS: [(&str, &str); 7] = [
    ("family", "loads"),
    ("method", "the adapter has no effect"),
    ("strategy", "twice"),
    ("members", "no member is chosen"),
    ("aggregator", "members that agree"),
    ("partitioner", "another secret gives the same partition"),
    ("executor", "the executor is not written yet"),
];

fn main() {
    let folder = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .join("../../xtask/src/new/templates");
    println!("cargo::rerun-if-changed={}", folder.display());
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let (mut modules, mut tests) = (String::new(), String::new());
    for (kind, broken) in KINDS {
        let read = |file: String| {
            let text = fs::read_to_string(folder.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            // Documentation of the file stands before the module.
            let lines = text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n"));
            lines.collect::<String>().replace("new-plugin", &format!("new-{kind}"))
        };
        let library = read(format!("{kind}.rs"));
        modules += &format!("/// The skeleton of a new {kind}.\npub mod {kind} {{\n{library}\n}}\n");
        let laws = read(format!("{kind}_laws.rs"))
            .replace("s3t_new_plugin", "s3t_example_skeletons")
            .replace("#[test]", &format!("#[test]\n#[should_panic(expected = \"{broken}\")]"));
        tests += &format!("mod {kind} {{\n{laws}\n}}\n");
    }
    fs::write(Path::new(&out).join("skeletons.rs"), modules).expect("OUT_DIR is writable");
    fs::write(Path::new(&out).join("laws.rs"), tests).expect("OUT_DIR is writable");
}
