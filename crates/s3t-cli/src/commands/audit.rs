//! `s3t audit`.

use s3t::api::{Audit, AuditRequest};

use crate::arguments::AuditArgs;
use crate::commands::audit_page::{conclusion, page, word};
use crate::exit::{self, Failure, Outcome, code_of};
use crate::output::{Output, say};
use crate::progress::Bars;

pub(crate) fn audit(args: AuditArgs, output: &mut Output) -> Outcome {
    let AuditArgs { pipeline, key, checkpoint, receipt, absent_record, absent_subject, scope, html } = args;
    if let Some(file) = html.as_ref().filter(|file| file.exists()) {
        let message = format!("`{}` exists already; a report is a new file", file.display());
        return Err(Failure::new(exit::REFUSED, message));
    }
    let request = AuditRequest {
        pipeline,
        key,
        checkpoints: checkpoint,
        receipts: receipt,
        absent_records: absent_record,
        absent_subjects: absent_subject,
        scope: scope.into(),
    };
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::audit(&request, &bars);
    drop(bars);
    let answer = answer?;
    if let Some(file) = &html {
        std::fs::write(file, page(answer.audit.passed, &answer.audit.report))
            .map_err(|error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", file.display())))?;
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
    say!("\n{}", conclusion(audit.passed, &audit.report));
}
