//! `s3t manual`: manual pages and completions of shells, from the definition of the command line.

use std::path::Path;

use clap::ValueEnum;
use clap_complete::Shell;

use crate::exit::{self, Failure, Outcome};
use crate::output::Output;

/// Writes a page for each command (`s3t-train.1`) and a script for each shell.
pub(crate) fn manual(folder: &Path, output: &Output) -> Outcome {
    let failed =
        |error: std::io::Error| Failure::new(exit::FAILED, format!("cannot write to `{}`: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(crate::command(), folder).map_err(failed)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut crate::command(), "s3t", folder).map_err(failed)?;
    }
    output.say(format!("wrote manual pages and completions to {}", folder.display()));
    Ok(0)
}
