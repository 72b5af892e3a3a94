//! The skeletons that `cargo xtask new` makes, one module a kind, made from its templates by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/skeletons.rs"));
