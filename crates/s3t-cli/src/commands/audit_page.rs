//! The report of an audit as one page without anything from elsewhere.

use std::fmt::Write as _;

use s3t::api::{Audit, AuditReport};

use crate::commands::attack_page::section;
use crate::commands::html::{document, escape, list};
use crate::exit::Failure;
use crate::output::{short, time};

/// The verdict of a check, in words.
pub(crate) fn word(passed: Option<bool>) -> &'static str {
    match passed {
        Some(true) => "holds",
        Some(false) => "DOES NOT HOLD",
        None => "not checked",
    }
}

/// The verdict of an audit.
pub(crate) fn conclusion(passed: bool, report: &AuditReport) -> String {
    let unchecked = report.checks.iter().filter(|check| check.passed.is_none()).count();
    if !passed {
        return "The store does not hold what it promises; see above.".to_owned();
    }
    let but = match unchecked {
        0 => String::new(),
        1 => " (1 check was not made.)".to_owned(),
        several => format!(" ({several} checks were not made.)"),
    };
    format!("{}{but}", report.guarantee)
}

/// The page.
pub(crate) fn page(audit: &Audit) -> Result<String, Failure> {
    let report = &audit.report;
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
    let attack = audit.attack.as_ref().map(section).transpose()?.unwrap_or_default();
    let limits = list(&report.limits);
    let newest = report.newest_entry.map_or_else(|| "none".to_owned(), time);
    let title = format!("Audit of store {}", short(&report.store));
    let body = format!(
        "<h1>{title}</h1>\n<p>{conclusion}</p>\n\
         <table>\n<tr><th>store</th><td><code>{store}</code></td></tr>\n<tr><th>public key</th><td><code>{key}</code></td></tr>\n\
         <tr><th>deletions</th><td>{epoch}</td></tr>\n<tr><th>newest entry</th><td>{newest}</td></tr>\n</table>\n\
         <h2>Checks</h2>\n<table><tr><th></th><th>what</th><th>looked at</th></tr>\n{rows}</table>\n{stages}{attack}\
         <h2>What this does not say</h2>\n{limits}",
        store = report.store,
        key = escape(&report.key),
        epoch = report.epoch,
        conclusion = escape(&conclusion(audit.passed, report)),
    );
    Ok(document(&title, &body))
}
