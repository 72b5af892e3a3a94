//! A worker on another machine: a process of `ssh` here.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use s3t_cluster::{ClusterError, Ending, TaskState, end_of_log};

const ENGINE: &str = "ssh";

/// The max number of bytes of the end of what a worker says that are kept.
const KEPT: usize = 4096;

/// A worker on another machine.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// The number of the machine.
    pub(crate) host: usize,
    child: Child,
    end: Option<(Ending, String)>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    /// Starts `ssh` with these arguments, and hands it the secret on its standard input.
    pub(crate) fn start(name: String, host: usize, arguments: &[String], secret: &str) -> Result<Self, ClusterError> {
        let refused = |error: std::io::Error| ClusterError::Engine {
            engine: ENGINE.into(),
            command: ENGINE.into(),
            problem: format!("it cannot be run ({error}); install a client of ssh on this machine"),
        };
        let mut command = Command::new(ENGINE);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What a terminal sends to this program, `ssh` does not get: the owner ends its workers itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(refused)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Less than the buffer of a pipe. A session that ends at once says why.
            let _ = stdin.write_all(secret.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
        }
        let said = Arc::<Mutex<Vec<u8>>>::default();
        if let Some(mut errors) = child.stderr.take() {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut piece = [0; 1024];
                while let Ok(read @ 1..) = errors.read(&mut piece) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.extend_from_slice(&piece[..read]);
                    let surplus = said.len().saturating_sub(KEPT);
                    said.drain(..surplus);
                }
            });
        }
        Ok(Self { name, host, child, end: None, said })
    }

    /// Returns `true` if the session was there at the last look and has ended by now.
    pub(crate) fn ends_now(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let words = match self.child.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) if status.code() == Some(255) => "its connection failed".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.end = Some((Ending::Failed, words));
        true
    }

    /// Returns `true` if it ended in another way than by the end of its owner.
    pub(crate) fn has_failed(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(Some(status)) if status.success())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn state(&self) -> TaskState {
        match &self.end {
            Some((ending, words)) => TaskState::Ended(*ending, words.clone()),
            None => TaskState::Running,
        }
    }

    /// The end of what `ssh` and the worker have said.
    pub(crate) fn log(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        end_of_log(&String::from_utf8_lossy(&said))
    }

    /// Ends the session. Its worker ends by itself, because its owner is gone.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
