//! Takes the code blocks out of the guide: the guide shows the code that is compiled.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::Path;
use std::{env, fs};

fn main() {
    let guide = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .join("../../docs/guide/writing-an-executor.md");
    println!("cargo::rerun-if-changed={}", guide.display());
    let text = fs::read_to_string(&guide).expect("the guide is in docs/guide");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    for (language, file) in [("rust", "plugin.rs"), ("rust,worker", "worker.rs"), ("rust,test", "laws.rs")] {
        // Blocks stand between lines of three backticks; every second part is a block, with its language in the first line.
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        let code: String = blocks.filter(|(of, _)| *of == language).map(|(_, code)| code).collect();
        assert!(!code.is_empty(), "the guide has no block of {language}");
        fs::write(Path::new(&out).join(file), code).expect("OUT_DIR is writable");
    }
}
