//! Tasks of the repository, run as `cargo xtask NAME`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod dependencies;
mod fashion;
mod fetch;
mod golden;
mod pretrain;
mod reproduce;
mod tidy;
mod training;

use clap::Parser;

/// Tasks of the repository.
#[derive(Parser)]
enum Task {
    /// Pre-trains the bundled ViT backbone on MNIST.
    Pretrain(pretrain::Pretrain),
    /// Makes the bundled Fashion-MNIST subset.
    Fashion(fashion::Fashion),
    /// Gets data and models that are not bundled, into data/fetched.
    Fetch(fetch::Fetch),
    /// Makes the golden files of `transformers` and `peft` again, and compares.
    Golden(golden::Golden),
    /// Makes docs/reproduction/sequences.md: the paper's figures about sequences and budgets, beside ours.
    Reproduce(reproduce::Reproduce),
    /// Makes docs/reproduction/training.md: slice-wise training against ordinary fine-tuning.
    ReproduceTraining(training::ReproduceTraining),
    /// Compares docs/architecture.md and its invariants with the disk and with `cargo metadata`.
    Tidy,
    /// Moves all dependencies to their newest compatible versions and checks them: once a month.
    UpdateDependencies(dependencies::UpdateDependencies),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Pretrain(task) => task.run(),
        Task::Fashion(task) => task.run(),
        Task::Fetch(task) => task.run(),
        Task::Golden(task) => task.run(),
        Task::Reproduce(task) => task.run(),
        Task::ReproduceTraining(task) => task.run(),
        Task::Tidy => tidy::run(),
        Task::UpdateDependencies(task) => task.run(),
    }
}
