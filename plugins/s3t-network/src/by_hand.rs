//! Workers that somebody starts: the invitation is a file.

use std::path::PathBuf;

use s3t_cluster::{Call, ClusterError, Launcher, SecretFile, Task, TaskState};

#[derive(Debug)]
pub(crate) struct ByHand {
    workers: usize,
    invitation: SecretFile,
}

impl ByHand {
    pub(crate) fn new(workers: usize, invitation: PathBuf) -> Self {
        Self { workers, invitation: SecretFile::of_invitation(invitation) }
    }
}

impl Launcher for ByHand {
    fn engine(&self) -> &'static str {
        "network"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        self.invitation.write(call.invitation.text())?;
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        // Somebody may start a worker at any time.
        Ok((0..self.workers).map(|number| Task { name: number.to_string(), state: TaskState::Queued }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        self.invitation.remove()
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_file_but_an_invitation_is_replaced_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s3t.invitation");
        let text = |letter: &str| format!("s3t-invitation-1.{0}A.{0}A", letter.repeat(42));
        let call = |letter: &str| Call { address: "a:1".into(), invitation: text(letter).parse().unwrap() };
        let by_hand = ByHand::new(1, path.clone());
        fs::write(&path, "[model]\n").unwrap();
        let message = by_hand.submit(0, 1, &call("A")).unwrap_err().to_string();
        assert!(message.contains("is no invitation; give another path"), "{message}");
        by_hand.cancel().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[model]\n");
        fs::write(&path, text("B")).unwrap();
        by_hand.submit(0, 1, &call("A")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), text("A"));
        // Another launch has put its own there.
        fs::write(&path, text("B")).unwrap();
        by_hand.cancel().unwrap();
        assert!(path.exists());
        let by_hand = ByHand::new(1, path.clone());
        by_hand.submit(0, 1, &call("A")).unwrap();
        by_hand.cancel().unwrap();
        assert!(!path.exists());
    }
}
