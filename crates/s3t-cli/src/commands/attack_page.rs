//! The report of an audit by attack as a page, or as a section of one.

use std::fmt::Write as _;

use s3t::api::attack_pictures;
use s3t::eval::attack::MembershipAudit;
use s3t::eval::report::{AttackReport, Performance, ReferenceKind};

use crate::commands::attack_words::{auc, low_rate, oracle, priv_leak, told};
use crate::commands::html::{document, escape, list};
use crate::exit::Failure;

/// The page of an audit by attack alone.
pub(crate) fn page(audit: &MembershipAudit) -> Result<String, Failure> {
    let body = format!(
        "<h1>Audit by attack</h1>\n{}<h2>What this does not say</h2>\n{}",
        content(audit)?,
        list(&audit.limits)
    );
    Ok(document("Audit by attack", &body))
}

/// The section of a larger report.
pub(crate) fn section(audit: &MembershipAudit) -> Result<String, Failure> {
    Ok(format!("<h2>Audit by attack</h2>\n{}<h3>Limits of the attack</h3>\n{}", content(audit)?, list(&audit.limits)))
}

fn content(audit: &MembershipAudit) -> Result<String, Failure> {
    let warns = if audit.has_power() && audit.passed() { "" } else { " warns" };
    let mut page = format!(
        "<p class=\"first{warns}\">{}</p>\n<p>{}</p>\n<p>{}</p>\n",
        escape(&audit.first_line),
        escape(&told(audit)),
        escape(&oracle(audit))
    );
    page += "<h3>Before the deletion, after it, and on the oracle</h3>\n<p>The oracle is a system that was trained without the records. \
             One half is guessing.</p>\n";
    let mut rows = String::new();
    for report in &audit.attacks {
        rows += &rows_of(report, &report.attack.title());
    }
    if let Some(report) = &audit.by_subject {
        rows += &rows_of(report, &format!("{}, subjects as wholes", report.attack.title()));
    }
    page += &wide(
        "<tr><th>attack</th><th>system</th><th>AUC</th><th>TPR at 1 % FPR</th><th>TPR at 0.1 % FPR</th></tr>",
        &rows,
    );
    page += &benchmarks(audit);
    for picture in attack_pictures(audit)? {
        let _ = writeln!(
            page,
            "<figure role=\"img\" aria-label=\"{}\">{}</figure>",
            escape(&picture.description),
            picture.svg
        );
    }
    if let Some(strongest) = audit.attacks.first() {
        page += &power(strongest);
        page += &references(strongest);
        page += &subjects(strongest);
    }
    Ok(page)
}

fn wide(header: &str, rows: &str) -> String {
    format!("<div class=\"wide\" tabindex=\"0\"><table>{header}\n{rows}</table></div>\n")
}

fn cells(performance: &Performance) -> String {
    let rates: String =
        performance.low_fpr.iter().map(|rate| format!("<td class=\"number\">{}</td>", low_rate(rate))).collect();
    format!("<td class=\"number\">{}</td>{rates}", auc(performance))
}

fn rows_of(report: &AttackReport, title: &str) -> String {
    let oracle = report.oracle.as_ref().map(|oracle| ("oracle", oracle));
    let cases: Vec<(&str, &Performance)> =
        [("before", &report.before), ("after", &report.after)].into_iter().chain(oracle).collect();
    let mut rows = String::new();
    for (at, (case, performance)) in cases.iter().enumerate() {
        let name =
            if at == 0 { format!("<td rowspan=\"{}\">{}</td>", cases.len(), escape(title)) } else { String::new() };
        let _ = writeln!(rows, "<tr>{name}<td>{case}</td>{}</tr>", cells(performance));
    }
    rows
}

/// The figures that unlearning benchmarks report.
fn benchmarks(audit: &MembershipAudit) -> String {
    let mut rows = String::new();
    for report in &audit.attacks {
        let Some(comparison) = &report.comparison else { continue };
        let equal = if comparison.equal { "equal, bit for bit" } else { "differ" };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{:.3}</td><td>{equal}</td></tr>",
            escape(&report.attack.title()),
            priv_leak(comparison),
            comparison.forget_quality.p_value,
        );
    }
    let header = "<tr><th>attack</th><th>PrivLeak (MUSE; 0 is ideal)</th><th>forget quality (TOFU, p value; 1 is ideal)</th><th>scores after and of the oracle</th></tr>";
    format!("<h3>In the words of benchmarks</h3>\n{}", wide(header, &rows))
}

/// The evidence that the attack can find something.
fn power(report: &AttackReport) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, performance: &Performance, found: &str| {
        let _ = writeln!(rows, "<tr><td>{}</td>{}<td>{found}</td></tr>", escape(name), cells(performance));
    };
    let word = |found: bool| if found { "found" } else { "not found" };
    row("before the deletion", &report.before, word(report.power.found));
    if let Some(performance) = &report.most_vulnerable {
        row("before the deletion, the fifth that is hardest for models without them", performance, "");
    }
    for leak in &report.planted {
        let bits =
            if leak.equals_oracle { "; answers equal the oracle's" } else { "; answers differ from the oracle's" };
        row(
            &format!("planted leak: {}", leak.name),
            &leak.performance,
            &format!("{} (in {:.0} % of resamples){bits}", word(leak.power.found), 100.0 * leak.detection),
        );
    }
    if let Some(blind) = &report.blind {
        row("a classifier that sees records and no model", blind, "one half is good");
    }
    let header = "<tr><th>scores of</th><th>AUC</th><th>TPR at 1 % FPR</th><th>TPR at 0.1 % FPR</th><th></th></tr>";
    let bound = report.epsilon.map_or_else(String::new, |bound| {
        format!(
            "<p>From one run on {} records that were included by coins: epsilon is at least {:.3} at delta {} ({:.0} % confidence).</p>\n",
            bound.guesses.records,
            bound.epsilon,
            bound.delta,
            100.0 * bound.confidence
        )
    });
    format!(
        "<h3>Power of the strongest attack, {}</h3>\n{}{bound}",
        escape(&report.attack.title()),
        wide(header, &rows)
    )
}

fn references(report: &AttackReport) -> String {
    let name = |kind| match kind {
        ReferenceKind::OtherShards => "stages of other shards",
        ReferenceKind::Prefixes => "prefixes that never saw the slice",
        ReferenceKind::Trained => "systems trained on random halves",
        ReferenceKind::Base => "the frozen base model",
    };
    let rows: String = report
        .references
        .iter()
        .map(|of| format!("<tr><td>{}</td><td class=\"number\">{}</td></tr>\n", name(of.kind), of.number))
        .collect();
    format!("<h3>Reference models</h3>\n<table>\n<tr><th>origin</th><th>number</th></tr>\n{rows}</table>\n")
}

fn subjects(report: &AttackReport) -> String {
    if report.subjects.is_empty() {
        return String::new();
    }
    let rows: String = report
        .subjects
        .iter()
        .map(|of| {
            format!(
                "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{:.3}</td><td class=\"number\">{:.3}</td></tr>\n",
                escape(&of.subject),
                of.records,
                of.largest,
                of.mean
            )
        })
        .collect();
    format!(
        "<h3>Largest scores of subjects after the deletion</h3>\n<p>The same scores as the oracle gives, if answers are equal.</p>\n\
         <table>\n<tr><th>subject</th><th>records</th><th>largest</th><th>mean</th></tr>\n{rows}</table>\n"
    )
}
