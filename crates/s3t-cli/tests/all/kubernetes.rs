//! The executor `kubernetes` with a stand-in for `kubectl` and the cluster, because there is none: `kubernetes/fake_kubectl.py` runs Pods as
//! processes of this machine. So these tests show the executor's side; that Kubernetes would take the manifest, the published schemas show
//! (`plugins/s3t-kubernetes`).
mod engine;

use std::fs;

use crate::owner::{
    Subject, Training, delete_while_a_worker_hangs, digest, in_process, send, stages, verify_here, wait_until,
    with_long_leases,
};
use crate::workspace::Workspace;
use engine::FakeCluster;
use rustix::process::Signal;
use serde_json::{Value, json};

fn workspace(cluster: &FakeCluster, workers: usize, fields: Value) -> Workspace {
    crate::owner::workspace(Some(&cluster.executor(workers, fields)))
}

fn start<'a>(cluster: &FakeCluster, workspace: &'a Workspace) -> Training<'a> {
    let variables = cluster.variables();
    Training::start(workspace, &variables.each_ref().map(|(name, value)| (*name, value.as_os_str())))
}

#[test]
fn the_store_has_the_digest_of_one_process_with_1_2_and_4_workers_and_nothing_is_left() {
    for workers in [1, 2, 4] {
        let cluster = FakeCluster::new();
        let workspace = workspace(&cluster, workers, json!({"namespace": "training", "mem": "1G"}));
        let said = start(&cluster, &workspace).end(0);
        assert!(said.contains(&format!("kubernetes: {workers} of {workers} workers are asked for")), "{said}");
        assert_eq!(digest(&workspace), in_process(), "{workers} workers");
        for kind in ["Job", "Secret", "Pod"] {
            assert_eq!(cluster.objects(kind), [""; 0], "{kind}");
        }
        assert!(cluster.calls().lines().all(|call| call.contains("--namespace=training")), "{}", cluster.calls());
        assert!(!cluster.calls().contains("s3t-invitation-1."), "the invitation is an argument");
        wait_until("a worker is left", || cluster.workers().is_empty());
    }
}

#[test]
fn a_manifest_that_the_user_applies_is_private_and_goes_with_the_training() {
    let cluster = FakeCluster::new();
    let workspace = workspace(&cluster, 2, json!({"apply": false}));
    let training = start(&cluster, &workspace);
    training.wait_for("kubectl apply -f ");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(cluster.manifest()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The command that it says.
    let said = training.said();
    let file = said.split("kubectl apply -f '").nth(1).unwrap().split('\'').next().unwrap();
    cluster.ask(&["apply", "-f", file]);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    assert!(!cluster.manifest().exists(), "the manifest stays");
    let label = said.split("jobs,secrets -l ").nth(1).unwrap().split('`').next().unwrap();
    cluster.ask(&["delete", "jobs,secrets", "-l", label]);
    assert!(cluster.objects("Job").is_empty() && cluster.objects("Secret").is_empty());
}

/// The variable with the table of the executor that this program is to hold to the laws.
const TABLE: &str = "S3T_TEST_EXECUTOR";

#[test]
fn kubernetes_obeys_the_laws_of_every_executor() {
    if let Ok(table) = std::env::var(TABLE) {
        return s3t_testkit::check_executor(&serde_json::from_str(&table).unwrap());
    }
    let cluster = FakeCluster::new();
    // `kubectl` is found on the search path, which a program sets before it starts.
    let laws = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kubernetes_obeys_the_laws_of_every_executor"])
        .env(TABLE, cluster.table(2).to_string())
        .envs(cluster.variables())
        .output()
        .unwrap();
    let words = [&laws.stdout[..], &laws.stderr].concat();
    assert!(laws.status.success(), "{}", String::from_utf8_lossy(&words));
}

#[test]
fn failure_1_pods_that_are_killed_or_evicted_are_replaced_by_the_job() {
    let cluster = FakeCluster::new();
    let workspace = with_long_leases(workspace(&cluster, 2, json!({})));
    let training = start(&cluster, &workspace);
    let held = training.hold_one(&|| cluster.workers());
    send(training.joined_process(2, &|| cluster.workers()), Signal::KILL);
    training.wait_for("has ended: Failed (Error, exit code 137)");
    training.joined(3);
    wait_until("there is no second Pod", || cluster.workers().len() == 2);
    let pod = cluster
        .objects("Pod")
        .into_iter()
        .find(|pod| !fs::exists(cluster.folder().join("logs").join(format!("{pod}.end"))).unwrap());
    cluster.ask(&["fake", "evict", &pod.unwrap()]);
    send(held, Signal::CONT);
    let said = training.end(0);
    assert!(said.contains("is cut off"), "{said}");
    assert_eq!(digest(&workspace), in_process());
    // The Job makes its Pods itself.
    assert_eq!(cluster.calls().matches("apply ").count(), 1, "{}", cluster.calls());
}

#[test]
fn failure_4_a_cluster_that_does_not_answer_gets_no_second_job() {
    let cluster = FakeCluster::new();
    let workspace = with_long_leases(workspace(&cluster, 2, json!({"call_seconds": 3.0})));
    // It makes the Job, and hangs before it says so.
    cluster.hangs("apply");
    let training = start(&cluster, &workspace);
    training.wait_for("with no answer yet");
    let held = training.hold_one(&|| cluster.workers());
    // It says nothing while stages are trained, and nobody minds.
    cluster.hangs("apply get logs");
    let count = stages(&workspace);
    send(held, Signal::CONT);
    training.wait_for_stages(count + 1);
    cluster.hangs("");
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    assert_eq!(cluster.calls().matches("apply ").count(), 1, "{}", cluster.calls());
}

#[test]
fn failure_5_workers_end_with_an_owner_that_is_killed_and_the_same_command_goes_on() {
    let cluster = FakeCluster::new();
    let workspace = workspace(&cluster, 2, json!({}));
    let training = start(&cluster, &workspace);
    training.wait_for_stages(1);
    drop(training);
    wait_until("a worker outlives its owner", || cluster.workers().is_empty());
    let before = stages(&workspace);
    start(&cluster, &workspace).end(0);
    assert!(before > 0 && before < stages(&workspace), "{before}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_6_a_deletion_in_the_middle_is_erased_after_the_workers_word_and_leaves_nothing_in_logs_and_objects() {
    let cluster = FakeCluster::new();
    let executor = cluster.executor(2, json!({}));
    let workspace = crate::owner::workspace(Some(&executor));
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 400");
    let subject = Subject::of(&workspace);
    delete_while_a_worker_hangs(start(&cluster, &workspace), &workspace, &|| cluster.workers(), &subject);
    verify_here(&workspace, &executor);
    assert_eq!(subject.traces(cluster.root()), [""; 0]);
    fs::write(cluster.folder().join("planted"), [b"xx", subject.id.as_bytes(), b"yy"].concat()).unwrap();
    assert_eq!(subject.traces(cluster.root()).len(), 1);
}

#[test]
fn failure_8_a_pod_that_always_fails_is_named_with_the_end_of_its_log() {
    let cluster = FakeCluster::new();
    let hot = cluster.root().join("hot");
    fs::write(&hot, "#!/bin/sh\necho the card is hot\nexit 3\n").unwrap();
    fs::set_permissions(&hot, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let workspace = workspace(&cluster, 1, json!({"program": hot, "restarts": 1}));
    let said = start(&cluster, &workspace).end(1);
    assert!(said.contains("2 workers ended before they joined"), "{said}");
    assert!(said.contains("Failed (Error, exit code 3); the end of its log: the card is hot"), "{said}");
}

#[test]
fn failure_9_a_job_that_somebody_deletes_or_that_would_always_be_refused_is_not_replaced() {
    let cluster = FakeCluster::new();
    let workspace = workspace(&cluster, 1, json!({}));
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 3000");
    let training = start(&cluster, &workspace);
    training.wait_for("has joined");
    cluster.ask(&["delete", "jobs,secrets", "-l", "app.kubernetes.io/name=s3t"]);
    let said = training.end(1);
    assert!(said.contains("no worker is left") && said.contains("the Job is gone; somebody has deleted it"), "{said}");
    assert_eq!(cluster.calls().matches("apply ").count(), 1, "{}", cluster.calls());
}

#[test]
fn what_kubectl_refuses_is_told_in_its_own_words() {
    let cluster = FakeCluster::new();
    let workspace = workspace(&cluster, 1, json!({"context": "nowhere"}));
    let said = start(&cluster, &workspace).end(1);
    let words = "executor `kubernetes` cannot be started: Kubernetes refused `kubectl`: error: context \"nowhere\" does not exist";
    assert!(said.contains(words), "{said}");
}
