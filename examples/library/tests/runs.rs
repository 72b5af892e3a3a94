//! The example does what it says.

use std::process::Command;

#[test]
fn it_trains_forgets_and_verifies() {
    let run = Command::new(env!("CARGO_BIN_EXE_s3t-example-library")).output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{told} {}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("every bit equal: true"), "{told}");
}
