//! A system behind a command that speaks the protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exact_numbers::{field_text, numbers};
use crate::protocol::{AnswerList, Greeting, MAX_LINE, Numbered, Request, Response, StateDump, VERSION};
use crate::{
    Answers, Capability, Content, Description, Forgotten, Home, Launcher, LawsError, Record, UnlearningSystem,
};

/// Bytes of standard error that are kept to be shown.
const STDERR_KEPT: usize = 2000;

/// The time that a dying process has to end and to hand over its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A command that speaks the protocol; launching it starts a process.
///
/// ```no_run
/// use std::time::Duration;
/// use s3t_laws::{Program, Settings, check};
///
/// let program = Program::new(["python3", "system.py"], Duration::from_secs(60))?;
/// assert!(check(&program, &Settings::default())?.passed());
/// # Ok::<(), s3t_laws::LawsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<String>,
    time_limit: Duration,
}

impl Program {
    /// A command with its arguments, and the time that it has for each response.
    ///
    /// # Errors
    ///
    /// [`LawsError::InvalidSetting`] without a command or with a time limit of 0.
    pub fn new<I, S>(command: I, time_limit: Duration) -> Result<Self, LawsError>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        if command.is_empty() {
            let problem = "is missing; give it after `--`, for example `-- python3 system.py`".into();
            return Err(LawsError::InvalidSetting { setting: "COMMAND", problem });
        }
        if time_limit.is_zero() {
            let problem = "must be above 0 seconds".into();
            return Err(LawsError::InvalidSetting { setting: "--time-limit", problem });
        }
        Ok(Self { command, time_limit })
    }
}

impl Launcher for Program {
    fn launch(&self, home: &Home) -> Result<Box<dyn UnlearningSystem>, LawsError> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| LawsError::Start { command: self.command.join(" "), error })?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let error = std::io::Error::other("its standard streams are not there");
            return Err(LawsError::Start { command: self.command.join(" "), error });
        };
        let words = Arc::new(Mutex::new(Vec::new()));
        let mut process = Process {
            child,
            requests: Some(writer(stdin)),
            lines: reader(stdout),
            words_end: listener(stderr, Arc::clone(&words)),
            words,
            time_limit: self.time_limit,
            next_id: 1,
            description: Description::new("", crate::Guarantee::Bits),
        };
        let folder = home.folder.display().to_string();
        let hello = Request::Hello { protocol: VERSION, folder, seed: home.seed, resume: home.resume };
        let (line, greeting) = process.done::<Greeting>(hello)?;
        if greeting.protocol != VERSION {
            let problem = format!("it speaks protocol {}, and this tester speaks {VERSION} only", greeting.protocol);
            return Err(process.nonsense("hello", problem, &line));
        }
        process.description = greeting.description;
        Ok(Box::new(process))
    }
}

/// A running process. Dropping it kills it with the processes that it started.
struct Process {
    child: Child,
    requests: Option<Sender<String>>,
    lines: Receiver<Vec<u8>>,
    words: Arc<Mutex<Vec<u8>>>,
    words_end: Receiver<()>,
    time_limit: Duration,
    next_id: u64,
    description: Description,
}

/// Writes requests on a thread of its own, so that a process that reads nothing cannot stop the tester.
fn writer(mut stdin: ChildStdin) -> Sender<String> {
    let (sender, receiver) = channel::<String>();
    thread::spawn(move || {
        for request in receiver {
            // A closed pipe shows as the end of the responses.
            if stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                break;
            }
        }
    });
    sender
}

fn reader(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) if sender.send(line).is_err() => break,
                Ok(_) => {}
            }
        }
    });
    receiver
}

/// Keeps the last bytes of standard error; the receiver is told when it has ended.
fn listener(mut stderr: ChildStderr, words: Arc<Mutex<Vec<u8>>>) -> Receiver<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            words.extend_from_slice(&buffer[..count]);
            let surplus = words.len().saturating_sub(STDERR_KEPT);
            words.drain(..surplus);
        }
        drop(sender);
    });
    receiver
}

impl Process {
    /// Sends a request and waits for its response line.
    fn ask(&mut self, request: Request) -> Result<(String, Response), LawsError> {
        let op = request.op();
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_string(&Numbered { id, request })
            .map_err(|error| LawsError::Refused { op: op.into(), message: error.to_string() })?;
        line.push('\n');
        if let Some(requests) = &self.requests {
            // The writer ends with the process, which shows as the end of the responses.
            let _ = requests.send(line);
        }
        let line = match self.lines.recv_timeout(self.time_limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err(self.hung(op)),
            Err(RecvTimeoutError::Disconnected) => return Err(self.died(op)),
        };
        let line = match String::from_utf8(line) {
            Ok(line) => line,
            Err(error) => {
                let line = String::from_utf8_lossy(error.as_bytes()).into_owned();
                return Err(self.nonsense(op, "it is not UTF-8".into(), &line));
            }
        };
        if !line.ends_with('\n') {
            let problem = if line.len() as u64 == MAX_LINE {
                format!("it has more than {} MiB", MAX_LINE >> 20)
            } else {
                "it does not end with a line feed".into()
            };
            return Err(self.nonsense(op, problem, &line));
        }
        let response: Response = self.parse(op, &line)?;
        if response.id != id {
            return Err(self.nonsense(op, format!("its `id` is {}, expected {id}", response.id), &line));
        }
        Ok((line, response))
    }

    /// Sends a request that must be done, and reads the fields of its response.
    fn done<T: DeserializeOwned>(&mut self, request: Request) -> Result<(String, T), LawsError> {
        let op = request.op();
        let (line, response) = self.ask(request)?;
        if !response.ok {
            return Err(refusal(op, response));
        }
        let fields = self.parse(op, &line)?;
        Ok((line, fields))
    }

    fn parse<T: DeserializeOwned>(&self, op: &str, line: &str) -> Result<T, LawsError> {
        serde_json::from_str(line).map_err(|error| {
            let advice = if line.trim_start().starts_with('{') {
                ""
            } else {
                "; standard output is for responses only, messages for people belong on standard error"
            };
            self.nonsense(op, format!("{error}{advice}"), line)
        })
    }

    fn nonsense(&self, op: &str, problem: String, line: &str) -> LawsError {
        let mut shown: String = line.trim_end().chars().take(200).collect();
        if shown.len() < line.trim_end().len() {
            shown.push_str(" ...");
        }
        LawsError::Nonsense { op: op.into(), problem, line: shown, stderr: self.last_words() }
    }

    fn hung(&mut self, op: &str) -> LawsError {
        self.end();
        LawsError::Hung { op: op.into(), seconds: self.time_limit.as_secs_f64(), stderr: self.last_words() }
    }

    fn died(&mut self, op: &str) -> LawsError {
        let status = match self.wait(LAST_WORDS) {
            Some(status) => status.to_string(),
            None => "it closed its standard output but went on running, and was killed".into(),
        };
        self.end();
        let _ = self.words_end.recv_timeout(LAST_WORDS);
        LawsError::Died { op: op.into(), status, stderr: self.last_words() }
    }

    fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    /// The exit status, if the process ends within a time.
    fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if start.elapsed() >= at_most {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the process, with those that it started, unless it has ended.
    fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            #[cfg(unix)]
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::KILL,
            );
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn refusal(op: &str, response: Response) -> LawsError {
    let message = response.error.or(response.kind).unwrap_or_else(|| "it gave no reason".into());
    LawsError::Refused { op: op.into(), message }
}

impl UnlearningSystem for Process {
    fn description(&self) -> &Description {
        &self.description
    }

    fn train(&mut self, records: &[Record]) -> Result<(), LawsError> {
        self.done::<Response>(Request::Train { records: records.to_vec() }).map(|_| ())
    }

    fn forget(&mut self, ids: &[String]) -> Result<Forgotten, LawsError> {
        let (_, response) = self.ask(Request::Forget { ids: ids.to_vec() })?;
        match response.kind.as_deref() {
            _ if response.ok => Ok(Forgotten::Done),
            Some("unknown-record") => Ok(Forgotten::Unknown),
            _ => Err(refusal("forget", response)),
        }
    }

    fn answer(&mut self, questions: &[Content]) -> Result<Answers, LawsError> {
        let (line, response) = self.ask(Request::Answer { questions: questions.to_vec() })?;
        if !response.ok {
            let unavailable = response.kind.as_deref() == Some("unavailable");
            return if unavailable { Ok(Answers::Unavailable) } else { Err(refusal("answer", response)) };
        }
        let AnswerList { mut answers } = self.parse("answer", &line)?;
        if answers.len() != questions.len() {
            let problem = format!("it has {} answers to {} questions", answers.len(), questions.len());
            return Err(self.nonsense("answer", problem, &line));
        }
        let exact = field_text(&line, "answers").and_then(numbers).unwrap_or_default();
        if exact.len() != answers.iter().map(Vec::len).sum::<usize>() || !exact.iter().all(|number| number.is_finite())
        {
            return Err(self.nonsense("answer", "`answers` must be lists of finite numbers".into(), &line));
        }
        for (place, exact) in answers.iter_mut().flatten().zip(exact) {
            *place = exact;
        }
        Ok(Answers::Given(answers))
    }

    fn settle(&mut self) -> Result<(), LawsError> {
        if !self.description.supports.contains(&Capability::Settle) {
            return Ok(());
        }
        self.done::<Response>(Request::Settle).map(|_| ())
    }

    fn dump(&mut self) -> Result<Option<Value>, LawsError> {
        if !self.description.supports.contains(&Capability::Dump) {
            return Ok(None);
        }
        self.done::<StateDump>(Request::Dump).map(|(_, dump)| Some(dump.state))
    }

    fn stop(mut self: Box<Self>) -> Result<(), LawsError> {
        self.done::<Response>(Request::Stop)?;
        self.requests = None;
        match self.wait(self.time_limit) {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(self.died("stop")),
            None => Err(self.hung("stop")),
        }
    }

    fn kill(mut self: Box<Self>) {
        self.end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
