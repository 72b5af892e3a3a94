//! The method that `docs/guide/writing-a-peft-method.md` writes, made from the guide's code blocks by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/plugin.rs"));
