//! A new plugin starts with a law that fails: the skeleton compiles and breaks the law that names its first step.

include!(concat!(env!("OUT_DIR"), "/laws.rs"));
