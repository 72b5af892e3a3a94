//! `s3t repair`.

use std::sync::{Mutex, PoisonError};

use s3t::api::{RepairAnswer, RepairRequest, WatchObserver};
use s3t::core::wording::counted;
use s3t::engine::Observer;

use crate::arguments::RepairArgs;
use crate::commands::shards;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, duration, say};
use crate::progress::Bars;

pub(crate) fn repair(args: RepairArgs, output: &mut Output) -> Outcome {
    let request = RepairRequest {
        pipeline: args.pipeline,
        below_depth: args.below_depth,
        below_budget: args.below_budget,
        jobs: args.jobs,
        minutes: args.minutes,
    };
    let bars = Bars::new(output.shows_progress());
    if args.watch {
        s3t::api::watch(&request, &Watch { bars, output: Mutex::new(output) })?;
        return Ok(0);
    }
    let answer = s3t::api::repair(&request, &bars);
    drop(bars);
    let answer = answer?;
    output.answer(&answer, || show(&answer));
    Ok(code_of(&answer))
}

/// Prints each repair of a watch, which Ctrl-C ends.
struct Watch<'a> {
    bars: Bars,
    output: Mutex<&'a mut Output>,
}

impl WatchObserver for Watch<'_> {
    fn progress(&self) -> &dyn Observer {
        &self.bars
    }

    fn repaired(&self, answer: RepairAnswer) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.answer(&answer, || show(&answer));
    }

    fn waiting(&self, reason: String) {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).say(format!("waiting: {reason}"));
    }

    fn is_stopped(&self) -> bool {
        Bars::interrupted()
    }
}

fn show(answer: &RepairAnswer) {
    let report = &answer.repair.report;
    let built = report.build.as_ref().map(|build| {
        let stopped = if report.out_of_time { "; out of time" } else { "" };
        format!("{} built in {}{stopped}", counted(build.trained, "stage"), duration(answer.repair.seconds))
    });
    say!("{}: {}", report.reason, built.unwrap_or_else(|| "nothing to do".into()));
    shards::show(&answer.shards);
}
