//! `s3t audit`: the report, as a table, as JSON and as a page.

use std::fmt::Write as _;

use s3t::core::{RecordId, SubjectId};
use s3t::engine::{AuditReport, AuditRequest, EngineError};

use crate::AuditArgs;
use crate::commands::{Outcome, open_to_read};
use crate::exit::{self, Failure};
use crate::output::{Output, say, time};
use crate::progress::Bars;
use crate::receipts;

pub(crate) fn audit(args: &AuditArgs, output: &mut Output) -> Outcome {
    let read = |path: &std::path::PathBuf| receipts::read_text(path, receipts::MOST_LINE_BYTES);
    let request = AuditRequest {
        key: args.key.as_deref().map(receipts::parse_key).transpose()?,
        checkpoints: args.checkpoint.iter().map(read).collect::<Result<_, _>>()?,
        receipts: args.receipt.iter().map(|path| receipts::read(path)).collect::<Result<_, _>>()?,
        absent_records: args
            .absent_record
            .iter()
            .map(RecordId::new)
            .collect::<Result<_, _>>()
            .map_err(EngineError::from)?,
        absent_subjects: args
            .absent_subject
            .iter()
            .map(SubjectId::new)
            .collect::<Result<_, _>>()
            .map_err(EngineError::from)?,
        scope: args.scope.into(),
    };
    if let Some(file) = args.html.as_ref().filter(|file| file.exists()) {
        let message = format!("`{}` exists already; a report is a new file", file.display());
        return Err(Failure::new(exit::REFUSED, message));
    }
    let system = open_to_read(&args.pipeline)?;
    let bars = Bars::new(output.shows_progress());
    let report = system.audit(&request, &bars);
    drop(bars);
    let report = report?;
    if let Some(file) = &args.html {
        std::fs::write(file, page(&report))
            .map_err(|error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", file.display())))?;
    }
    let json = serde_json::json!({ "passed": report.passed(), "report": report });
    output.result("audit", &json, || {
        for check in &report.checks {
            say!("{:12} {}: {}", word(check.passed), check.what, check.detail);
            check.problems.iter().for_each(|problem| say!("             {problem}"));
        }
        say!("\n{}", conclusion(&report));
        if let Some(file) = &args.html {
            say!("report: {}", file.display());
        }
    });
    Ok(if report.passed() { 0 } else { exit::DIFFERENT })
}

fn word(passed: Option<bool>) -> &'static str {
    match passed {
        Some(true) => "holds",
        Some(false) => "DOES NOT HOLD",
        None => "not checked",
    }
}

fn conclusion(report: &AuditReport) -> String {
    let unchecked = report.checks.iter().filter(|check| check.passed.is_none()).count();
    if !report.passed() {
        return "The store does not hold what it promises; see above.".to_owned();
    }
    let but = if unchecked > 0 { format!(" ({unchecked} of the checks were not made.)") } else { String::new() };
    format!("{}{but}", report.guarantee)
}

/// The report as one page without anything from elsewhere.
fn page(report: &AuditReport) -> String {
    let mut rows = String::new();
    for check in &report.checks {
        let class = match check.passed {
            Some(true) => "holds",
            Some(false) => "fails",
            None => "unchecked",
        };
        let problems: Vec<String> =
            check.problems.iter().map(|problem| format!("<br><strong>{}</strong>", escape(problem))).collect();
        let problems = problems.concat();
        let _ = writeln!(
            rows,
            "<tr class=\"{class}\"><td>{}</td><td>{}</td><td>{}{problems}</td></tr>",
            word(check.passed),
            escape(&check.what),
            escape(&check.detail)
        );
    }
    let mut stages = String::new();
    for stage in &report.stages {
        let difference = stage.difference.as_ref().map_or_else(|| "every bit equal".to_owned(), ToString::to_string);
        let _ = writeln!(
            stages,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            stage.stage.key,
            escape(&stage.stage.to_string()),
            escape(&difference)
        );
    }
    let stages = if stages.is_empty() {
        String::new()
    } else {
        format!(
            "<h2>Stages trained again</h2>\n<table><tr><th>stage</th><th>from</th><th>result</th></tr>\n{stages}</table>\n"
        )
    };
    let limits = report.limits.map(|limit| format!("<li>{}</li>\n", escape(limit))).concat();
    let newest = report.newest_entry.map_or_else(|| "none".to_owned(), |at| time(at.0));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Audit of store {short}</title>\n<style>\n\
         body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }}\n\
         table {{ border-collapse: collapse; width: 100% }} td, th {{ border: 1px solid #bbb; padding: .4em .6em; text-align: left; \
         vertical-align: top; overflow-wrap: anywhere }}\n\
         .holds td:first-child {{ background: #dff0d8 }} .fails td:first-child {{ background: #f2c4c4 }} \
         .unchecked td:first-child {{ background: #eee }}\n</style></head><body>\n\
         <h1>Audit of store {short}</h1>\n<p>{conclusion}</p>\n\
         <table>\n<tr><th>store</th><td><code>{store}</code></td></tr>\n<tr><th>public key</th><td><code>{key}</code></td></tr>\n\
         <tr><th>deletions</th><td>{epoch}</td></tr>\n<tr><th>newest entry</th><td>{newest}</td></tr>\n</table>\n\
         <h2>Checks</h2>\n<table><tr><th></th><th>what</th><th>looked at</th></tr>\n{rows}</table>\n{stages}\
         <h2>What this does not say</h2>\n<ul>\n{limits}</ul>\n</body></html>\n",
        short = report.store.short(),
        store = report.store,
        key = escape(&report.key),
        epoch = report.epoch,
        conclusion = escape(&conclusion(report)),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
