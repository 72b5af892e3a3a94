//! A disk that stops at any step, as when the power fails.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use s3t_store::{Disk, Folder, SystemDisk};

/// Does so many steps, then one in part, then none.
#[derive(Debug)]
pub struct StoppingDisk {
    left: AtomicI64,
    /// `true` if the step it stops at is done; of a write, half of it is done otherwise.
    last_is_done: bool,
}

impl StoppingDisk {
    pub fn after(steps: i64, last_is_done: bool) -> Self {
        Self { left: AtomicI64::new(steps), last_is_done }
    }

    /// The steps that were done; more than there were to do if it has not stopped.
    pub fn stopped(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn step(&self, whole: impl FnOnce() -> io::Result<()>, part: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => whole(),
            0 => {
                if self.last_is_done {
                    whole()?;
                } else {
                    part()?;
                }
                Err(io::Error::other("the machine has stopped"))
            }
            _ => Err(io::Error::other("the machine has stopped")),
        }
    }
}

impl Disk for StoppingDisk {
    fn write_new(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.step(|| SystemDisk.write_new(folder, name, bytes), || SystemDisk.write_new(folder, name, half))
    }

    fn rename(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()> {
        self.step(|| SystemDisk.rename(from, name, to, new), || Ok(()))
    }

    fn overwrite(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.step(|| SystemDisk.overwrite(folder, name, bytes), || SystemDisk.overwrite(folder, name, half))
    }

    fn remove(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        self.step(|| SystemDisk.remove(folder, name), || Ok(()))
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        self.step(|| SystemDisk.sync_folder(folder), || Ok(()))
    }

    fn before_commit(&self) -> io::Result<()> {
        self.step(|| Ok(()), || Ok(()))
    }

    fn after_commit(&self) -> io::Result<()> {
        self.step(|| Ok(()), || Ok(()))
    }
}
