//! Calling a command of Slurm, for a limited time.

use std::time::Duration;

use s3t_cluster::{ClusterError, EngineCommand};

const ENGINE: &str = "Slurm";

/// Words of a command whose controller is down. It says them itself after a while: the controller may answer later.
const DOWN: [&str; 4] =
    ["Unable to contact slurm controller", "Socket timed out", "Connection refused", "Zero Bytes were"];

/// The output of a command that succeeded.
pub(crate) fn call(
    name: &str,
    arguments: &[String],
    variable: Option<(&str, &str)>,
    input: &str,
    limit: Duration,
) -> Result<String, ClusterError> {
    match (EngineCommand { engine: ENGINE, name, arguments, variable, is_hidden, input, limit }).output() {
        Err(ClusterError::Engine { problem, .. }) if DOWN.iter().any(|words| problem.contains(words)) => {
            Err(ClusterError::NoAnswer { engine: ENGINE.into(), command: name.into(), limit })
        }
        output => output,
    }
}

/// Variables such as `SBATCH_ARRAY_INX` would change what is asked for, and those of a job that this program runs in its workers.
fn is_hidden(variable: &str) -> bool {
    let is_of_a_job = variable.starts_with("SLURM_") && variable != "SLURM_CONF";
    is_of_a_job || variable.starts_with("SBATCH_") || variable.starts_with("SQUEUE_")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_is_down_may_answer_later() {
        let sh = |script: &str| call("sh", &["-s".into()], None, script, Duration::from_secs(3600));
        let refused = sh("echo 'sh: error: no such partition' >&2; exit 1").unwrap_err();
        assert_eq!(refused.to_string(), "Slurm refused `sh`: no such partition");
        let down = sh("echo 'sh: error: Unable to contact slurm controller (connect failure)' >&2; exit 1");
        assert!(matches!(down, Err(ClusterError::NoAnswer { .. })));
    }
}
