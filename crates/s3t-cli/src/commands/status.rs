//! `s3t status`.

use std::path::PathBuf;

use s3t::api::{Status, StatusRequest};
use s3t::core::wording::{counted, with_commas};

use crate::commands::shards;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say, time};

pub(crate) fn status(pipeline: PathBuf, output: &mut Output) -> Outcome {
    let answer = s3t::api::status(&StatusRequest { pipeline })?;
    output.answer(&answer, || {
        show(&answer.status);
        shards::show(&answer.shards);
    });
    Ok(code_of(&answer))
}

fn show(status: &Status) {
    say!(
        "{}: {} records, {} subjects; {} seen; {} of {} stages built",
        status.store,
        with_commas(status.records),
        with_commas(status.subjects),
        counted(status.epoch as usize, "deletion request"),
        status.built_stages,
        status.planned_stages
    );
    if !status.same_environment {
        say!("The store was trained on another arithmetic: this machine can serve and delete, not train or verify.");
    }
    for pending in &status.pending {
        say!(
            "deletion {} ({}) is in effect since {}, and not erased yet; the next command that changes the store finishes it",
            pending.epoch,
            counted(pending.records as usize, "record"),
            time(pending.accepted)
        );
    }
    if let Some(holder) = &status.holder {
        say!("the store's files are in the hands of {holder}");
    }
    for export in &status.remaining_exports {
        say!("export `{}`: {}", export.folder, export.reason);
    }
}
