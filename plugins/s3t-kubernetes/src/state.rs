//! The answer of `kubectl get jobs,pods --output=json`, and its meaning. Of its fields these are read; others are left alone.

use std::collections::BTreeMap;

use s3t_cluster::{Ending, Task, TaskState};
use serde::Deserialize;

use crate::manifest::JOB;

#[derive(Debug, Deserialize)]
pub(crate) struct List {
    pub(crate) items: Vec<Item>,
}

/// A Job or a Pod.
#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) kind: String,
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Spec {
    #[serde(default)]
    pub(crate) completions: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    succeeded: usize,
    conditions: Vec<Condition>,
    container_statuses: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    exit_code: i64,
}

/// Reasons for which a container that waits will wait for ever.
const NEVER: [&str; 5] =
    ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"];

/// Reasons of a Pod's end that are not the worker's.
const NOT_THE_WORKER: [&str; 5] = ["Evicted", "Preempting", "NodeShutdown", "Shutdown", "NodeLost"];

impl Item {
    fn condition(&self, name: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == name && condition.status == "True")
    }

    /// Returns `true` if this Job makes no Pods any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.condition("Failed").is_some() || self.condition("Complete").is_some()
    }

    /// The state of a Pod.
    fn pod(&self) -> TaskState {
        let Status { phase, reason, container_statuses, .. } = &self.status;
        let states = || container_statuses.iter().map(|container| &container.state);
        match phase.as_str() {
            "Succeeded" => TaskState::Ended(Ending::Failed, "Succeeded".into()),
            "Failed" => {
                let terminated = states().find_map(|state| state.terminated.as_ref());
                let is_disrupted =
                    self.condition("DisruptionTarget").is_some() || NOT_THE_WORKER.contains(&reason.as_str());
                let ending = match terminated {
                    _ if is_disrupted => Ending::Again,
                    // The next worker has no more memory; the program refuses whatever is tried again.
                    Some(Terminated { reason, exit_code }) if reason == "OOMKilled" || *exit_code == 2 => Ending::Final,
                    _ => Ending::Failed,
                };
                let words = match (terminated, reason.as_str()) {
                    (Some(end), "") => format!("Failed ({}, exit code {})", end.reason, end.exit_code),
                    (_, "") => "Failed".to_owned(),
                    (_, reason) => format!("Failed ({reason})"),
                };
                TaskState::Ended(ending, words)
            }
            "Running" => TaskState::Running,
            _ => {
                let waiting = states().find_map(|state| state.waiting.as_ref());
                let never = waiting.filter(|waiting| NEVER.contains(&waiting.reason.as_str()));
                never.map_or(TaskState::Queued, |Waiting { reason, message }| {
                    TaskState::Ended(Ending::Final, format!("{reason}: {message}"))
                })
            }
        }
    }
}

/// The tasks of a submission: its Pods, and the Pods that its Job will make.
pub(crate) fn tasks(name: &str, job: &Item, list: &List) -> Vec<Task> {
    let is_ours = |item: &&Item| item.kind == "Pod" && item.metadata.labels.get(JOB).is_some_and(|of| of == name);
    let pods = list.items.iter().filter(is_ours);
    let mut tasks: Vec<Task> = pods.map(|pod| Task { name: pod.metadata.name.clone(), state: pod.pod() }).collect();
    if let Some(Condition { reason, message, .. }) = job.condition("Failed") {
        // Its Pods count as failures. A Job that is ended for another reason is not wanted.
        let counts = reason == "BackoffLimitExceeded";
        let ending = if counts { Ending::Again } else { Ending::Final };
        let state = TaskState::Ended(ending, format!("the Job has failed ({reason}: {message})"));
        tasks.push(Task { name: name.to_owned(), state });
    } else if !job.has_ended() {
        // A Pod that waits for ever stands for one that is made.
        let made =
            tasks.iter().filter(|task| !matches!(&task.state, TaskState::Ended(_, words) if is_over(words))).count();
        let missing = job.spec.completions.saturating_sub(job.status.succeeded + made);
        let coming =
            (0..missing).map(|number| Task { name: format!("{name}-coming-{number}"), state: TaskState::Queued });
        tasks.extend(coming);
    }
    tasks
}

/// Returns `true` for the words about a Pod that is over, and not about one that waits for ever.
fn is_over(words: &str) -> bool {
    words.starts_with("Failed") || words.starts_with("Succeeded")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: &Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": name, "labels": {JOB: "a-0"}}, "spec": {"nodeName": "n"}, "status": status})
    }

    fn states(job_status: &Value, pods: &[Value]) -> Vec<(String, TaskState)> {
        let job = json!({"kind": "Job", "metadata": {"name": "a-0"}, "spec": {"completions": 3}, "status": job_status});
        let job: Item = serde_json::from_value(job).unwrap();
        let list: List = serde_json::from_value(json!({"kind": "List", "items": pods})).unwrap();
        tasks("a-0", &job, &list).into_iter().map(|task| (task.name, task.state)).collect()
    }

    fn ended(ending: Ending, words: &str) -> TaskState {
        TaskState::Ended(ending, words.into())
    }

    #[test]
    fn pods_are_taken_for_what_they_mean() {
        let terminated =
            |reason: &str, code: i64| json!([{"state": {"terminated": {"reason": reason, "exitCode": code}}}]);
        for (status, expected) in [
            (json!({"phase": "Pending"}), TaskState::Queued),
            (json!({"phase": "Running"}), TaskState::Running),
            (json!({"phase": "Succeeded"}), ended(Ending::Failed, "Succeeded")),
            (
                json!({"phase": "Failed", "containerStatuses": terminated("Error", 1)}),
                ended(Ending::Failed, "Failed (Error, exit code 1)"),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": terminated("OOMKilled", 137)}),
                ended(Ending::Final, "Failed (OOMKilled, exit code 137)"),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": terminated("Error", 2)}),
                ended(Ending::Final, "Failed (Error, exit code 2)"),
            ),
            (json!({"phase": "Failed", "reason": "Evicted"}), ended(Ending::Again, "Failed (Evicted)")),
            (
                json!({"phase": "Failed", "containerStatuses": terminated("Error", 137),
                    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}),
                ended(Ending::Again, "Failed (Error, exit code 137)"),
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image x"}}}]}),
                ended(Ending::Final, "ImagePullBackOff: no image x"),
            ),
        ] {
            assert_eq!(states(&json!({}), &[pod("a-0-0-x", &status)])[0].1, expected);
        }
    }

    #[test]
    fn a_job_that_goes_on_will_make_the_pods_that_are_missing() {
        let failed = || pod("a-0-0-x", &json!({"phase": "Failed", "reason": "Evicted"}));
        let running = || pod("a-0-1-y", &json!({"phase": "Running"}));
        let waiting = pod(
            "a-0-2-z",
            &json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "InvalidImageName"}}}]}),
        );
        let names = |states: Vec<(String, TaskState)>| states.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let living = names(states(&json!({"succeeded": 1}), &[failed(), running()]));
        assert_eq!(living, ["a-0-0-x", "a-0-1-y", "a-0-coming-0"]);
        assert_eq!(names(states(&json!({}), &[running(), waiting])), ["a-0-1-y", "a-0-2-z", "a-0-coming-0"]);
        let condition = |name: &str, reason: &str| json!({"conditions": [{"type": name, "status": "True", "reason": reason, "message": "m"}]});
        let over = states(&condition("Failed", "BackoffLimitExceeded"), &[failed()]);
        assert_eq!(over[1].1, ended(Ending::Again, "the Job has failed (BackoffLimitExceeded: m)"));
        let refused = states(&condition("Failed", "PodFailurePolicy"), &[]);
        assert_eq!(refused[0].1, ended(Ending::Final, "the Job has failed (PodFailurePolicy: m)"));
        assert_eq!(names(states(&condition("Complete", ""), &[failed()])), ["a-0-0-x"]);
    }
}
