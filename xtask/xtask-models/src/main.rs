//! The tasks of the repository that train, run as `cargo xtask pretrain` and `cargo xtask reproduce-training`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod pretrain;
mod training;

use clap::Parser;

/// Trains models.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Pre-trains the bundled ViT backbone on MNIST.
    Pretrain(pretrain::Pretrain),
    /// Makes docs/reproduction/training.md: slice-wise training against ordinary fine-tuning.
    ReproduceTraining(training::ReproduceTraining),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Pretrain(task) => task.run(),
        Task::ReproduceTraining(task) => task.run(),
    }
}
