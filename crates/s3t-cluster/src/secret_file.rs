//! A secret of a launch in a file that only the user can read.

use std::fmt;
use std::fs;
use std::io::{Error, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::{ClusterError, Invitation};

/// The file of a secret: there while its launch is, and readable by the user alone.
pub struct SecretFile {
    path: PathBuf,
    /// The field of the pipeline that has the path, which is also what the file is called.
    field: &'static str,
    /// The first bytes of every such file.
    beginning: &'static str,
    /// The content that this launch has written.
    written: Mutex<Option<Zeroizing<String>>>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The first bytes of a file.
fn beginning(path: &Path, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl SecretFile {
    /// A file of an invitation, which is not written yet. Its path is the field `invitation`.
    pub fn of_invitation(path: PathBuf) -> Self {
        Self::new(path, "invitation", Invitation::FORM)
    }

    /// A file that is not written yet, whose path is a field of the pipeline, and whose content begins with these words.
    pub fn new(path: PathBuf, field: &'static str, beginning: &'static str) -> Self {
        Self { path, field, beginning, written: Mutex::default() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, action: &'static str) -> impl Fn(Error) -> ClusterError {
        let path = self.path.display().to_string();
        move |error| ClusterError::File { action, path: path.clone(), problem: error.to_string() }
    }

    /// Writes the secret. A file of an earlier launch may be open to others, and a link may lead elsewhere: it is made anew. No other
    /// file is touched. What this launch has written already stays.
    ///
    /// # Errors
    ///
    /// [`ClusterError::File`], also if a file is there that is no such secret.
    pub fn write(&self, text: Zeroizing<String>) -> Result<(), ClusterError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() == Some(&text) && fs::read(&self.path).is_ok_and(|bytes| bytes == text.as_bytes()) {
            return Ok(());
        }
        match beginning(&self.path, self.beginning.len()) {
            Ok(bytes) if bytes != self.beginning.as_bytes() => {
                let field = self.field;
                let problem = format!("it is there and is no {field}; give another path as `{field}`");
                return Err(self.failed("replace")(Error::other(problem)));
            }
            Ok(_) => fs::remove_file(&self.path).map_err(self.failed("remove"))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("read")(error)),
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path).map_err(self.failed("make"))?;
        file.write_all(text.as_bytes()).map_err(self.failed("write"))?;
        *written = Some(text);
        Ok(())
    }

    /// Removes the file, if it is the one that this launch has written: another launch may have put its own in the place.
    ///
    /// # Errors
    ///
    /// [`ClusterError::File`].
    pub fn remove(&self) -> Result<(), ClusterError> {
        let Some(own) = self.written.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let is_own = fs::read(&self.path).is_ok_and(|bytes| bytes == own.as_bytes());
        if is_own { fs::remove_file(&self.path).map_err(self.failed("remove")) } else { Ok(()) }
    }
}
