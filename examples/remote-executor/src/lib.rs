//! The executor that `docs/guide/writing-an-executor.md` writes, made from the guide's code blocks by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/plugin.rs"));
