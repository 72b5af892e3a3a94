//! The laws of `s3t-laws`, which know nothing of S3T, on the program `s3t` from outside: a Python system behind the protocol, for which every
//! step is a process of its own. Needs `python3`.

use std::time::Duration;

use s3t_laws::{Law, Program, Settings, Verdict, check};
use s3t_testkit::write_tiny_model;

#[test]
fn the_program_keeps_the_laws_of_any_unlearning_system() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_tiny_model(&model, 4).unwrap();
    let system = concat!(env!("CARGO_MANIFEST_DIR"), "/../s3t-laws/tests/systems/s3t.py");
    // `-B`: no byte code is written beside the sources.
    let command = ["python3", "-B", system, env!("CARGO_BIN_EXE_s3t"), model.to_str().unwrap()];
    let program = Program::new(command, Duration::from_secs(300)).unwrap();
    let report = check(&program, &Settings { rounds: 1, records: 24, ..Settings::default() }).unwrap();
    assert!(report.passed(), "{report}");
    // Stores are sealed under keys of their own, so that equal runs write different files.
    let untested: Vec<Law> =
        report.laws.iter().filter(|law| matches!(law.verdict, Verdict::NotTested { .. })).map(|law| law.law).collect();
    assert_eq!(untested, [Law::DiskState], "{report}");
}
