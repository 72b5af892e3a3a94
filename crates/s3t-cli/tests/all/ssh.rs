//! The executor `ssh` with a real sshd, which the tests start on this machine under several names. Where sshd is not installed, each test
//! says `SKIPPED, not passed`; with `S3T_NEEDS_SSHD` it fails.
mod engine;

use std::fs;

use crate::owner::{
    Subject, Training, contains, delete_while_a_worker_hangs, digest, in_process, send, stages, verify_here,
    wait_until, with_long_leases,
};
use crate::workspace::Workspace;
use engine::Sshd;
use rustix::process::Signal;

fn workspace(sshd: &Sshd, hosts: &[&str], more: &str) -> Workspace {
    crate::owner::workspace(Some(&sshd.executor(hosts, &[], more)))
}

fn start(workspace: &Workspace) -> Training<'_> {
    Training::start(workspace, &[])
}

#[test]
fn the_store_has_the_digest_of_one_process_with_1_2_and_4_workers_and_no_secret_is_an_argument() {
    let Some(sshd) = Sshd::start() else { return };
    for (hosts, per_host) in [(&["node1"][..], 1), (&["node1", "node2"][..], 1), (&["node1", "node2"][..], 2)] {
        let workspace = workspace(&sshd, hosts, &format!("workers_per_host = {per_host}"));
        let training = start(&workspace);
        training.wait_for("has joined");
        let clients = sshd.clients();
        assert!(!clients.is_empty() && clients.iter().all(|(_, line)| !contains(line, b"s3t-invitation-1.")));
        let said = training.end(0);
        let workers = hosts.len() * per_host;
        assert!(said.contains(&format!("ssh: {workers} of {workers} workers are asked for")), "{said}");
        assert!(said.contains("worker node1/1 on "), "{said}");
        assert_eq!(digest(&workspace), in_process(), "{workers} workers");
        wait_until("a worker is left", || sshd.workers().is_empty() && sshd.clients().is_empty());
    }
}

#[test]
fn ssh_obeys_the_laws_of_every_executor() {
    let Some(sshd) = Sshd::start() else { return };
    s3t_testkit::check_executor(&sshd.table(&["node1", "node2"]));
}

#[test]
fn failure_1_a_worker_and_a_session_that_are_killed_are_replaced() {
    let Some(sshd) = Sshd::start() else { return };
    let workspace = with_long_leases(workspace(&sshd, &["node1", "node2"], ""));
    let training = start(&workspace);
    let held = training.hold_one(&|| sshd.workers());
    send(training.joined_process(2, &|| sshd.workers()), Signal::KILL);
    training.wait_for("more workers are asked for");
    training.joined(3);
    // The worker goes on without its session, or its successor with another: nobody minds.
    send(sshd.clients()[0].0, Signal::KILL);
    send(held, Signal::CONT);
    let said = training.end(0);
    assert!(said.contains("has ended: ") && said.contains("is cut off"), "{said}");
    assert_eq!(digest(&workspace), in_process());
    wait_until("a worker is left", || sshd.workers().is_empty());
}

#[test]
fn failure_2_a_machine_that_cannot_be_reached_is_left_out_and_the_others_train() {
    let Some(sshd) = Sshd::start() else { return };
    let workspace = with_long_leases(workspace(&sshd, &["dead", "node1", "node2"], "workers = 2"));
    let training = start(&workspace);
    let held = training.hold_one(&|| sshd.workers());
    // There is room for another on a machine that answers.
    training.wait_for("has ended: its connection failed");
    training.joined(2);
    send(held, Signal::CONT);
    let said = training.end(0);
    assert!(said.matches("has joined").count() == 2, "{said}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_5_workers_end_with_an_owner_that_is_killed_and_the_same_command_goes_on() {
    let Some(sshd) = Sshd::start() else { return };
    let workspace = workspace(&sshd, &["node1", "node2"], "");
    let training = start(&workspace);
    // One that has not joined yet would try to for a minute.
    let held = training.hold_one(&|| sshd.workers());
    training.joined(2);
    training.wait_for_stages(1);
    drop(training);
    send(held, Signal::CONT);
    wait_until("a worker or a session outlives its owner", || sshd.workers().is_empty() && sshd.clients().is_empty());
    let before = stages(&workspace);
    start(&workspace).end(0);
    assert!(before > 0 && before < stages(&workspace), "{before}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_6_a_deletion_in_the_middle_is_erased_after_the_workers_word_and_leaves_nothing_behind() {
    let Some(sshd) = Sshd::start() else { return };
    let scratch = sshd.folder().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let folder = scratch.display();
    let executor =
        sshd.executor(&["node1", "node2"], &[&format!("cd {folder}"), &format!("export TMPDIR={folder}")], "");
    let workspace = crate::owner::workspace(Some(&executor));
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 400");
    let subject = Subject::of(&workspace);
    delete_while_a_worker_hangs(start(&workspace), &workspace, &|| sshd.workers(), &subject);
    verify_here(&workspace, &executor);
    // The logs of the server are there too.
    assert!(sshd.folder().join("sshd.log").is_file());
    assert_eq!(subject.traces(sshd.folder()), [""; 0]);
    assert!(fs::read_dir(&scratch).unwrap().next().is_none(), "a worker has written a file");
    fs::write(scratch.join("planted"), [b"xx", subject.id.as_bytes(), b"yy"].concat()).unwrap();
    assert_eq!(subject.traces(sshd.folder()).len(), 1);
}

#[test]
fn failure_8_a_worker_that_always_fails_is_named_with_the_end_of_what_it_said() {
    let Some(sshd) = Sshd::start() else { return };
    let hot = sshd.executor(&["node1"], &["echo the card is hot >&2", "exit 3"], "restarts = 1");
    let dead = sshd.executor(&["dead"], &[], "restarts = 1");
    for (executor, words, log) in [
        (hot, "exit status: 3; the end of its log: ", "the card is hot"),
        (dead, "its connection failed; the end of its log: ", "Connection refused"),
    ] {
        let said = start(&crate::owner::workspace(Some(&executor))).end(1);
        assert!(said.contains("2 workers ended before they joined"), "{said}");
        assert!(said.contains(words) && said.contains(log), "{said}");
    }
}
