//! The monthly update of what the workspace is built from.

use crate::cargo::cargo;

/// Moves every dependency to its newest compatible version, and checks that everything still builds and that no bit changed.
///
/// Run it once a month, and when a fault of a dependency becomes known. The versions that decide bits are exact in Cargo.toml,
/// and move only by hand.
#[derive(clap::Args)]
pub struct Update {
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

impl Update {
    pub fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        if self.dry_run {
            return cargo(&["update", "--dry-run"]);
        }
        cargo(&["update"])?;
        cargo(&["check", "--workspace", "--all-targets"])?;
        // The digest of training, and the readers that the update most often concerns.
        cargo(&["test", "-p", "s3t", "--test", "threads", "--test", "fuzz"])?;
        cargo(&["test", "-p", "s3t-cli", "--test", "hostile"])?;
        println!("Look at the difference of Cargo.lock, run `.ci/run`, and commit both together.");
        Ok(())
    }
}
