//! The command line of a worker, for engines that take one.

use std::path::{Path, PathBuf};

use crate::{ClusterError, fill_randomly};

/// A word of a shell.
///
/// ```
/// assert_eq!(s3t_cluster::quoted("it's"), r"'it'\''s'");
/// ```
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The line of a shell that becomes a worker, without its name at the engine.
///
/// ```
/// let line = s3t_cluster::worker_command("/opt/s3t".as_ref(), "login1:7343", Some(4));
/// assert_eq!(line, "exec '/opt/s3t' worker --connect 'login1:7343' --cores 4");
/// ```
pub fn worker_command(program: &Path, address: &str, cores: Option<usize>) -> String {
    let (program, address) = (quoted(&program.display().to_string()), quoted(address));
    let cores = cores.map(|cores| format!(" --cores {cores}")).unwrap_or_default();
    format!("exec {program} worker --connect {address}{cores}")
}

/// The program of workers: the one that is given, or the one that is running.
///
/// # Errors
///
/// [`ClusterError::File`] if the program that is running has no path any more.
pub fn worker_program(given: Option<&Path>) -> Result<PathBuf, ClusterError> {
    let failed = |error: std::io::Error| ClusterError::File {
        action: "find",
        path: "the program that runs".into(),
        problem: error.to_string(),
    };
    given.map_or_else(|| std::env::current_exe().map_err(failed), |program| Ok(program.to_owned()))
}

/// A name for a launch at its engine: of the store, and of this run.
///
/// # Errors
///
/// [`ClusterError::Machine`] if this machine gives no random numbers.
pub fn run_name(store: &str) -> Result<String, ClusterError> {
    let mut run = [0; 4];
    fill_randomly(&mut run, "the name of a run")?;
    let run: String = run.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("s3t-{store}-{run}"))
}
