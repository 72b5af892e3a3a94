//! The command line of S3T, as a library: a program of your own that links your plugins and calls [`main`] has them in every
//! command.
//!
//! Nothing here decides anything: a command is parsed into a request of [`s3t::api`], and the answer is printed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to a person")]

mod arguments;
mod commands;
mod exit;
mod init;
mod logging;
mod output;
mod planning;
mod progress;
mod progress_lines;
mod serving;
#[cfg(feature = "otel")]
mod telemetry;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use s3t::api::ErrorKind;
use s3t::backends::Instructions;

use crate::arguments::{Cli, Command};
use crate::exit::{Failure, exit_code};
use crate::output::Output;

/// The definition of the command line: its commands and flags, from which help, man pages and completions are made.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line with the program's arguments.
pub fn main() -> ExitCode {
    keep_memory_private();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, refusals to standard error, which may be closed.
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(exit_code(ErrorKind::Refused));
            }
            output::printed(printed);
            return ExitCode::from(output::code_after_printing(0));
        }
    };
    s3t::train::start_shared_threads();
    let mut output = Output::new(cli.json, cli.quiet);
    let is_server = matches!(cli.command, Command::Serve(_));
    let done = choose_instructions()
        .and_then(|()| logging::start(&cli.log, is_server))
        .and_then(|_diagnostics| commands::dispatch(cli.command, &cli.log, &mut output));
    let code = match done {
        Ok(code) => {
            output.finish();
            code
        }
        Err(failure) => {
            let code = exit_code(failure.kind());
            output.fail(&failure);
            code
        }
    };
    ExitCode::from(output::code_after_printing(code))
}

/// The vector instructions that the processor's kernels use; the processes that this one starts have the variable too.
fn choose_instructions() -> Result<(), Failure> {
    let Some(name) = std::env::var_os("S3T_INSTRUCTIONS").filter(|name| !name.is_empty()) else { return Ok(()) };
    let set: Instructions = name
        .to_string_lossy()
        .parse()
        .map_err(|problem: String| Failure::new(ErrorKind::Refused, format!("S3T_INSTRUCTIONS: {problem}")))?;
    set.choose();
    Ok(())
}

/// Keeps keys and records out of core dumps.
fn keep_memory_private() {
    #[cfg(unix)]
    {
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        // Where the limit cannot be lowered there is nothing more that a program can do.
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    }
}
