//! Starting cargo.

use std::ffi::{OsStr, OsString};
use std::process::Command;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs cargo, with its output where ours goes. An error if it fails.
pub fn cargo<A: AsRef<OsStr>>(arguments: &[A]) -> Outcome {
    cargo_with(&[], arguments)
}

/// Runs cargo with environment variables.
pub fn cargo_with<A: AsRef<OsStr>>(variables: &[(&str, &str)], arguments: &[A]) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = command.args(arguments).envs(variables.iter().copied()).status()?;
    if status.success() {
        return Ok(());
    }
    let shown: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    Err(format!("`cargo {}` failed: {status}", shown.join(" ")).into())
}

/// Runs a task of another program of the repository, built with optimised dependencies as tests are.
pub fn program(package: &str, task: &str, arguments: &[OsString]) -> Outcome {
    let words = ["run", "--quiet", "--package", package, "--", task];
    let words = words.iter().map(OsString::from).chain(arguments.iter().cloned());
    cargo(&words.collect::<Vec<_>>())
}
