//! The states of Slurm's jobs.

use s3t_cluster::{Ending, Task, TaskState};

/// The columns that `squeue` is asked for: the task, its state, the reason.
pub(crate) const FORMAT: &str = "%i|%T|%r";

/// The tasks in what `squeue` printed.
pub(crate) fn tasks(text: &str) -> Vec<Task> {
    text.lines().filter_map(task).collect()
}

fn task(line: &str) -> Option<Task> {
    let mut columns = line.trim().splitn(3, '|');
    let (name, state, reason) = (columns.next()?, columns.next()?, columns.next().unwrap_or_default());
    (!name.is_empty()).then(|| Task { name: name.to_owned(), state: of(state, reason) })
}

/// The meaning of a state.
fn of(state: &str, reason: &str) -> TaskState {
    let ended = |ending| {
        let reason = if ["", "None"].contains(&reason) { String::new() } else { format!(" ({reason})") };
        TaskState::Ended(ending, format!("{state}{reason}"))
    };
    match state {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => TaskState::Queued,
        // The machine was needed for others or failed, or the time was up.
        "PREEMPTED" | "NODE_FAIL" | "BOOT_FAIL" | "TIMEOUT" | "REVOKED" => ended(Ending::Again),
        // A worker that has joined may be done; one that has not is no worker.
        "FAILED" | "COMPLETED" => ended(Ending::Failed),
        // The next worker has no more memory; somebody does not want the job; the limit of the whole job is over.
        "OUT_OF_MEMORY" | "CANCELLED" | "DEADLINE" => ended(Ending::Final),
        // CONFIGURING, RUNNING, COMPLETING, SUSPENDED, STAGE_OUT, SIGNALING, STOPPED, and whatever a later Slurm calls a job that is there.
        _ => TaskState::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_taken_for_what_they_mean() {
        let text = "12_0|RUNNING|None\n12_1|PENDING|Resources\n12_2|PREEMPTED|None\n12_3|NODE_FAIL|NodeDown\n12_4|TIMEOUT|TimeLimit\n\
                    12_5|OUT_OF_MEMORY|OutOfMemory\n12_6|FAILED|NonZeroExitCode\n12_7|CANCELLED|None\n12_8|COMPLETING|None\n12_9|COMPLETED|None\n\n";
        let found: Vec<(String, TaskState)> = tasks(text).into_iter().map(|task| (task.name, task.state)).collect();
        let ended = |ending, words: &str| TaskState::Ended(ending, words.into());
        let expected = [
            ("12_0", TaskState::Running),
            ("12_1", TaskState::Queued),
            ("12_2", ended(Ending::Again, "PREEMPTED")),
            ("12_3", ended(Ending::Again, "NODE_FAIL (NodeDown)")),
            ("12_4", ended(Ending::Again, "TIMEOUT (TimeLimit)")),
            ("12_5", ended(Ending::Final, "OUT_OF_MEMORY (OutOfMemory)")),
            ("12_6", ended(Ending::Failed, "FAILED (NonZeroExitCode)")),
            ("12_7", ended(Ending::Final, "CANCELLED")),
            ("12_8", TaskState::Running),
            ("12_9", ended(Ending::Failed, "COMPLETED")),
        ];
        assert_eq!(found, expected.map(|(name, state)| (name.to_owned(), state)));
    }
}
