//! `s3t train --detach` and `--attach`: a process that owns the store goes on in the background, and another shows what it says.
//!
//! The owner is the same command in a session of its own. Beside the store it keeps a folder that only the user can read: a lock that it
//! holds while it lives, what it says, its answer and its exit code. Whoever attaches reads these files, and is nothing to the owner.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use s3t::api::ErrorKind;
use s3t::engine::Pipeline;
use serde::{Deserialize, Serialize};

use crate::exit::{FAILED, Failure, REFUSED};

/// The time between two looks at what the owner says.
const LOOK: Duration = Duration::from_millis(50);

/// The time in which a process that was started must have begun.
const BEGINNING: Duration = Duration::from_secs(60);

/// Bytes of the end of the log with which an attached terminal begins.
const TAIL: u64 = 4096;

/// The folder of a store's owner in the background.
pub(crate) struct Detached {
    folder: PathBuf,
}

/// An owner that works in the background, or did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The number of its process.
    pub(crate) process: u32,
    /// The exit code, once it has ended by itself.
    pub(crate) code: Option<u8>,
}

/// The end of an owner in the background.
pub(crate) struct Ended {
    /// The answer, or what failed, as one JSON object.
    pub(crate) answer: serde_json::Value,
    pub(crate) code: u8,
}

/// The right to be the owner in the background, until the process ends.
pub(crate) struct Owning {
    folder: PathBuf,
    _lock: File,
}

impl Detached {
    /// The folder beside the store of a pipeline.
    pub(crate) fn of(pipeline: &Path) -> Result<Self, Failure> {
        let store = Pipeline::read(pipeline)?.store.clone();
        let name = format!("{}.training", store.file_name().unwrap_or_default().to_string_lossy());
        let folder = std::path::absolute(store.with_file_name(name)).map_err(failed("find", &store))?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The log: everything that the owner says.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    fn written(&self) -> Option<Owner> {
        serde_json::from_slice(&fs::read(self.path("owner.json")).ok()?).ok()
    }

    /// The owner that works now.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let lock = File::open(self.path("lock")).ok()?;
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| self.written()).flatten()
    }

    /// Refuses to go on where an owner works in the background.
    pub(crate) fn refuse_a_second(&self, pipeline: &Path) -> Result<(), Failure> {
        let Some(owner) = self.owner() else { return Ok(()) };
        let problem = format!(
            "process {} trains this store in the background; `s3t train {} --attach` shows its progress, and `kill {0}` stops it",
            owner.process,
            pipeline.display()
        );
        Err(Failure::new(ErrorKind::Store, problem))
    }

    /// Starts the owner, a process with these arguments, and returns when it works.
    pub(crate) fn start(&self, pipeline: &Path, arguments: &[OsString]) -> Result<Owner, Failure> {
        if cfg!(not(unix)) {
            return Err(Failure::new(
                REFUSED,
                "--detach needs a system with sessions, such as Linux; run the command without it",
            ));
        }
        private_folder(&self.folder)?;
        for stale in ["owner.json", "answer.json"] {
            match fs::remove_file(self.path(stale)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &self.path(stale))(error));
                }
                _ => {}
            }
        }
        let create = |name: &str| File::create(self.path(name)).map_err(failed("write", &self.path(name)));
        let program = std::env::current_exe().map_err(failed("find", Path::new("the program that runs")))?;
        let mut owner = Command::new(program)
            .arg("train")
            .arg(pipeline)
            .args(arguments)
            .arg("--json")
            .arg("--owner")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(create("answer.json")?)
            .stderr(create("log")?)
            .spawn()
            .map_err(failed("start", &self.folder))?;
        let until = Instant::now() + BEGINNING;
        loop {
            if let Some(written) = self.written().filter(|written| written.process == owner.id()) {
                return Ok(written);
            }
            let has_ended = owner.try_wait().map_err(failed("wait for", &self.folder))?.is_some();
            if has_ended || Instant::now() > until {
                let said = fs::read_to_string(self.log()).unwrap_or_default();
                return Err(Failure::new(
                    FAILED,
                    format!("the process in the background has not begun: {}", said.trim()),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Shows what the owner says until it ends; gives its end.
    pub(crate) fn follow(&self, pipeline: &Path, mut show: impl FnMut(&[u8])) -> Result<Ended, Failure> {
        let problem = || {
            let problem = format!(
                "nothing trains the store of {0} in the background; `s3t train {0} --detach` does",
                pipeline.display()
            );
            Failure::new(REFUSED, problem)
        };
        let owner = self.written().ok_or_else(problem)?;
        let mut log = File::open(self.log()).map_err(failed("read", &self.log()))?;
        let length = log.metadata().map_or(0, |file| file.len());
        log.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(failed("read", &self.log()))?;
        let mut is_first = length > TAIL;
        loop {
            // Before it is read: so nothing that was said is missed.
            let works = self.owner().is_some();
            let mut said = Vec::new();
            log.read_to_end(&mut said).map_err(failed("read", &self.log()))?;
            // The first line may have lost its beginning.
            let from = if std::mem::take(&mut is_first) {
                said.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            } else {
                0
            };
            show(&said[from..]);
            if !works {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let code = self.written().and_then(|owner| owner.code).ok_or_else(|| {
            let problem = format!(
                "process {} was ended before it was done; finished stages are kept, run `s3t train {}` to go on",
                owner.process,
                pipeline.display()
            );
            Failure::new(FAILED, problem)
        })?;
        let answer = fs::read(self.path("answer.json")).map_err(failed("read", &self.path("answer.json")))?;
        let answer = serde_json::from_slice(&answer).unwrap_or(serde_json::Value::Null);
        Ok(Ended { answer, code })
    }
}

impl Owning {
    /// Makes this process the owner in the background: in a session of its own, which no terminal interrupts or ends.
    pub(crate) fn begin(folder: &Path) -> Result<Self, Failure> {
        #[cfg(unix)]
        rustix::process::setsid().map_err(|error| failed("begin a session in", folder)(error.into()))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(failed("write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(ErrorKind::Store, "another process trains this store in the background"));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        let owning = Self { folder: folder.to_owned(), _lock: lock };
        owning.write(None)?;
        Ok(owning)
    }

    /// Writes down the exit code. The lock is held until the process has ended, and so has said everything.
    pub(crate) fn end(self, code: u8) -> Result<(), Failure> {
        let written = self.write(Some(code));
        std::mem::forget(self);
        written
    }

    fn write(&self, code: Option<u8>) -> Result<(), Failure> {
        let (path, unfinished) = (self.folder.join("owner.json"), self.folder.join("owner.json.unfinished"));
        let text = serde_json::json!(Owner { process: std::process::id(), code }).to_string();
        let written = File::create(&unfinished).and_then(|mut file| file.write_all(text.as_bytes()));
        written.and_then(|()| fs::rename(&unfinished, &path)).map_err(failed("write", &path))
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(FAILED, format!("cannot {action} {path}: {error}"))
}

/// Makes a folder that only its user can read.
fn private_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed("make the folder", path))
}
