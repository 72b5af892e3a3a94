//! Nothing that comes from outside makes the program panic, abort, hang or take more than a gigabyte.
//!
//! Sound files of every reader are changed, 2,000 times in a usual run and `S3T_SOAK=N` times in a soak, the same in every run. Most
//! are read by the library in child processes, one after the other, through `catch_unwind`; the others by the program itself, and
//! so are planning commands with numbers at which programs go wrong. Each process has a gigabyte of address space, and ten seconds
//! of processor time for an input. Inputs that fail stay where the message says.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit, reason = "a test program of its own")]

mod cases;
mod flags;
mod mutate;
#[path = "../all/workspace/mod.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod workspace;

use std::io::{BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cases::{CASES, Case, copy, write_template};
use mutate::{Draw, mutated};

/// Inputs of a usual run.
const USUAL: usize = 2000;

/// Kilobytes of address space of a process.
const MEMORY_KB: u64 = 1 << 20;

/// Seconds of processor time for an input, and of waiting on a machine that does other things too.
const SECONDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// Every so many inputs go to the program itself, and as many planning commands follow.
const PROGRAM_SHARE: usize = 8;

/// Set for a child: the template, a folder to work in, the first input, the step and the end.
const CHILD: &str = "S3T_HOSTILE_CHILD";

fn main() {
    if let Ok(orders) = std::env::var(CHILD) {
        return child(&orders);
    }
    // As other test programs: a filter that is not for this one, or a list of tests.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = "no_input_makes_a_reader_panic_abort_or_hang";
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{name}: test");
        return;
    }
    if arguments.iter().any(|argument| !argument.starts_with('-') && !name.contains(argument.as_str())) {
        return;
    }
    let inputs = std::env::var("S3T_SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(USUAL);
    let start = Instant::now();
    let found = Harness::new().run(inputs);
    println!(
        "{} inputs in {:.0} s: {} read by the library, {} by the program, {} planning commands; {} panics, {} aborts, {} hangs",
        inputs,
        start.elapsed().as_secs_f64(),
        found.library,
        found.program,
        found.flags,
        found.panics.len(),
        found.aborts.len(),
        found.hangs.len()
    );
    let failures: Vec<&String> = [&found.panics, &found.aborts, &found.hangs].into_iter().flatten().collect();
    failures.iter().for_each(|failure| println!("{failure}"));
    assert!(failures.is_empty(), "{} inputs went wrong", failures.len());
    assert!(found.library > 0 && found.program > 0 && found.flags > 0, "a kind of reading was left out");
}

/// One input: what it is of, and the file that it changes.
struct Input {
    case: &'static Case,
    file: &'static str,
    /// The command with which the program reads it too, if it does.
    command: Option<&'static [&'static str]>,
    draw: Draw,
}

impl Input {
    fn number(number: usize) -> Self {
        let mut draw = Draw::new(number as u64);
        let (case, round) = (&CASES[number % CASES.len()], number / CASES.len());
        let file = case.files[round % case.files.len()];
        let command = (round % PROGRAM_SHARE == number % PROGRAM_SHARE).then(|| draw.of(case.commands));
        Self { case, file, command, draw }
    }

    /// Puts the changed file into a copy of the case's folder.
    fn write(&mut self, template: &Path, folder: &Path) {
        let sound = std::fs::read(template.join(self.case.folder).join(self.file)).expect("a sound file");
        std::fs::write(folder.join(self.file), mutated(&sound, &mut self.draw)).expect("it is written");
    }
}

/// The folder of a case in a place of one's own, made when it is first asked for.
fn own_copy(case: &Case, template: &Path, own: &Path) -> PathBuf {
    let folder = own.join(case.folder);
    if !folder.exists() {
        copy(&template.join(case.folder), &folder);
    }
    folder
}

/// Puts the sound file back.
fn restore(input: &Input, template: &Path, folder: &Path) {
    copy(&template.join(input.case.folder).join(input.file), &folder.join(input.file));
}

/// Reads inputs one after the other, and says before each which one it is.
fn child(orders: &str) {
    let parts: Vec<&str> = orders.split('|').collect();
    let [template, own, from, step, end] = parts[..] else { panic!("wrong orders: {orders}") };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (template, own) = (Path::new(template), Path::new(own));
    for number in (number(from)..number(end)).step_by(number(step)) {
        let mut input = Input::number(number);
        if input.command.is_some() {
            continue;
        }
        println!("reads {number}");
        let folder = own_copy(input.case, template, own);
        input.write(template, &folder);
        let ran = catch_unwind(AssertUnwindSafe(|| (input.case.read)(&folder)));
        if ran.is_err() {
            println!("panics {number}");
        }
        restore(&input, template, &folder);
    }
    println!("ends");
}

#[derive(Default)]
struct Found {
    library: usize,
    program: usize,
    flags: usize,
    panics: Vec<String>,
    aborts: Vec<String>,
    hangs: Vec<String>,
}

struct Harness {
    template: PathBuf,
    work: PathBuf,
    found: Mutex<Found>,
    /// The temporary folder; it stays if something went wrong.
    folder: tempfile::TempDir,
}

/// The end of a process.
enum End {
    Well,
    Panic(String),
    Abort(String),
    Hang,
}

impl Harness {
    fn new() -> Self {
        let mut folder = tempfile::tempdir().expect("a temporary folder");
        folder.disable_cleanup(true);
        let (template, work) = (folder.path().join("sound"), folder.path().join("work"));
        write_template(&template);
        std::fs::create_dir(&work).expect("a new folder");
        Self { template, work, found: Mutex::default(), folder }
    }

    fn run(mut self, inputs: usize) -> Found {
        let workers = 2;
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let harness = &self;
                scope.spawn(move || harness.read_by_library(worker, workers, inputs));
            }
        });
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (harness, next) = (&self, &next);
                scope.spawn(move || harness.read_by_program(worker, next, inputs));
            }
        });
        let found = std::mem::take(&mut *self.found.lock().expect("no worker panicked"));
        if found.panics.len() + found.aborts.len() + found.hangs.len() == 0 {
            self.folder.disable_cleanup(false);
        }
        found
    }

    fn count(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().expect("no worker panicked"));
    }

    /// Keeps an input that went wrong, and says where it is.
    fn note(&self, end: End, what: &str, kept: Option<(&Path, usize)>) {
        let place = kept.map_or_else(String::new, |(file, number)| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let to = self.work.join(format!("failed-{number}-{name}"));
            let copied = std::fs::copy(file, &to);
            format!(" {} ({} bytes)", to.display(), copied.unwrap_or_default())
        });
        match end {
            End::Well => {}
            End::Panic(why) => self.count(|found| found.panics.push(format!("panic: {what}{place} {why}"))),
            End::Abort(why) => self.count(|found| found.aborts.push(format!("abort: {what}{place} {why}"))),
            End::Hang => self.count(|found| found.hangs.push(format!("hang: {what}{place}"))),
        }
    }

    /// Starts children that read every input of this worker; one that died or hangs is followed by another.
    fn read_by_library(&self, worker: usize, workers: usize, inputs: usize) {
        let own = self.work.join(format!("library-{worker}"));
        let mut from = worker;
        while from < inputs {
            let orders = format!("{}|{}|{from}|{workers}|{inputs}", self.template.display(), own.display());
            let program = std::env::current_exe().expect("this program");
            let mut command = limited(&program, None);
            let mut child =
                command.env(CHILD, orders).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
            let stdout = child.stdout.take().expect("it is piped");
            let (send, lines) = channel();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
            let said = gather(child.stderr.take().expect("it is piped"));
            let (mut at, mut since, mut used) = (from, Instant::now(), processor_seconds(&child));
            let mut ended = false;
            let end = loop {
                match lines.recv_timeout(Duration::from_millis(500)) {
                    Ok(line) => {
                        (since, used) = (Instant::now(), processor_seconds(&child));
                        match line.split_once(' ') {
                            Some(("reads", number)) => {
                                at = number.parse().expect("a number");
                                self.count(|found| found.library += 1);
                            }
                            Some(("panics", _)) => {
                                // The panic's own words were told on stderr.
                                let words = last_words(&said);
                                self.keep(&own, at, End::Panic(words));
                            }
                            _ => ended |= line == "ends",
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        if processor_seconds(&child) > used + SECONDS || since.elapsed() > PATIENCE {
                            let _ = child.kill();
                            break Some(End::Hang);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break None,
                }
            };
            let status = child.wait().expect("it was started");
            match end {
                None if ended && status.success() => return,
                None => self.keep(&own, at, End::Abort(format!("{status}, {}", last_words(&said)))),
                Some(end) => self.keep(&own, at, end),
            }
            let input = Input::number(at);
            restore(&input, &self.template, &own_copy(input.case, &self.template, &own));
            from = at + workers;
        }
    }

    fn keep(&self, own: &Path, number: usize, end: End) {
        let mut input = Input::number(number);
        let folder = own_copy(input.case, &self.template, own);
        // The file may have been put back already.
        input.write(&self.template, &folder);
        let what = format!("input {number} of {}/{}", input.case.folder, input.file);
        self.note(end, &what, Some((&folder.join(input.file), number)));
        restore(&input, &self.template, &folder);
    }

    /// Runs the program on its share of the inputs, and on planning commands.
    fn read_by_program(&self, worker: usize, next: &AtomicUsize, inputs: usize) {
        let own = self.work.join(format!("program-{worker}"));
        std::fs::create_dir_all(&own).expect("a new folder");
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= inputs {
                return;
            }
            let mut input = Input::number(number);
            if let Some(command) = input.command {
                let folder = own_copy(input.case, &self.template, &own);
                input.write(&self.template, &folder);
                let end = run_program(command, &folder);
                let what = format!("`s3t {}` of input {number}", command.join(" "));
                self.note(end, &what, Some((&folder.join(input.file), number)));
                restore(&input, &self.template, &folder);
                self.count(|found| found.program += 1);
            } else if number.is_multiple_of(2 * PROGRAM_SHARE) {
                let arguments = flags::planning(&mut Draw::new(number as u64));
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                self.note(run_program(&arguments, &own), &format!("`s3t {}`", arguments.join(" ")), None);
                self.count(|found| found.flags += 1);
            }
        }
    }
}

/// A command with a limit of memory, and of processor time if there is one.
fn limited(program: &Path, seconds: Option<u64>) -> Command {
    let mut command = Command::new("sh");
    let time = seconds.map_or_else(String::new, |seconds| format!("ulimit -t {seconds}; "));
    command.arg("-c").arg(format!("ulimit -c 0; {time}ulimit -v {MEMORY_KB}; exec \"$0\" \"$@\"")).arg(program);
    command.stdin(Stdio::null()).env("RAYON_NUM_THREADS", "2");
    command
}

fn run_program(arguments: &[&str], folder: &Path) -> End {
    let mut command = limited(Path::new(env!("CARGO_BIN_EXE_s3t")), Some(SECONDS));
    command.args(arguments).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let said = gather(child.stderr.take().expect("it is piped"));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("it was started") {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return End::Hang;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    ended(status, &said)
}

/// The end of a process: 101 is a panic, a signal an abort or the end of its time.
fn ended(status: ExitStatus, said: &Said) -> End {
    use std::os::unix::process::ExitStatusExt;
    const TIME_IS_UP: [i32; 2] = [9, 24];
    match (status.code(), status.signal()) {
        (Some(101), _) => End::Panic(last_words(said)),
        (Some(0..=7), _) => End::Well,
        (_, Some(signal)) if TIME_IS_UP.contains(&signal) => End::Hang,
        _ => End::Abort(format!("{status}, {}", last_words(said))),
    }
}

type Said = std::sync::Arc<Mutex<Vec<u8>>>;

/// Collects what a process says, so that it never waits for a reader. The end of it is kept.
fn gather(mut source: impl Read + Send + 'static) -> Said {
    let said = Said::default();
    let kept = Said::clone(&said);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = source.read(&mut buffer) {
            let mut kept = kept.lock().expect("nothing panics here");
            kept.extend(&buffer[..count]);
            let surplus = kept.len().saturating_sub(4096);
            kept.drain(..surplus);
        }
    });
    said
}

fn last_words(said: &Said) -> String {
    std::thread::sleep(Duration::from_millis(20));
    let said = said.lock().expect("nothing panics here");
    let text = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("RUST_BACKTRACE") && !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(3)..].join(" / ");
    words.chars().take(300).collect()
}

/// Seconds of processor time that a process has used.
fn processor_seconds(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // Behind the name in parentheses: user and system time in hundredths are the 12th and 13th field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let hundredths: u64 = fields.get(11..13).into_iter().flatten().filter_map(|field| field.parse::<u64>().ok()).sum();
    hundredths / 100
}
