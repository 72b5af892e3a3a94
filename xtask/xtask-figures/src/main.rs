//! The paper's figures about sequences and budgets beside ours, run as `cargo xtask reproduce`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod reproduce;

use clap::Parser;

/// Makes figures.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Makes docs/reproduction/sequences.md: the paper's figures about sequences and budgets, beside ours.
    Reproduce(reproduce::Reproduce),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Reproduce(task) => task.run(),
    }
}
