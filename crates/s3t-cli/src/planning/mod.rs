//! The commands that plan a system before it is trained.

mod advise;
mod compare;
mod plan;
mod simulate;
mod system;

use std::path::Path;

use clap::Args;

use crate::exit::{Failure, message};
use crate::output::say;

pub(crate) use advise::{AdviseArgs, advise};
pub(crate) use compare::{CompareArgs, compare};
pub(crate) use plan::{PlanArgs, plan, show_figures};
pub(crate) use simulate::{SimulateArgs, simulate};

/// A failure whose message calls the fields of the request by the flags of a command. A message about the pipeline file keeps the
/// file's own fields.
fn by_flags<A: Args>(pipeline: Option<&Path>, failure: Failure) -> Failure {
    if pipeline.is_some_and(|file| failure.problem().contains(&*file.to_string_lossy())) {
        return failure;
    }
    let command = A::augment_args(clap::Command::new("s3t"));
    let flags = command.get_arguments().filter_map(|argument| Some((argument.get_id(), argument.get_long()?)));
    let text =
        flags.fold(message(&failure), |text, (field, flag)| text.replace(&format!("`{field}`"), &format!("--{flag}")));
    Failure::new(failure.kind(), text)
}

fn show_plot(plot: Option<&str>) {
    if let Some(file) = plot {
        say!("drawn in {file}");
    }
}
