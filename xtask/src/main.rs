//! Tasks of the repository, run as `cargo xtask NAME`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod cargo;
mod features;
mod golden;
mod new;
mod tidy;
mod update;

use std::ffi::OsString;

use clap::{Args, Parser};

/// Tasks of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Checks what must hold of the repository and can be read without building it.
    Tidy,
    /// Makes the folder of a new plugin, with a law that fails as its first step.
    New(new::New),
    /// Type-checks every crate alone and with each promised feature.
    Features(features::Features),
    /// Makes the golden files of `transformers` and `peft` again, and compares.
    Golden(golden::Golden),
    /// Moves all dependencies to their newest compatible versions and checks them: once a month.
    Update(update::Update),
    /// Gets data and models that are not bundled, into data/fetched.
    #[command(disable_help_flag = true)]
    Fetch(Passed),
    /// Makes the bundled Fashion-MNIST subset.
    #[command(disable_help_flag = true)]
    Fashion(Passed),
    /// Pre-trains the bundled ViT backbone on MNIST. Builds the product first.
    #[command(disable_help_flag = true)]
    Pretrain(Passed),
    /// Makes docs/reproduction/sequences.md: the paper's figures about sequences and budgets, beside ours.
    #[command(disable_help_flag = true)]
    Reproduce(Passed),
    /// Makes docs/reproduction/training.md: slice-wise training against ordinary fine-tuning. Builds the product first.
    #[command(disable_help_flag = true)]
    ReproduceTraining(Passed),
    /// Makes docs/reproduction/accuracy.md: ensembles by members and aggregators, after deletions. Builds the product first.
    #[command(disable_help_flag = true)]
    ReproduceAccuracy(Passed),
}

/// Arguments of a task in a program of its own, passed on as they are. `--help` is the program's.
#[derive(Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Tidy => tidy::run(),
        Task::New(task) => task.run(),
        Task::Features(task) => task.run(),
        Task::Golden(task) => task.run(),
        Task::Update(task) => task.run(),
        Task::Fetch(passed) => cargo::program("xtask-data", "fetch", &passed.arguments),
        Task::Fashion(passed) => cargo::program("xtask-data", "fashion", &passed.arguments),
        Task::Pretrain(passed) => cargo::program("xtask-models", "pretrain", &passed.arguments),
        Task::Reproduce(passed) => cargo::program("xtask-figures", "reproduce", &passed.arguments),
        Task::ReproduceTraining(passed) => cargo::program("xtask-models", "reproduce-training", &passed.arguments),
        Task::ReproduceAccuracy(passed) => cargo::program("xtask-models", "reproduce-accuracy", &passed.arguments),
    }
}
