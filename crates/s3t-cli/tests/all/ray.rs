//! The executor `ray` on a real Ray, which the tests start on this machine: what fails in a cluster, each failure for real. Where Ray is
//! not installed, each test says `SKIPPED, not passed`; with `S3T_NEEDS_RAY` it fails.
mod engine;

use std::fs;

use crate::owner::{
    Subject, Training, delete_while_a_worker_hangs, digest, files_with, in_process, send, stages, verify_here,
    wait_until, with_long_leases,
};
use crate::workspace::Workspace;
use engine::Ray;
use rustix::process::Signal;

fn workspace(ray: &Ray, workers: usize, more: &str) -> Workspace {
    crate::owner::workspace(Some(&ray.executor(workers, more)))
}

fn start(workspace: &Workspace) -> Training<'_> {
    Training::start(workspace, &[])
}

#[test]
fn the_store_has_the_digest_of_one_process_with_1_2_and_4_workers_and_no_secret_is_left() {
    let Some(ray) = Ray::start(4) else { return };
    for workers in [1, 2, 4] {
        let workspace = workspace(&ray, workers, "mem = \"10M\"\nsetup = [\"umask 077\"]");
        let training = start(&workspace);
        training.wait_for("has joined");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(ray.invitation()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let invitation = fs::read_to_string(ray.invitation()).unwrap();
        let said = training.end(0);
        assert!(said.contains(&format!("ray: {workers} of {workers} workers are asked for")), "{said}");
        assert_eq!(digest(&workspace), in_process(), "{workers} workers");
        // The workers end with their owner.
        wait_until("a worker is left", || ray.workers().is_empty());
        wait_until("a job is left", || ray.count("RUNNING") + ray.count("PENDING") == 0);
        assert!(!ray.invitation().exists(), "the invitation stays");
        let mut found = Vec::new();
        files_with(ray.folder(), invitation.trim().as_bytes(), &mut found);
        assert_eq!(found, [""; 0], "the invitation is in a file of Ray");
        // The search finds what is there: the command of a worker.
        files_with(ray.folder(), ray.invitation().display().to_string().as_bytes(), &mut found);
        assert!(!found.is_empty());
    }
}

#[test]
fn a_ray_that_asks_for_a_token_gets_it_and_refuses_whoever_has_none() {
    let token = tempfile::NamedTempFile::new().unwrap();
    let secret: String = std::iter::repeat_n("0123456789abcdef", 4).collect();
    fs::write(token.path(), &secret).unwrap();
    let Some(ray) = Ray::start_with(2, Some(token.path())) else { return };
    let without = workspace(&ray, 1, "");
    let said = start(&without).end(1);
    assert!(said.contains("Missing authentication token; give `token` the file with Ray's token"), "{said}");
    let with = workspace(&ray, 2, &format!("token = \"{}\"", token.path().display()));
    let said = start(&with).end(0);
    assert!(said.contains("has joined") && !said.contains(&secret), "{said}");
    assert_eq!(digest(&with), in_process());
}

#[test]
fn ray_obeys_the_laws_of_every_executor() {
    let Some(ray) = Ray::start(2) else { return };
    s3t_testkit::check_executor(&ray.table(2));
}

#[test]
fn failure_1_a_worker_that_is_killed_in_a_stage_is_replaced() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace = with_long_leases(workspace(&ray, 2, ""));
    let training = start(&workspace);
    let held = training.hold_one(&|| ray.workers());
    send(training.joined_process(2, &|| ray.workers()), Signal::KILL);
    training.wait_for("more workers are asked for");
    send(held, Signal::CONT);
    let said = training.end(0);
    assert!(said.contains("has ended: FAILED (exit code -9)") && said.contains("is cut off"), "{said}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_2_workers_of_a_node_that_is_lost_give_their_stages_to_others() {
    let Some(ray) = Ray::start(1) else { return };
    ray.node("node2", 1);
    let workspace = with_long_leases(workspace(&ray, 2, ""));
    let training = start(&workspace);
    let held = training.hold_one(&|| ray.workers());
    training.joined(2);
    assert!(ray.signal("--node-name=node2", Signal::KILL) > 0, "the node has no raylet");
    // Ray ends what the node ran; there is room for one worker only, which goes on.
    training.wait_for("is cut off");
    send(held, Signal::CONT);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    wait_until("a job is left", || ray.count("RUNNING") + ray.count("PENDING") == 0);
}

#[test]
fn failure_4_a_dashboard_that_does_not_answer_gets_no_second_submission() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace = with_long_leases(workspace(&ray, 2, "call_seconds = 3"));
    workspace.edit("pipeline.toml", "call_seconds = 20.0\n", "");
    let training = start(&workspace);
    let held = training.hold_one(&|| ray.workers());
    training.wait_for_stages(1);
    assert!(ray.signal("dashboard/dashboard.py", Signal::STOP) > 0);
    // It hangs while stages are trained, and nobody minds; a worker that is lost meanwhile is replaced later, once.
    send(held, Signal::KILL);
    let count = stages(&workspace);
    training.wait_for_stages(count + 1);
    ray.signal("dashboard/dashboard.py", Signal::CONT);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    wait_until("a job is left", || ray.count("RUNNING") + ray.count("PENDING") == 0);
    assert!(ray.jobs().len() <= 3, "{:?}", ray.jobs());
}

#[test]
fn failure_5_workers_end_with_an_owner_that_is_killed_and_the_same_command_goes_on() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace = workspace(&ray, 2, "");
    let training = start(&workspace);
    training.wait_for_stages(1);
    drop(training);
    wait_until("a worker outlives its owner", || ray.workers().is_empty());
    let before = stages(&workspace);
    // The invitation of the launch that was killed is replaced.
    assert!(ray.invitation().exists());
    start(&workspace).end(0);
    assert!(before > 0 && before < stages(&workspace), "{before}");
    assert_eq!(digest(&workspace), in_process());
}

#[test]
fn failure_6_a_deletion_in_the_middle_is_erased_after_the_workers_word_and_leaves_nothing_in_rays_session() {
    let Some(ray) = Ray::start(2) else { return };
    let scratch = ray.folder().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let setup = format!("setup = [\"cd {0}\", \"export TMPDIR={0}\"]", scratch.display());
    let workspace = workspace(&ray, 2, &setup);
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 400");
    let subject = Subject::of(&workspace);
    delete_while_a_worker_hangs(start(&workspace), &workspace, &|| ray.workers(), &subject);
    verify_here(&workspace, &ray.executor(2, &setup));
    // The session of Ray, with the logs of the jobs, is in the folder too.
    assert!(ray.folder().join("session").is_dir());
    assert_eq!(subject.traces(ray.folder()), [""; 0]);
    assert!(fs::read_dir(&scratch).unwrap().next().is_none(), "a worker has written a file");
    // The search finds what is there.
    fs::write(scratch.join("planted"), [b"xx", subject.id.as_bytes(), b"yy"].concat()).unwrap();
    assert_eq!(subject.traces(ray.folder()).len(), 1);
}

#[test]
fn failure_7_workers_for_which_there_is_no_room_wait_and_are_stopped_at_the_end() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace = workspace(&ray, 5, "");
    let training = start(&workspace);
    training.wait_for_stages(1);
    assert!(ray.workers().len() <= 2);
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    wait_until("a job is left", || ray.count("RUNNING") + ray.count("PENDING") == 0);
    assert_eq!(ray.jobs().len(), 5, "{:?}", ray.jobs());
}

#[test]
fn failure_8_a_worker_that_always_fails_is_named_with_the_end_of_its_log() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace =
        workspace(&ray, 1, "restarts = 1\nsetup = [\"echo the card has $((40 + 50)) degrees >&2\", \"exit 3\"]");
    let said = start(&workspace).end(1);
    assert!(said.contains("2 workers ended before they joined"), "{said}");
    assert!(
        said.contains("FAILED (exit code 3); the end of its log: ") && said.contains("the card has 90 degrees"),
        "{said}"
    );
}

#[test]
fn failure_9_a_job_that_somebody_stops_is_not_replaced() {
    let Some(ray) = Ray::start(2) else { return };
    let workspace = workspace(&ray, 1, "");
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 3000");
    let training = start(&workspace);
    training.wait_for("has joined");
    let job = ray.jobs()[0].split_once(' ').unwrap().1.to_owned();
    ray.stop_job(&job);
    let said = training.end(1);
    assert!(said.contains("no worker is left") && said.contains("STOPPED"), "{said}");
    assert_eq!(ray.jobs().len(), 1, "{:?}", ray.jobs());
}
