//! The last step of each guide, and what the guides promise of their length and their dependencies.

use s3t_example_cookbook as _;

mod method {
    include!(concat!(env!("OUT_DIR"), "/writing-a-peft-method-laws.rs"));
}

mod family {
    include!(concat!(env!("OUT_DIR"), "/writing-a-model-family-laws.rs"));
}

mod strategy {
    include!(concat!(env!("OUT_DIR"), "/writing-a-strategy-laws.rs"));
}

mod aggregator {
    include!(concat!(env!("OUT_DIR"), "/writing-an-aggregator-laws.rs"));
}

const GUIDES: [(&str, usize); 3] = [
    (include_str!("../../../docs/guide/writing-a-peft-method.md"), 150),
    (include_str!("../../../docs/guide/writing-a-model-family.md"), 250),
    (include_str!("../../../docs/guide/writing-a-strategy.md"), 100),
];

/// The manifest as it is outside this repository: versions, and no places of crates.
fn outside(manifest: &str) -> String {
    let line = |line: &str| match line.split_once(", path = ") {
        Some((before, _)) => before.replace("{ version = ", ""),
        None => line.to_owned(),
    };
    manifest.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn the_guides_name_dependencies_of_this_crate_and_are_short() {
    for (guide, max) in GUIDES {
        let toml = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let manifest = outside(include_str!("../Cargo.toml"));
        for line in toml.lines().filter(|line| !line.is_empty()) {
            assert!(manifest.contains(line), "the guide's `{line}` is in this crate's Cargo.toml");
        }
        let code = guide.split("```").skip(1).step_by(2).filter(|block| block.starts_with("rust"));
        let lines: usize = code.map(|block| block.lines().count() - 1).sum();
        assert!(lines < max, "{lines} lines of code");
    }
}
