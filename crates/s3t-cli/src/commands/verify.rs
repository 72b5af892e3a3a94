//! `s3t verify`.

use std::path::PathBuf;

use s3t::api::{Verification, VerifiedStage, VerifyRequest};
use s3t::core::wording::{counted, with_commas};

use crate::arguments::Scope;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, duration, say, short, table};
use crate::progress::Bars;

pub(crate) fn verify(pipeline: PathBuf, scope: Scope, output: &mut Output) -> Outcome {
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::verify(&VerifyRequest { pipeline, scope: scope.into() }, &bars);
    drop(bars);
    let answer = answer?;
    output.answer(&answer, || show_verification(&answer.verification));
    Ok(code_of(&answer))
}

/// Prints the stages that were trained again, and the verdict.
pub(crate) fn show_verification(verification: &Verification) {
    let report = &verification.report;
    let row = |stage: &VerifiedStage| {
        let result = stage.difference.as_ref().map_or_else(|| "every bit equal".to_owned(), ToString::to_string);
        vec![short(&stage.stage.key), stage.stage.to_string(), result]
    };
    if !report.stages.is_empty() {
        table(&["stage", "trained again from", "result"], report.stages.iter().map(row).collect(), 3);
    }
    report.problems.iter().for_each(|problem| say!("problem: {problem}"));
    report.notes.iter().for_each(|note| say!("note: {note}"));
    if report.overtaken > 0 {
        say!("{} were cut by deletions in the meantime", counted(report.overtaken, "stage"));
    }
    say!(
        "{} stage lineages, {} records, the catalogue and the ledger checked, after {}; {}: {}",
        report.lineages,
        with_commas(report.records as u64),
        counted(report.deletions as usize, "deletion"),
        duration(verification.seconds),
        if verification.passed { "verified" } else { "NOT verified" }
    );
}
