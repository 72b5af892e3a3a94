//! The tasks of the repository that make data, run as `cargo xtask fetch` and `cargo xtask fashion`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod fashion;
mod fetch;

use clap::Parser;

/// Makes data.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Makes the bundled Fashion-MNIST subset.
    Fashion(fashion::Fashion),
    /// Gets data and models that are not bundled, into data/fetched.
    Fetch(fetch::Fetch),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Fashion(task) => task.run(),
        Task::Fetch(task) => task.run(),
    }
}
