//! Workers that somebody starts: the invitation is a file.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use s3t_cluster::{Call, ClusterError, Invitation, Launcher, Task, TaskState};

pub(crate) struct ByHand {
    workers: usize,
    invitation: PathBuf,
    /// The content of the file that this launch has written.
    written: Mutex<Option<Zeroizing<String>>>,
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand")
            .field("workers", &self.workers)
            .field("invitation", &self.invitation)
            .finish_non_exhaustive()
    }
}

impl ByHand {
    pub(crate) fn new(workers: usize, invitation: PathBuf) -> Self {
        Self { workers, invitation, written: Mutex::default() }
    }

    fn failed(&self, action: &'static str) -> impl Fn(std::io::Error) -> ClusterError {
        let path = self.invitation.display().to_string();
        move |error| ClusterError::File { action, path: path.clone(), problem: error.to_string() }
    }
}

/// The first bytes of a file, as many as [`Invitation::FORM`] has.
fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(Invitation::FORM.len() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Launcher for ByHand {
    fn engine(&self) -> &'static str {
        "network"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        // A file of an earlier launch may be open to others, and a link may lead elsewhere: it is made anew. No other file is touched.
        match beginning(&self.invitation) {
            Ok(bytes) if bytes != Invitation::FORM.as_bytes() => {
                let problem = "it is there and is no invitation; give another path as `invitation`";
                return Err(self.failed("replace")(std::io::Error::other(problem)));
            }
            Ok(_) => fs::remove_file(&self.invitation).map_err(self.failed("remove"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("read")(error)),
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.invitation).map_err(self.failed("make"))?;
        let text = format!("{}\n", *call.invitation.text());
        file.write_all(text.as_bytes()).map_err(self.failed("write"))?;
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Zeroizing::new(text));
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        // Somebody may start a worker at any time.
        Ok((0..self.workers).map(|number| Task { name: number.to_string(), state: TaskState::Queued }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        let Some(own) = self.written.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        // Another launch may have put its own in the place.
        let is_own = fs::read(&self.invitation).is_ok_and(|bytes| bytes == own.as_bytes());
        if is_own { fs::remove_file(&self.invitation).map_err(self.failed("remove")) } else { Ok(()) }
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
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
