//! Calling a command of Slurm, for a limited time.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use s3t_cluster::ClusterError;

/// The time between two looks at whether a command has ended.
const LOOK: Duration = Duration::from_millis(10);

/// The least time for what a command that has ended has written.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes that are read of a command, at most.
const MAX_BYTES: u64 = 64 << 20;

const ENGINE: &str = "Slurm";

/// The output of a command that succeeded.
pub(crate) fn call(
    name: &str,
    arguments: &[String],
    environment: Option<(&str, &str)>,
    input: &str,
    limit: Duration,
) -> Result<String, ClusterError> {
    let refused = |problem: String| ClusterError::Engine { engine: ENGINE.into(), command: name.into(), problem };
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Variables such as SBATCH_ARRAY_INX would change what is asked for, and those of a job that this program runs in its workers.
    for (variable, _) in std::env::vars_os() {
        let variable_name = variable.to_string_lossy();
        let is_of_a_job = variable_name.starts_with("SLURM_") && variable_name != "SLURM_CONF";
        if is_of_a_job || variable_name.starts_with("SBATCH_") || variable_name.starts_with("SQUEUE_") {
            command.env_remove(&variable);
        }
    }
    if let Some((variable, value)) = environment {
        command.env(variable, value);
    }
    let mut child = command.spawn().map_err(|error| {
        refused(format!("it cannot be run ({error}); run this on a machine that has Slurm's commands"))
    })?;
    let start = Instant::now();
    let output = child.stdout.take().map(read);
    let errors = child.stderr.take().map(read);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A command that reads nothing says why, and keeps nobody waiting.
        std::thread::spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < limit => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(ClusterError::NoAnswer { engine: ENGINE.into(), command: name.into(), limit });
            }
            Err(error) => return Err(refused(error.to_string())),
        }
    };
    // A child of the command may keep its output open when it has ended.
    let text = |read: Option<Receiver<String>>| {
        read.and_then(|read| read.recv_timeout(limit.saturating_sub(start.elapsed()).max(GRACE)).ok())
            .unwrap_or_default()
    };
    let (output, errors) = (text(output), text(errors));
    if status.success() {
        return Ok(output);
    }
    // A controller that is down is refused by the command itself after a while: it may answer later.
    let is_down = ["Unable to contact slurm controller", "Socket timed out", "Connection refused", "Zero Bytes were"]
        .iter()
        .any(|words| errors.contains(words));
    if is_down {
        return Err(ClusterError::NoAnswer { engine: ENGINE.into(), command: name.into(), limit });
    }
    let errors: Vec<&str> = errors.lines().map(|line| line.trim_start_matches(&format!("{name}: error: "))).collect();
    Err(refused(errors.join("; ")))
}

fn read(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (text, read) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.take(MAX_BYTES).read_to_end(&mut bytes);
        let _ = text.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    read
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<String, ClusterError> {
        call("sh", &["-s".into()], Some(("S3T_TEST", "told")), script, limit)
    }

    #[test]
    fn a_command_gives_what_it_prints_or_its_own_words_or_is_ended() {
        let hour = Duration::from_secs(3600);
        assert_eq!(sh("echo $S3T_TEST", hour).unwrap(), "told\n");
        let refused = sh("echo 'sh: error: no such partition' >&2; exit 1", hour).unwrap_err();
        assert_eq!(refused.to_string(), "Slurm refused `sh`: no such partition");
        let down = sh("echo 'sh: error: Unable to contact slurm controller (connect failure)' >&2; exit 1", hour);
        assert!(matches!(down, Err(ClusterError::NoAnswer { .. })));
        let hangs = call("sleep", &["600".into()], None, "", Duration::from_millis(50));
        assert_eq!(hangs.unwrap_err().to_string(), "Slurm did not answer `sleep` within 0.05 seconds");
        // Much input for a command that reads nothing, and a child that keeps the output open.
        let start = Instant::now();
        let unread = call("sleep", &["600".into()], None, &"x".repeat(1 << 20), Duration::from_millis(50));
        assert!(matches!(unread, Err(ClusterError::NoAnswer { .. })));
        assert_eq!(sh("sleep 60 & echo told", Duration::from_millis(200)).unwrap(), "");
        assert!(start.elapsed() < Duration::from_secs(50), "nobody waits for the child");
        let missing = call("s3t-no-such-command", &[], None, "", hour).unwrap_err().to_string();
        assert!(missing.contains("run this on a machine that has Slurm's commands"), "{missing}");
    }
}
