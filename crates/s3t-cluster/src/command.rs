//! Calling a command of an engine, for a limited time.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::ClusterError;

/// The time between two looks at whether a command has ended.
const LOOK: Duration = Duration::from_millis(10);

/// The min time for what a command that has ended has written.
const GRACE: Duration = Duration::from_secs(1);

/// The max number of bytes that are read of a command.
const MAX_BYTES: u64 = 64 << 20;

/// A command of an engine.
///
/// ```
/// use std::time::Duration;
/// use s3t_cluster::EngineCommand;
///
/// let limit = Duration::from_secs(60);
/// let command = EngineCommand { engine: "Slurm", name: "s3t-no-such-command", limit, ..EngineCommand::default() };
/// let refusal = command.output().unwrap_err().to_string();
/// assert!(refusal.contains("run this on a machine that has the commands of Slurm"), "{refusal}");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct EngineCommand<'a> {
    /// The engine, for messages.
    pub engine: &'a str,
    /// The program: a name that the shell finds, or a path.
    pub name: &'a str,
    /// The arguments, which everybody on the machine can read.
    pub arguments: &'a [String],
    /// A variable, which only the user can read.
    pub variable: Option<(&'a str, &'a str)>,
    /// Variables of this process that the command does not see.
    pub is_hidden: fn(&str) -> bool,
    /// The standard input.
    pub input: &'a str,
    /// The time after which the command is ended.
    pub limit: Duration,
}

impl Default for EngineCommand<'_> {
    fn default() -> Self {
        Self {
            engine: "",
            name: "",
            arguments: &[],
            variable: None,
            is_hidden: |_| false,
            input: "",
            limit: Duration::from_secs(30),
        }
    }
}

impl EngineCommand<'_> {
    /// The output of the command, if it succeeds.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoAnswer`] if it takes too long, [`ClusterError::Engine`] with its own words if it fails.
    pub fn output(&self) -> Result<String, ClusterError> {
        let Self { engine, name, limit, .. } = *self;
        let refused = |problem: String| ClusterError::Engine { engine: engine.into(), command: name.into(), problem };
        let mut command = Command::new(name);
        command.args(self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (variable, _) in std::env::vars_os() {
            if (self.is_hidden)(&variable.to_string_lossy()) {
                command.env_remove(&variable);
            }
        }
        if let Some((variable, value)) = self.variable {
            command.env(variable, value);
        }
        let mut child = command.spawn().map_err(|error| {
            refused(format!("it cannot be run ({error}); run this on a machine that has the commands of {engine}"))
        })?;
        let start = Instant::now();
        let output = child.stdout.take().map(read);
        let errors = child.stderr.take().map(read);
        if let Some(mut stdin) = child.stdin.take() {
            let input = zeroize::Zeroizing::new(self.input.to_owned());
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
                    return Err(ClusterError::NoAnswer { engine: engine.into(), command: name.into(), limit });
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
        let prefix = format!("{name}: error: ");
        let lines: Vec<&str> = errors.lines().map(|line| line.trim_start_matches(&prefix)).collect();
        Err(refused(if lines.is_empty() { status.to_string() } else { lines.join("; ") }))
    }
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
        let arguments = ["-s".to_owned()];
        let variable = Some(("S3T_TEST", "told"));
        let command =
            EngineCommand { engine: "Slurm", name: "sh", arguments: &arguments, variable, ..Default::default() };
        EngineCommand { input: script, limit, is_hidden: |name| name == "PWD", ..command }.output()
    }

    fn sleep(input: &str) -> Result<String, ClusterError> {
        let (arguments, limit) = (["600".to_owned()], Duration::from_millis(50));
        let command = EngineCommand { engine: "Slurm", name: "sleep", arguments: &arguments, ..Default::default() };
        EngineCommand { input, limit, ..command }.output()
    }

    #[test]
    fn a_command_gives_what_it_prints_or_its_own_words_or_is_ended() {
        let hour = Duration::from_secs(3600);
        assert_eq!(sh("echo $S3T_TEST", hour).unwrap(), "told\n");
        let refused = sh("echo 'sh: error: no such partition' >&2; exit 1", hour).unwrap_err();
        assert_eq!(refused.to_string(), "Slurm refused `sh`: no such partition");
        assert_eq!(sh("exit 3", hour).unwrap_err().to_string(), "Slurm refused `sh`: exit status: 3");
        assert_eq!(sleep("").unwrap_err().to_string(), "Slurm did not answer `sleep` within 0.05 seconds");
        // Much input for a command that reads nothing, and a child that keeps the output open.
        let start = Instant::now();
        assert!(matches!(sleep(&"x".repeat(1 << 20)), Err(ClusterError::NoAnswer { .. })));
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child").display().to_string();
        let script = format!("sleep 60 & echo $! > '{child}'; echo told");
        assert_eq!(sh(&script, Duration::from_millis(200)).unwrap(), "");
        sh(&format!("kill $(cat '{child}')"), hour).unwrap();
        assert!(start.elapsed() < Duration::from_secs(50), "nobody waits for the child");
    }
}
