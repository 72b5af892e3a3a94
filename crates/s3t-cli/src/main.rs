//! The `s3t` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3t_cli::main()
}
