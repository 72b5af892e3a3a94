//! `s3t worker`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use s3t::cluster::{ClusterError, INVITATION, Invitation, Registration};
use s3t::executor::WorkEnd;

use crate::exit::{FAILED, Failure, Outcome, REFUSED, exit_code};

/// Trains stages for the process at the other end of standard input and output, until it closes them.
#[allow(clippy::exit, reason = "a worker whose owner is gone ends in the middle of a step")]
pub(crate) fn work() -> Outcome {
    if std::io::stdin().is_terminal() {
        let problem = "`s3t worker` talks to a program, not to a person: the executor `processes` starts it, see `[executor]` in a \
                       pipeline file; `--connect` joins the owner of a store on another machine";
        return Err(Failure::new(REFUSED, problem));
    }
    s3t::train::work(std::io::stdin(), std::io::stdout(), || std::process::exit(0))?;
    Ok(0)
}

/// Trains stages for the owner of a store on another machine, until it is gone or the lease ends.
#[allow(
    clippy::exit,
    reason = "a worker ends with its owner or its lease, in the middle of a step: its memory goes with it"
)]
pub(crate) fn join(
    address: &str,
    invitation: Option<&Path>,
    registration: &Registration,
    patience: Duration,
) -> Outcome {
    let refuse = |problem: String| Failure::new(REFUSED, problem);
    let text = match invitation {
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            refuse(format!(
                "cannot read the invitation {}: {error}; give the file that the owner wrote",
                file.display()
            ))
        })?,
        None => std::env::var(INVITATION).map_err(|_| {
            refuse(format!("there is no invitation; give `--invitation FILE`, or set the variable {INVITATION}"))
        })?,
    };
    let invitation: Invitation = text.parse().map_err(|error: ClusterError| refuse(error.to_string()))?;
    let joined = s3t::cluster::join(address, &invitation, registration, patience).map_err(|error| {
        // The owner would refuse it again.
        let code = if matches!(error, ClusterError::Refused(_)) { REFUSED } else { FAILED };
        Failure::new(code, error.to_string())
    })?;
    tracing::info!(address, lease = joined.lease.length.as_secs_f64(), "joined");
    // Who lost its lease has not done its work: an engine that sees to the number of workers starts another.
    let closed = |end| std::process::exit(if end == WorkEnd::Owner { 0 } else { exit_code(FAILED).into() });
    s3t::train::work_under_lease(joined.reader, joined.writer, joined.lease, joined.objects, closed)?;
    Ok(0)
}
