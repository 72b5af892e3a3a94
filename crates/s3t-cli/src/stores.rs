//! `s3t store`: looking after a store.

use std::path::Path;

use s3t::engine::EngineError;
use s3t::store::{Store, StoreCheck};

use crate::StoreCommand;
use crate::commands::{Outcome, pipeline_with_store};
use crate::exit::{self, Failure};
use crate::output::{Output, count, plural, say};

pub(crate) fn store(command: &StoreCommand, output: &mut Output) -> Outcome {
    match command {
        StoreCommand::Check { pipeline, repair } => check(&pipeline.pipeline, *repair, output),
        StoreCommand::ForgetExport { pipeline, folder } => forget_export(&pipeline.pipeline, folder, output),
    }
}

fn check(path: &Path, repair: bool, output: &mut Output) -> Outcome {
    let place = pipeline_with_store(path)?.place();
    let check =
        if repair { Store::mend(&place) } else { Store::open_read_only(&place).and_then(|store| store.check()) };
    let check = check.map_err(EngineError::from)?;
    show(&check, repair, output);
    Ok(if check.passed() { 0 } else { exit::DIFFERENT })
}

fn forget_export(path: &Path, folder: &Path, output: &mut Output) -> Outcome {
    let store = Store::open(&pipeline_with_store(path)?.place()).map_err(EngineError::from)?;
    let forgotten = store.forget_exports(folder).map_err(EngineError::from)?;
    if forgotten == 0 {
        let message =
            format!("the store knows of no export at `{}`; `s3t status` names those it waits for", folder.display());
        return Err(Failure::new(exit::UNKNOWN, message));
    }
    output.result("forgotten", &forgotten, || say!("{} taken off the list", plural(forgotten, "adapter")));
    Ok(0)
}

fn show(check: &StoreCheck, repaired: bool, output: &mut Output) {
    let json = serde_json::json!({ "passed": check.passed(), "check": check });
    output.result("store", &json, || {
        for finding in &check.findings {
            say!("problem: {}", finding.problem);
            if let (Some(mend), false) = (finding.mend, repaired) {
                say!("         `--repair` {mend}");
            }
        }
        check.waiting.iter().for_each(|waiting| say!("waiting: {waiting}"));
        check.notes.iter().for_each(|note| say!("note: {note}"));
        say!(
            "{} records, {} stages, {} ledger entries and every file and key checked: {}",
            count(check.records),
            check.stages,
            check.entries,
            if check.passed() { "sound" } else { "NOT sound" }
        );
    });
}
