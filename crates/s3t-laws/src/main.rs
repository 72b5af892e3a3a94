//! The program `s3t-laws`: checks the laws of deletion on a system behind a command.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use s3t_laws::{Guarantee, Law, LawsError, Program, Settings, check_with, read_json_lines};

/// Laws of deletion for any unlearning system.
#[derive(Parser)]
#[command(name = "s3t-laws", version, after_help = EXITS)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

const EXITS: &str = "Exit codes: 0 passed; 1 the system could not be launched, trained and asked, or a file cannot be read; \
2 the command line was refused; 5 a law is broken, the system failed on the way, the laws had no power, or none could be tested.";

const EXAMPLES: &str = "Examples:
  s3t-laws check -- python3 system.py
  s3t-laws check --rounds 10 --seed 7 --json -- ./system --quiet
  s3t-laws check --guarantee distribution --runs 40 --error-rate 0.01 -- python3 approximate.py
  s3t-laws check --data records.jsonl --questions questions.jsonl -- python3 texts.py";

#[derive(Subcommand)]
enum Task {
    /// Checks the laws on a system behind a command.
    #[command(after_help = EXAMPLES)]
    Check(Check),
    /// Lists the laws.
    Laws,
    /// Prints the protocol between the tester and a system.
    Protocol,
}

/// A promise on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Promise {
    /// Equal bits.
    Bits,
    /// Equal distributions.
    Distribution,
}

#[derive(clap::Args)]
struct Check {
    /// Rounds, each with records of its own, for a system that promises bits.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Records of a round, when no data are given.
    #[arg(long, default_value_t = 48)]
    records: usize,
    /// Records to forget in a round [default: 3; for a distribution a tenth of the records].
    #[arg(long)]
    forget: Option<usize>,
    /// Seed of records, systems and tests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds that the system has for each response.
    #[arg(long, default_value_t = 60.0)]
    time_limit: f64,
    /// Runs of each life, for a system that promises a distribution.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Probability of any false alarm, for a system that promises a distribution.
    #[arg(long, default_value_t = 0.01)]
    error_rate: f64,
    /// Laws to check, separated by commas [default: all].
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Promise to hold the system to, in place of its own.
    #[arg(long)]
    guarantee: Option<Promise>,
    /// Records of your own, one JSON object a line with an `id`; a third is held back to take the place of forgotten ones.
    #[arg(long, requires = "questions")]
    data: Option<PathBuf>,
    /// Questions to these records, one JSON object a line.
    #[arg(long, requires = "data")]
    questions: Option<PathBuf>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
    /// Command of the system, with its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Check(check) => check.run(),
        Task::Laws => print(&Law::ALL.map(|law| format!("{law:<17} {}", law.statement())).join("\n")).map(|()| true),
        Task::Protocol => print(include_str!("../PROTOCOL.md").trim_end()).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(5),
        Err(error) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(if matches!(error, LawsError::InvalidSetting { .. }) { 2 } else { 1 })
        }
    }
}

impl Check {
    /// Checks and prints; `true` if the system passed.
    fn run(self) -> Result<bool, LawsError> {
        let time_limit = Duration::try_from_secs_f64(self.time_limit).map_err(|error| LawsError::InvalidSetting {
            setting: "--time-limit",
            problem: format!("must be a number of seconds: {error}"),
        })?;
        let program = Program::new(self.command, time_limit)?;
        let data = match (&self.data, &self.questions) {
            (Some(data), Some(questions)) => Some((read_json_lines(data)?, read_json_lines(questions)?)),
            _ => None,
        };
        let settings = Settings {
            rounds: self.rounds,
            records: self.records,
            forget: self.forget,
            seed: self.seed,
            runs: self.runs,
            error_rate: self.error_rate,
            only: self.only.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            guarantee: self.guarantee.map(|promise| match promise {
                Promise::Bits => Guarantee::Bits,
                Promise::Distribution => Guarantee::Distribution,
            }),
            data,
        };
        let terminal = std::io::stderr().is_terminal();
        let report = check_with(&program, &settings, &mut |law, round| {
            if terminal {
                // The line is for people who wait; it may be lost.
                let _ = write!(std::io::stderr(), "\r\x1b[Kround {}: {law}", round + 1);
            }
        })?;
        if terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let text = if self.json {
            serde_json::to_string_pretty(&report)
                .map_err(|error| LawsError::Refused { op: "report".into(), message: error.to_string() })?
        } else {
            report.to_string()
        };
        print(&text)?;
        Ok(report.passed())
    }
}

fn print(text: &str) -> Result<(), LawsError> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| LawsError::File {
        action: "write",
        path: "standard output".into(),
        error,
    })
}
