//! Audits as jobs: one at a time, in a thread of its own.

use std::ops::ControlFlow;
use std::sync::Arc;

use s3t_engine::{AuditRequest, Observer, StageLabel};
use s3t_executor::Step;

use crate::app::App;
use crate::audits::{Audit, Outcome};
use crate::priority::{TRAINING, step_back};
use crate::refusal::{Kind, Refusal};

/// Starts an audit: refused while another goes on.
pub(crate) fn start(app: &Arc<App>, request: AuditRequest) -> Result<Audit, Refusal> {
    let audit = app.audits.begin()?;
    let id = audit.id.clone();
    let working = Arc::clone(app);
    let work = move || {
        step_back(TRAINING);
        let progress = Progress { app: &working, id: &id };
        let outcome = match working.service.audit(&request, &progress) {
            Ok(report) => Outcome::Done(Arc::new(report)),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        working.audits.set(&id, outcome);
    };
    let started = std::thread::Builder::new().name("s3t-audit".into()).spawn(work);
    if let Err(error) = started {
        app.audits.set(&audit.id, Outcome::Failed(error.to_string()));
        return Err(Refusal::new(Kind::Failed, format!("no thread for the audit: {error}")));
    }
    Ok(audit)
}

/// Counts stages, and stops when the server does.
struct Progress<'a> {
    app: &'a Arc<App>,
    id: &'a str,
}

impl Observer for Progress<'_> {
    fn step(&self, _: &StageLabel, _: Step) -> ControlFlow<()> {
        if self.app.life.is_stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn stage_finished(&self, _: &StageLabel) {
        if let Some(Audit { outcome: Outcome::Running(stages), .. }) = self.app.audits.get(self.id) {
            self.app.audits.set(self.id, Outcome::Running(stages + 1));
        }
    }
}
