//! `s3t train`.

use std::io::Write as _;
use std::path::Path;

use s3t::api::{TrainAnswer, TrainRequest, Training};
use s3t::core::wording::counted;

use crate::arguments::{PipelineArg, TrainArgs};
use crate::commands::detached::{Detached, Owning};
use crate::exit::{Outcome, code_of, exit_code};
use crate::logging::LogArgs;
use crate::output::{Output, duration, say};
use crate::progress::Bars;
use crate::progress_lines::Lines;

pub(crate) fn train(args: TrainArgs, log: &LogArgs, output: &mut Output) -> Outcome {
    let TrainArgs { pipeline: PipelineArg { pipeline }, fresh, detach, attach, owner } = args;
    let request = TrainRequest { pipeline: pipeline.clone(), start: fresh.into() };
    if let Some(folder) = owner {
        // The output is a file: progress is lines of a log.
        let owning = Owning::begin(&folder)?;
        let done = s3t::api::train(&request, &Lines::new()).map(|answer| show(&answer, output));
        owning.end(done.as_ref().map_or_else(|failure| exit_code(failure.kind()), |code| *code))?;
        return done;
    }
    let detached = Detached::of(&pipeline)?;
    if attach {
        return follow(&detached, &pipeline, output);
    }
    detached.refuse_a_second(&pipeline)?;
    if detach {
        let flags = [("--fresh", fresh.fresh), ("--yes", fresh.yes)];
        let flags = flags.into_iter().filter_map(|(flag, is_given)| is_given.then_some(flag.into()));
        let owner = detached.start(&pipeline, &flags.chain(log.arguments()).collect::<Vec<_>>())?;
        let (process, log) = (owner.process, detached.log());
        output.answer(&serde_json::json!({ "detached": { "process": process, "log": log } }), || {
            say!("Process {process} trains in the background; what it says is in {}.", log.display());
            say!(
                "`s3t train {} --attach` shows it; `kill {process}` stops it, and finished stages are kept.",
                pipeline.display()
            );
        });
        return Ok(0);
    }
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::train(&request, &bars);
    drop(bars);
    Ok(show(&answer?, output))
}

/// Shows what a training in the background says until it ends, and then its answer.
fn follow(detached: &Detached, pipeline: &Path, output: &mut Output) -> Outcome {
    let shows_progress = output.shows_progress();
    let ended = detached.follow(pipeline, |said| {
        if shows_progress {
            // Where it cannot be shown, the answer still can.
            drop(std::io::stderr().write_all(said));
        }
    })?;
    if let Ok(answer) = serde_json::from_value::<TrainAnswer>(ended.answer.clone()) {
        show(&answer, output);
    } else if output.is_json() || !shows_progress {
        // People have seen its words.
        output.answer(&ended.answer, || say!("{}", ended.answer["error"].as_str().unwrap_or("it has failed")));
    }
    Ok(ended.code)
}

/// Prints the answer, and gives the exit code.
fn show(answer: &TrainAnswer, output: &mut Output) -> u8 {
    output.answer(answer, || {
        show_restart(answer.restarted_after);
        show_cut(answer.cut, answer.cut_to);
        show_training(&answer.training);
    });
    code_of(answer)
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
