//! The executor `slurm` on a real Slurm, which the tests start on this machine: what fails in a cluster, each failure for real. Where
//! Slurm is not installed, each test says `SKIPPED, not passed`; with `S3T_NEEDS_SLURM` it fails.
mod engine;

use std::fs;

use crate::owner::{
    Subject, Training, delete_while_a_worker_hangs, digest, files_with, in_process, send, stages, verify_here,
    wait_until, with_long_leases,
};
use crate::workspace::Workspace;
use engine::Slurm;
use rustix::process::Signal;

fn workspace(slurm: &Slurm, workers: usize, more: &str) -> Workspace {
    crate::owner::workspace(Some(&slurm.executor(workers, more)))
}

fn start<'a>(slurm: &Slurm, workspace: &'a Workspace) -> Training<'a> {
    Training::start(workspace, &[("SLURM_CONF", slurm.conf().as_os_str())])
}

#[test]
fn the_store_has_the_digest_of_one_process_with_1_2_and_4_workers() {
    for (nodes, workers) in [(2, 1), (2, 2), (4, 4)] {
        let Some(slurm) = Slurm::start(nodes) else { return };
        let workspace = workspace(&slurm, workers, "mem = \"100M\"\ntime = \"00:10:00\"\nsetup = [\"umask 077\"]");
        let said = start(&slurm, &workspace).end(0);
        assert!(said.contains(&format!("slurm: {workers} of {workers} workers are asked for")), "{said}");
        assert_eq!(digest(&workspace), in_process(), "{workers} workers");
        // The workers end with their owner, and their logs are where submitit's users look.
        wait_until("a worker is left", || slurm.workers().is_empty() && slurm.count("RUNNING") == 0);
        assert!(slurm.logs().join("1_0_0_log.out").exists() && slurm.logs().join("1_0_0_log.err").exists());
    }
}

/// The variable with the table of the executor that this program is to hold to the laws.
const TABLE: &str = "S3T_TEST_EXECUTOR";

#[test]
fn slurm_obeys_the_laws_of_every_executor() {
    if let Ok(table) = std::env::var(TABLE) {
        return s3t_testkit::check_executor(&serde_json::from_str(&table).unwrap());
    }
    let Some(slurm) = Slurm::start(2) else { return };
    let table = serde_json::json!({
        "type": "slurm", "workers": 2, "program": env!("CARGO_BIN_EXE_s3t"), "logs": slurm.logs(), "listen": "127.0.0.1:0",
    });
    // Slurm's commands take the cluster from the environment, which a program sets before it starts.
    let laws = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "slurm_obeys_the_laws_of_every_executor"])
        .env(TABLE, table.to_string())
        .env("SLURM_CONF", slurm.conf())
        .output()
        .unwrap();
    assert!(
        laws.status.success(),
        "{}{}",
        String::from_utf8_lossy(&laws.stdout),
        String::from_utf8_lossy(&laws.stderr)
    );
}

#[test]
fn failure_1_a_worker_that_is_killed_in_a_stage_is_replaced() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = with_long_leases(workspace(&slurm, 2, ""));
    let training = start(&slurm, &workspace);
    let held = training.hold_one(&|| slurm.workers());
    send(training.joined_process(2, &|| slurm.workers()), Signal::KILL);
    training.wait_for("more workers are asked for");
    send(held, Signal::CONT);
    let said = training.end(0);
    assert!(said.contains("has ended: FAILED") && said.contains("is cut off"), "{said}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_2_slurmd_is_killed_and_a_second_attempt_takes_the_stage_of_the_first_which_comes_too_late() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = workspace(&slurm, 1, "");
    let training = start(&slurm, &workspace);
    training.wait_for_stages(1);
    // The first attempt hangs in a stage, and the daemon of its node is gone.
    let first = training.hold_one(&|| slurm.workers());
    slurm.signal("node1", Signal::KILL);
    // The controller finds the node down and queues the task again; it may start at once on the other node.
    wait_until("there is no second attempt", || {
        slurm.ask("scontrol", &["update", "jobid=1_0", "starttime=now"]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        slurm.workers().len() == 2
    });
    training.joined(2);
    let count = stages(&workspace);
    training.wait_for_stages(count + 1);
    send(first, Signal::CONT);
    wait_until("the first attempt goes on after its lease", || !slurm.workers().contains(&first));
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_3_a_task_that_is_queued_again_gives_its_stage_to_another() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = with_long_leases(workspace(&slurm, 2, ""));
    let training = start(&slurm, &workspace);
    let held = training.hold_one(&|| slurm.workers());
    slurm.ask("scontrol", &["requeue", &training.joined(2)]);
    training.wait_for("is cut off");
    send(held, Signal::CONT);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_4_a_controller_that_does_not_answer_gets_no_second_submission() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = with_long_leases(workspace(&slurm, 2, ""));
    slurm.signal("slurmctld", Signal::STOP);
    let training = start(&slurm, &workspace);
    // `sbatch` is given up; the controller has its request all the same.
    training.wait_for("with no answer yet");
    slurm.signal("slurmctld", Signal::CONT);
    let held = training.hold_one(&|| slurm.workers());
    assert_eq!(slurm.tasks().len(), 2, "{:?}", slurm.tasks());
    // It is down while stages are trained, and nobody minds.
    slurm.signal("slurmctld", Signal::KILL);
    let count = stages(&workspace);
    send(held, Signal::CONT);
    training.wait_for_stages(count + 1);
    slurm.script("controller", &[]);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    wait_until("a task is left", || slurm.count("RUNNING") + slurm.count("PENDING") == 0);
    assert!(slurm.tasks().len() <= 2, "{:?}", slurm.tasks());
}

#[test]
fn failure_5_workers_end_with_an_owner_that_is_killed_and_the_same_command_goes_on() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = workspace(&slurm, 2, "");
    let training = start(&slurm, &workspace);
    training.wait_for_stages(1);
    // The second may wait in the queue still.
    training.wait_for("has joined");
    drop(training);
    wait_until("a worker outlives its owner", || slurm.workers().is_empty());
    let before = stages(&workspace);
    start(&slurm, &workspace).end(0);
    assert!(before > 0 && before < stages(&workspace), "{before}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_6_a_deletion_in_the_middle_is_erased_after_the_workers_word_and_leaves_nothing_in_spool_logs_and_scratch() {
    let Some(slurm) = Slurm::start(2) else { return };
    let scratch = slurm.folder().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let setup = format!("setup = [\"cd {0}\", \"export TMPDIR={0}\"]", scratch.display());
    let workspace = workspace(&slurm, 2, &setup);
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 400");
    let subject = Subject::of(&workspace);
    delete_while_a_worker_hangs(start(&slurm, &workspace), &workspace, &|| slurm.workers(), &subject);
    verify_here(&workspace, &slurm.executor(2, &setup));
    assert_eq!(subject.traces(slurm.folder()), [""; 0]);
    assert!(fs::read_dir(&scratch).unwrap().next().is_none(), "a worker has written a file");
    // The search finds what is there.
    fs::write(scratch.join("planted"), [b"xx", subject.id.as_bytes(), b"yy"].concat()).unwrap();
    let mut found = Vec::new();
    files_with(slurm.folder(), subject.id.as_bytes(), &mut found);
    assert_eq!(found.len(), 1);
}

#[test]
fn failure_7_limits_of_arrays_give_fewer_workers() {
    let Some(slurm) = Slurm::start(2) else { return };
    // MaxArraySize is 8.
    let workspace = workspace(&slurm, 12, "max_running = 4");
    let said = start(&slurm, &workspace).end(0);
    assert!(said.contains("slurm: 6 of 12 workers are asked for"), "{said}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_8_a_worker_that_always_fails_is_named_with_the_end_of_its_log() {
    let Some(slurm) = Slurm::start(2) else { return };
    let hot = workspace(&slurm, 1, "restarts = 1\nsetup = [\"echo the card is hot >&2\", \"exit 3\"]");
    let said = start(&slurm, &hot).end(1);
    assert!(said.contains("2 workers ended before they joined"), "{said}");
    assert!(said.contains("FAILED (NonZeroExitCode); the end of its log: the card is hot"), "{said}");
    // A line of the setup that fails is named, and no worker goes on without it.
    let workspace = workspace(&slurm, 1, "restarts = 0\nsetup = [\"umask 077\", \"module load s3t-no-such-module\"]");
    let said = start(&slurm, &workspace).end(1);
    assert!(said.contains("s3t: line 2 of `setup` failed: module load s3t-no-such-module"), "{said}");
}

#[test]
fn failure_9_a_task_that_somebody_cancels_is_not_replaced() {
    let Some(slurm) = Slurm::start(2) else { return };
    let workspace = workspace(&slurm, 1, "");
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 3000");
    let training = start(&slurm, &workspace);
    training.wait_for("has joined");
    slurm.ask("scancel", &["1"]);
    let said = training.end(1);
    assert!(said.contains("no worker is left") && said.contains("CANCELLED"), "{said}");
    assert_eq!(slurm.tasks().len(), 1, "{:?}", slurm.tasks());
}

#[test]
fn what_slurm_refuses_is_told_in_its_own_words() {
    let Some(slurm) = Slurm::start(2) else { return };
    for (more, words) in [
        ("partition = \"nowhere\"", "invalid partition specified: nowhere"),
        ("mem = \"500G\"", "Memory specification can not be satisfied"),
        ("arguments = [\"--no-such-option\"]", "unrecognized option '--no-such-option'"),
    ] {
        let workspace = workspace(&slurm, 1, more);
        let said = start(&slurm, &workspace).end(1);
        assert!(
            said.contains("executor `slurm` cannot be started: Slurm refused `sbatch`") && said.contains(words),
            "{said}"
        );
    }
}
