//! `cargo +nightly fuzz run safetensors`
#![no_main]

// Links the plugins.
use s3t as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = s3t_testkit::fuzz::TARGETS.iter().find(|target| target.name == "safetensors").expect("a known target");
    (target.run)(data);
});
