//! `s3t attack`.

use s3t::api::AttackRequest;
use s3t::eval::attack::MembershipAudit;
use s3t::eval::report::{AttackReport, Performance};

use crate::arguments::AttackArgs;
use crate::commands::attack_page::page;
use crate::commands::attack_words::{auc, low_rate, oracle, priv_leak, told};
use crate::commands::html;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say, table};
use crate::progress::Bars;

pub(crate) fn attack(args: AttackArgs, output: &mut Output) -> Outcome {
    let html = args.html;
    html::check_new(html.as_deref())?;
    let request = AttackRequest {
        pipeline: args.pipeline,
        records: args.record,
        subjects: args.subject,
        members: args.members,
        non_members: args.non_members,
        population: args.population,
        references: args.references,
        repair: args.repair,
        confidence: args.confidence,
        seed: args.seed,
    };
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::attack(&request, &bars);
    drop(bars);
    let answer = answer?;
    if let Some(file) = &html {
        html::write(file, &page(&answer.attack)?)?;
    }
    output.answer(&answer, || {
        show(&answer.attack);
        if let Some(file) = &html {
            say!("report: {}", file.display());
        }
    });
    Ok(code_of(&answer))
}

/// Prints an audit by attack.
pub(crate) fn show(audit: &MembershipAudit) {
    say!("{}\n", audit.first_line);
    say!("{}", told(audit));
    let header = ["attack", "", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"];
    let mut rows = Vec::new();
    audit.attacks.iter().for_each(|report| rows.extend(rows_of(report, &report.attack.title())));
    if let Some(report) = &audit.by_subject {
        rows.extend(rows_of(report, &format!("subjects: {}", report.attack.title())));
    }
    table(&header, rows, 2);
    if let Some(strongest) = audit.attacks.first() {
        say!("\nTo show that the attack can find something:");
        let mut rows: Vec<Vec<String>> = Vec::new();
        if let Some(performance) = &strongest.most_vulnerable {
            rows.push(row("before, on the fifth that is hardest without training", performance));
        }
        rows.extend(
            strongest.planted.iter().map(|leak| row(&format!("planted leak: {}", leak.name), &leak.performance)),
        );
        if let Some(blind) = &strongest.blind {
            rows.push(row("without a model (one half is good)", blind));
        }
        table(&["", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"], rows, 1);
        if let Some(bound) = &strongest.epsilon {
            say!(
                "\nfrom one run: epsilon is at least {:.3} at delta {} ({:.0} % confidence)",
                bound.epsilon,
                bound.delta,
                100.0 * bound.confidence
            );
        }
    }
    say!("\n{}", oracle(audit));
}

fn row(name: &str, performance: &Performance) -> Vec<String> {
    let rates = performance.low_fpr.iter().map(low_rate);
    [name.to_owned(), auc(performance)].into_iter().chain(rates).collect()
}

fn rows_of(report: &AttackReport, title: &str) -> Vec<Vec<String>> {
    let cases = [
        Some(("before", &report.before)),
        Some(("after", &report.after)),
        report.oracle.as_ref().map(|of| ("oracle", of)),
    ];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (case, performance) in cases.into_iter().flatten() {
        let name = if rows.is_empty() { title } else { "" };
        rows.push([vec![name.to_owned()], row(case, performance)].concat());
    }
    if let Some(comparison) = &report.comparison {
        let quality = format!("forget quality p = {:.3}", comparison.forget_quality.p_value);
        rows.push(vec![
            String::new(),
            String::new(),
            format!("PrivLeak {}", priv_leak(comparison)),
            quality,
            String::new(),
        ]);
    }
    rows
}
