//! A worker in a child process.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_executor::s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{ExecutorError, Link, LinkHandle, StageJob, StageProgress, Step, TrainedStage, WorkerSettings};

/// The variable that tells a child that it is a worker. A program without a worker's command would start children of its own.
const MARK: &str = "S3T_WORKER";

/// Lines of a worker's standard error that wait to be passed on, at most.
const MAX_LINES: usize = 100;

/// Bytes of a line that are passed on, at most.
const MAX_LINE_BYTES: u64 = 4096;

/// The time that a child has to end by itself, so that its own way of ending can be told.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The time that a worker has to forget records, before it is ended.
const FORGET_PATIENCE: Duration = Duration::from_secs(2);

/// The program of the workers.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    pub(crate) fn new(path: Option<&Path>, arguments: &[String]) -> Result<Self, ExecutorError> {
        let failed = |problem: String| ExecutorError::StartFailed { place: "executor `processes`".into(), problem };
        if std::env::var_os(MARK).is_some() {
            return Err(failed(
                "this program is a worker itself, and would start workers without end; give `executor.program` a program that has \
                 the command `worker`"
                    .into(),
            ));
        }
        let path = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().map_err(|error| {
                failed(format!("this program's path is unknown ({error}); give `executor.program`"))
            })?,
        };
        Ok(Self { path, arguments: arguments.iter().map(OsString::from).collect() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env(MARK, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in a terminal is for the parent, which ends its workers in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }
}

/// A child process and the link to it.
pub(crate) struct Worker {
    name: String,
    link: Option<Link>,
    process: Arc<Mutex<Child>>,
    said: Arc<Said>,
}

/// A worker as those see it who do not train with it.
pub(crate) struct WorkerHandle {
    link: LinkHandle,
    process: Arc<Mutex<Child>>,
}

impl Worker {
    /// Starts a child and waits until it has loaded the base model.
    pub(crate) fn start(
        number: u64,
        program: &Program,
        settings: &WorkerSettings,
        silence: Duration,
    ) -> Result<Self, ExecutorError> {
        let name = format!("worker {number}");
        let failed = |problem: String| ExecutorError::StartFailed { place: name.clone(), problem };
        let mut child = program.command().spawn().map_err(|error| {
            failed(format!(
                "its program `{}` cannot be run ({error}); give `executor.program` a program that has the command `worker`",
                program.path.display()
            ))
        })?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let said = Arc::new(Said::default());
        let mut worker = Self { name: name.clone(), link: None, process: Arc::new(Mutex::new(child)), said };
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(failed("it has no pipes".into()));
        };
        let said = Arc::clone(&worker.said);
        std::thread::Builder::new()
            .spawn(move || said.read(stderr))
            .map_err(|error| failed(format!("no thread can be started for it ({error})")))?;
        match Link::open(name, stdout, stdin, settings, silence) {
            Ok(link) => worker.link = Some(link),
            Err(error) => return Err(worker.explained(error)),
        }
        Ok(worker)
    }

    /// The arithmetic of the worker.
    pub(crate) fn environment(&self) -> Option<&NumericEnvironment> {
        self.link.as_ref().map(Link::environment)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_fit(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_fit)
    }

    pub(crate) fn handle(&self) -> Option<WorkerHandle> {
        let link = self.link.as_ref()?.handle();
        Some(WorkerHandle { link, process: Arc::clone(&self.process) })
    }

    pub(crate) fn train(
        &mut self,
        job: &StageJob,
        progress: &dyn StageProgress,
    ) -> Result<TrainedStage, ExecutorError> {
        let Some(link) = &mut self.link else {
            return Err(ExecutorError::WorkerDied { worker: self.name.clone(), problem: "it was ended".into() });
        };
        let passing_on = PassingOn { progress, said: &self.said, worker: &self.name };
        let result = link.train(job, &passing_on);
        passing_on.pass_on();
        result.map_err(|error| self.explained(error))
    }

    /// The error with how the child ended and its last line, if the error says that it ended.
    fn explained(&self, error: ExecutorError) -> ExecutorError {
        let ExecutorError::WorkerDied { worker, problem } = error else { return error };
        let ended = self.wait_for_end();
        let last = self.said.last().map(|line| format!("; its last line was: {line}")).unwrap_or_default();
        let problem = ended.map_or(problem, |status| status.to_string());
        ExecutorError::WorkerDied { worker, problem: format!("{problem}{last}") }
    }

    fn wait_for_end(&self) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + END_PATIENCE;
        loop {
            if let Ok(Some(status)) = lock(&self.process).try_wait() {
                return Some(status);
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.link = None;
        end(&self.process);
    }
}

impl WorkerHandle {
    /// Has the worker forget records, or ends it, which forgets all.
    pub(crate) fn forget(&self, records: Option<&[Digest]>) {
        if !self.link.forget(records, FORGET_PATIENCE) {
            end(&self.process);
        }
    }
}

/// Ends a child at once. What it holds in memory goes with it, and it holds nothing else.
fn end(process: &Mutex<Child>) {
    let mut process = lock(process);
    // A child that has ended by itself is only waited for.
    let _ = process.kill();
    let _ = process.wait();
}

/// The lines of a worker's standard error.
#[derive(Default)]
struct Said {
    lines: Mutex<VecDeque<String>>,
    last: Mutex<Option<String>>,
}

impl Said {
    fn read(&self, stream: impl Read) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match stream.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                continue;
            }
            *lock(&self.last) = Some(line.clone());
            let mut lines = lock(&self.lines);
            if lines.len() == MAX_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn last(&self) -> Option<String> {
        lock(&self.last).clone()
    }
}

/// Passes a worker's lines on, besides everything else.
struct PassingOn<'a> {
    progress: &'a dyn StageProgress,
    said: &'a Said,
    worker: &'a str,
}

impl PassingOn<'_> {
    fn pass_on(&self) {
        let lines = std::mem::take(&mut *lock(&self.said.lines));
        lines.iter().for_each(|line| self.progress.worker_said(self.worker, line));
    }
}

impl StageProgress for PassingOn<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        self.progress.step(step)
    }

    fn threads(&self) -> usize {
        self.progress.threads()
    }

    fn is_cancelled(&self) -> bool {
        self.pass_on();
        self.progress.is_cancelled()
    }

    fn waits_for_step(&self) -> bool {
        self.progress.waits_for_step()
    }

    fn look_every(&self) -> Duration {
        self.progress.look_every()
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.progress.worker_said(worker, line);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each of them guards a value that is changed in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
