//! The tasks of the repository that train, run as `cargo xtask pretrain`, `cargo xtask reproduce-training` and
//! `cargo xtask reproduce-accuracy`.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod accuracy;
mod answers;
mod merged;
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
    /// Makes docs/reproduction/accuracy.md: ensembles by members and aggregators, after deletions.
    ReproduceAccuracy(accuracy::ReproduceAccuracy),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Task::parse() {
        Task::Pretrain(task) => task.run(),
        Task::ReproduceTraining(task) => task.run(),
        Task::ReproduceAccuracy(task) => task.run(),
    }
}
