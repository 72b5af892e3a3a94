//! `s3t train`.

use std::path::PathBuf;

use s3t::api::{TrainRequest, Training};
use s3t::core::wording::counted;

use crate::arguments::FreshArgs;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, duration, say};
use crate::progress::Bars;

pub(crate) fn train(pipeline: PathBuf, fresh: FreshArgs, output: &mut Output) -> Outcome {
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::train(&TrainRequest { pipeline, start: fresh.into() }, &bars);
    drop(bars);
    let answer = answer?;
    output.answer(&answer, || {
        show_restart(answer.restarted_after);
        show_cut(answer.cut, answer.cut_to);
        show_training(&answer.training);
    });
    Ok(code_of(&answer))
}

/// Prints that a store was made anew although deletions had been accepted.
pub(crate) fn show_restart(deletions: Option<u64>) {
    if let Some(deletions) = deletions {
        let deletions = counted(deletions as usize, "deletion");
        say!("The store had accepted {deletions}; it is made anew from what the source of the data holds now.");
    }
}

/// Prints the number of texts that a limit of the user cut, if it cut any.
pub(crate) fn show_cut(cut: Option<usize>, cut_to: Option<usize>) {
    if let (Some(cut), Some(limit)) = (cut, cut_to) {
        let texts = if cut == 1 { "1 text was".to_owned() } else { format!("{cut} texts were") };
        say!("{texts} cut to {limit} tokens");
    }
}

/// Prints the stages of a training.
pub(crate) fn show_training(training: &Training) {
    let report = &training.report;
    say!(
        "{} stages trained, {} reused, {} in the plan; {}",
        report.trained,
        report.reused,
        report.planned,
        duration(training.seconds)
    );
}
