//! Takes the code blocks out of the guide: what the guide shows is what is compiled.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::Path;
use std::{env, fs};

fn main() {
    let guide = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .join("../../docs/guide/writing-a-peft-method.md");
    println!("cargo::rerun-if-changed={}", guide.display());
    let text = fs::read_to_string(&guide).expect("the guide is in docs/guide");
    let (mut plugin, mut laws) = (String::new(), String::new());
    // Blocks stand between lines of three backticks; every second part is one, with its language in the first line.
    for block in text.split("```").skip(1).step_by(2) {
        match block.split_once('\n') {
            Some(("rust", code)) => plugin.push_str(code),
            Some(("rust,test", code)) => laws.push_str(code),
            _ => {}
        }
    }
    assert!(plugin.contains("impl PeftMethod") && laws.contains("#[test]"), "the guide has a method and its laws");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("plugin.rs"), plugin).expect("OUT_DIR is writable");
    fs::write(Path::new(&out).join("laws.rs"), laws).expect("OUT_DIR is writable");
}
