//! `s3t store`.

use s3t::api::{CheckedStore, ForgetExportRequest, StoreCheckRequest, check_store, forget_export};
use s3t::core::wording::{counted, with_commas};

use crate::arguments::StoreCommand;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say};

pub(crate) fn store(command: StoreCommand, output: &mut Output) -> Outcome {
    match command {
        StoreCommand::Check { pipeline, repair } => {
            let answer = check_store(&StoreCheckRequest { pipeline: pipeline.pipeline, repair })?;
            output.answer(&answer, || show(&answer.store, repair));
            Ok(code_of(&answer))
        }
        StoreCommand::ForgetExport { pipeline, folder } => {
            let answer = forget_export(&ForgetExportRequest { pipeline: pipeline.pipeline, folder })?;
            output.answer(&answer, || say!("{} taken off the list", counted(answer.forgotten, "adapter")));
            Ok(code_of(&answer))
        }
    }
}

fn show(store: &CheckedStore, repaired: bool) {
    let check = &store.check;
    for finding in &check.findings {
        say!("problem: {}", finding.problem);
        if let (Some(mend), false) = (&finding.mend, repaired) {
            say!("         `--repair` {mend}");
        }
    }
    check.waiting.iter().for_each(|waiting| say!("waiting: {waiting}"));
    check.notes.iter().for_each(|note| say!("note: {note}"));
    say!(
        "{} records, {} stages, {} ledger entries and every file and key checked: {}",
        with_commas(check.records),
        check.stages,
        check.entries,
        if store.passed { "sound" } else { "NOT sound" }
    );
}
