//! Takes the code blocks out of the guides: what a guide shows is what is compiled.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::Path;
use std::{env, fs};

/// Each page with what its code has to define.
const PAGES: [(&str, &str); 4] = [
    ("writing-a-peft-method", "impl PeftMethod"),
    ("writing-a-model-family", "model_family!"),
    ("writing-a-strategy", "impl SequenceStrategy"),
    ("writing-an-aggregator", "impl Aggregator"),
];

fn main() {
    let folder = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    for (page, defines) in PAGES {
        let guide = Path::new(&folder).join(format!("../../docs/guide/{page}.md"));
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
        assert!(plugin.contains(defines) && laws.contains("#[test]"), "{page} has a plugin and its laws");
        fs::write(Path::new(&out).join(format!("{page}.rs")), plugin).expect("OUT_DIR is writable");
        fs::write(Path::new(&out).join(format!("{page}-laws.rs")), laws).expect("OUT_DIR is writable");
    }
}
