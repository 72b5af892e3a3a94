//! `s3t store`: looking after a store.

use s3t::engine::EngineError;
use s3t::store::{Store, StoreCheck};

use crate::StoreCommand;
use crate::commands::{Outcome, pipeline_with_store};
use crate::exit;
use crate::output::{Output, count, say};

pub(crate) fn store(command: &StoreCommand, output: &mut Output) -> Outcome {
    let StoreCommand::Check { pipeline, repair } = command;
    let place = pipeline_with_store(&pipeline.pipeline)?.place();
    let check =
        if *repair { Store::mend(&place) } else { Store::open_read_only(&place).and_then(|store| store.check()) };
    let check = check.map_err(EngineError::from)?;
    show(&check, *repair, output);
    Ok(if check.passed() { 0 } else { exit::DIFFERENT })
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
        say!(
            "{} records, {} stages, {} ledger entries and every file and key checked: {}",
            count(check.records),
            check.stages,
            check.entries,
            if check.passed() { "sound" } else { "NOT sound" }
        );
    });
}
