//! Workers that somebody starts: the invitation is a file.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use s3t_cluster::{Call, ClusterError, Launcher, Task, TaskState};

#[derive(Debug)]
pub(crate) struct ByHand {
    workers: usize,
    invitation: PathBuf,
}

impl ByHand {
    pub(crate) fn new(workers: usize, invitation: PathBuf) -> Self {
        Self { workers, invitation }
    }

    fn failed(&self, action: &'static str) -> impl Fn(std::io::Error) -> ClusterError {
        let path = self.invitation.display().to_string();
        move |error| ClusterError::File { action, path: path.clone(), problem: error.to_string() }
    }
}

impl Launcher for ByHand {
    fn engine(&self) -> &'static str {
        "network"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        // A file of an earlier launch may be open to others, and a link may lead elsewhere: it is made anew.
        match fs::remove_file(&self.invitation) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(self.failed("remove")(error)),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.invitation).map_err(self.failed("make"))?;
        writeln!(file, "{}", *call.invitation.text()).map_err(self.failed("write"))?;
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        // Somebody may start a worker at any time.
        Ok((0..self.workers).map(|number| Task { name: number.to_string(), state: TaskState::Queued }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        fs::remove_file(&self.invitation).map_err(self.failed("remove"))
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}
