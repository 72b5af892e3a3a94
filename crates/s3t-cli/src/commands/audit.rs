//! `s3t audit`.

use s3t::api::{Audit, AuditRequest};

use crate::arguments::AuditArgs;
use crate::commands::attack::show as show_attack;
use crate::commands::audit_page::{conclusion, page, word};
use crate::commands::html;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say};
use crate::progress::Bars;

pub(crate) fn audit(args: AuditArgs, output: &mut Output) -> Outcome {
    let AuditArgs { pipeline, key, checkpoint, receipt, absent_record, absent_subject, scope, attack, html } = args;
    html::check_new(html.as_deref())?;
    let request = AuditRequest {
        pipeline,
        key,
        checkpoints: checkpoint,
        receipts: receipt,
        absent_records: absent_record,
        absent_subjects: absent_subject,
        scope: scope.into(),
        attack,
    };
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::audit(&request, &bars);
    drop(bars);
    let answer = answer?;
    if let Some(file) = &html {
        html::write(file, &page(&answer.audit)?)?;
    }
    output.answer(&answer, || {
        show(&answer.audit);
        if let Some(file) = &html {
            say!("report: {}", file.display());
        }
    });
    Ok(code_of(&answer))
}

fn show(audit: &Audit) {
    for check in &audit.report.checks {
        say!("{:12} {}: {}", word(check.passed), check.what, check.detail);
        check.problems.iter().for_each(|problem| say!("             {problem}"));
    }
    audit.attack.iter().for_each(show_attack);
    say!("\n{}", conclusion(audit.passed, &audit.report));
}
