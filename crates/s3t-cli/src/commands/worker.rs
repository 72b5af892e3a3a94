//! `s3t worker`.

use std::io::IsTerminal;

use crate::exit::{Failure, Outcome, REFUSED};

/// Trains stages for the process at the other end of standard input and output, until it closes them.
#[allow(clippy::exit, reason = "a worker whose owner is gone ends in the middle of a step")]
pub(crate) fn work() -> Outcome {
    if std::io::stdin().is_terminal() {
        let problem = "`s3t worker` talks to a program, not to a person: the executor `processes` starts it, see `[executor]` in a \
                       pipeline file";
        return Err(Failure::new(REFUSED, problem));
    }
    s3t::train::work(std::io::stdin(), std::io::stdout(), || std::process::exit(0))?;
    Ok(0)
}
