//! The states of Ray's jobs.

use s3t_cluster::{Ending, Task, TaskState};
use serde::Deserialize;

/// A job in what Ray lists. Of its fields these are read; later versions may have others.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    /// The name that its submitter gave it; drivers that connected by themselves have no name.
    #[serde(default)]
    pub(crate) submission_id: Option<String>,
    status: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    driver_exit_code: Option<i64>,
}

impl Job {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), TaskState::Ended(..))
    }

    /// The job as a task of its name.
    pub(crate) fn task(&self) -> Option<Task> {
        Some(Task { name: self.submission_id.clone()?, state: self.state() })
    }

    /// The meaning of the state.
    fn state(&self) -> TaskState {
        match self.status.as_str() {
            "PENDING" => TaskState::Queued,
            // A worker that has joined may be done; one that has not is no worker.
            "SUCCEEDED" => TaskState::Ended(Ending::Failed, "SUCCEEDED".into()),
            // Somebody does not want the job.
            "STOPPED" => TaskState::Ended(Ending::Final, "STOPPED".into()),
            "FAILED" => {
                // The cluster had no room for it for a quarter of an hour; it may have some later.
                let had_no_room = self.error_type.as_deref() == Some("JOB_SUPERVISOR_ACTOR_START_TIMEOUT");
                let ending = if had_no_room { Ending::Again } else { Ending::Failed };
                TaskState::Ended(ending, self.words())
            }
            // RUNNING, and whatever a later Ray calls a job that is there.
            _ => TaskState::Running,
        }
    }

    /// The words about a job that has failed.
    fn words(&self) -> String {
        match (self.driver_exit_code, &self.message) {
            (Some(code), _) => format!("FAILED (exit code {code})"),
            (None, Some(message)) => {
                let line = message.lines().next().unwrap_or_default();
                format!("FAILED ({})", line.chars().take(300).collect::<String>())
            }
            (None, None) => "FAILED".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_taken_for_what_they_mean() {
        let ended = |ending, words: &str| TaskState::Ended(ending, words.into());
        for (job, expected) in [
            (r#"{"status": "PENDING"}"#, TaskState::Queued),
            (r#"{"status": "RUNNING", "type": "SUBMISSION", "entrypoint": "true"}"#, TaskState::Running),
            (r#"{"status": "SUCCEEDED", "driver_exit_code": 0}"#, ended(Ending::Failed, "SUCCEEDED")),
            (r#"{"status": "STOPPED", "message": "by the user"}"#, ended(Ending::Final, "STOPPED")),
            (
                r#"{"status": "FAILED", "driver_exit_code": 3, "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "message": "Job\nfailed"}"#,
                ended(Ending::Failed, "FAILED (exit code 3)"),
            ),
            (
                r#"{"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "its node died\nat"}"#,
                ended(Ending::Failed, "FAILED (its node died)"),
            ),
            (
                r#"{"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "message": null}"#,
                ended(Ending::Again, "FAILED"),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Job>(job).unwrap().state(), expected, "{job}");
        }
    }
}
