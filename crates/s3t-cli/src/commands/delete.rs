//! `s3t delete`.

use std::path::Path;

use s3t::api::{DeleteRequest, Deletion};
use s3t::core::limits::read_text_at_most;
use s3t::core::spelling::{DIFFERENCES, Visible, beside};
use s3t::core::wording::counted;
use s3t::core::{CoreError, RecordId, SubjectId};
use s3t::data::{MAX_LIST_MB, parse_id_list, read_id_list};

use crate::arguments::DeleteArgs;
use crate::commands::shards::all_serving;
use crate::exit::{self, Failure, Outcome};
use crate::output::{Output, duration, say, table};

pub(crate) fn delete(args: DeleteArgs, output: &mut Output) -> Outcome {
    let input = Some(Path::new("-"));
    if args.records_from.as_deref() == input && args.subjects_from.as_deref() == input {
        let message = "--records-from and --subjects-from cannot both read standard input; give a file to one of them";
        return Err(Failure::new(exit::REFUSED, message));
    }
    let request = DeleteRequest {
        pipeline: args.pipeline.pipeline,
        records: ids(args.record, args.records_from.as_deref(), RecordId::new)?,
        subjects: ids(args.subject, args.subjects_from.as_deref(), SubjectId::new)?,
        request_id: args.request_id,
        receipt: args.receipt,
    };
    if request.records.is_empty() && request.subjects.is_empty() {
        let message = "nothing to delete; give --record, --subject, --records-from or --subjects-from";
        return Err(Failure::new(exit::REFUSED, message));
    }
    let answer = s3t::api::delete(&request)?;
    output.answer(&answer, || {
        show_deletion(&answer.deletion, &request.subjects);
        if let (Some(path), false) = (&request.receipt, answer.is_undelivered()) {
            let path = path.display();
            say!("receipt: {path}; `s3t receipt verify` checks it with the store's public key alone");
        }
    });
    answer.unfinished.map_or(Ok(0), Err)
}

/// The ids on the command line and in a file with one a line.
fn ids<T: Into<String>>(
    given: Vec<String>,
    file: Option<&Path>,
    check: impl Fn(String) -> Result<T, CoreError>,
) -> Result<Vec<String>, Failure> {
    let listed = match file {
        Some(file) if file == Path::new("-") => {
            let refuse = |error| Failure::new(exit::REFUSED, format!("cannot read standard input: {error}"));
            let text = read_text_at_most(std::io::stdin(), MAX_LIST_MB << 20).map_err(refuse)?;
            parse_id_list(&text, Path::new("standard input"), check)?
        }
        Some(file) => read_id_list(file, check)?,
        None => Vec::new(),
    };
    Ok(given.into_iter().chain(listed.into_iter().map(Into::into)).collect())
}

/// Prints the slices that a deletion hit, and the times that it took.
pub(crate) fn show_deletion(deletion: &Deletion, subjects: &[String]) {
    if deletion.repeated {
        say!("request {}: done before, as deletion {}; nothing was done now", deletion.request, deletion.epoch);
        show_unfinished(deletion);
        return;
    }
    let who: Vec<String> = subjects.iter().map(|subject| format!("subject {}", Visible(subject))).collect();
    let ids: Vec<String> = deletion.records.iter().take(8).map(|record| Visible(record).to_string()).collect();
    let more = if deletion.records.len() > ids.len() { ", ..." } else { "" };
    let of = if who.is_empty() { String::new() } else { format!(" of {}", who.join(", ")) };
    say!("{}{of}: {}{more}", counted(deletion.records.len(), "record"), ids.join(", "));
    let mut rows = Vec::new();
    for cut in &deletion.cuts {
        let shortened: Vec<String> =
            cut.shortened.iter().map(|(sequence, from, to)| format!("sequence {sequence}: {from} to {to}")).collect();
        let shortened = if shortened.is_empty() { "nothing more".to_owned() } else { shortened.join("\n") };
        rows.push(vec![
            cut.address.to_string(),
            shortened,
            all_serving(&cut.members_before),
            all_serving(&cut.members_after),
        ]);
    }
    table(&["hit", "cut to depth", "served with", "serves with now"], rows, 4);
    let erased = match deletion.erased_seconds {
        Some(seconds) => format!("gone from disk after {}", duration(seconds)),
        None => "NOT gone from disk yet".to_owned(),
    };
    say!(
        "cannot be lost after {}; no answer uses it after {}; {erased}: {} removed, {} rewritten",
        duration(deletion.durable_seconds),
        duration(deletion.effective_seconds),
        counted(deletion.erased_stages.len(), "stage"),
        counted(deletion.rewritten_slices.len(), "slice")
    );
    for left in &deletion.other_spellings {
        let (named, others) = beside(&left.named, &left.left);
        say!(
            "still there: {} {others}, which differs from `{named}` only in {DIFFERENCES}; delete it too if it is the same",
            left.kind
        );
    }
    show_unfinished(deletion);
}

/// Prints the exports of a deletion that are still there.
fn show_unfinished(deletion: &Deletion) {
    for export in &deletion.remaining_exports {
        say!("export `{}`: {}", export.folder, export.reason);
    }
}
