//! Object storage between the owner and its workers: a folder always, and an S3 server that the tests start where one can be had. Where it
//! cannot, these tests say `SKIPPED, not passed`; with `S3T_NEEDS_S3` they fail.
mod server;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::by_hand::ByHand;
use crate::owner::{Subject, Training, digest, in_process, stages, wait_until};
use crate::workspace::Workspace;
use s3t::prelude::*;
use s3t::store::{DeletionRequest, Place, Store};
use server::S3;

/// A workspace whose workers are started by hand, with everything as objects.
fn with(workers: &ByHand, objects: &str) -> Workspace {
    crate::owner::workspace(Some(&format!("{}\n{objects}\n\n", workers.lines().trim_end())))
}

fn in_folder(folder: &Path) -> String {
    format!("objects = {{ url = \"file://{}\", min_kilobytes = 0 }}", folder.display())
}

/// Every object below a folder, with its bytes.
fn objects(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(objects(&entry.path()));
        } else if let Ok(bytes) = fs::read(entry.path()) {
            found.push((entry.path().display().to_string(), bytes));
        }
    }
    found.retain(|(path, _)| !path.ends_with("/launch"));
    found
}

#[test]
fn a_store_has_the_digest_of_one_process_and_nothing_is_left_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let workers = ByHand::start(2);
    let workspace = with(&workers, &in_folder(folder.path()));
    let subject = Subject::of(&workspace);
    let training = Training::start(&workspace, &[]);
    let mut seen = 0;
    while stages(&workspace) < 3 {
        seen = seen.max(objects(folder.path()).len());
        assert_eq!(subject.traces(folder.path()), [""; 0]);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    training.end(0);
    assert!(seen > 0, "no object was seen");
    assert_eq!(digest(&workspace), in_process());
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn a_deletion_in_the_middle_takes_its_objects_along_before_it_is_called_erased() {
    let folder = tempfile::tempdir().unwrap();
    let workers = ByHand::start(1);
    let workspace = with(&workers, &in_folder(folder.path()));
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 400");
    let subject = Subject::of(&workspace);
    let training = Training::start(&workspace, &[]);
    training.wait_for_stages(1);
    wait_until("few objects are left", || objects(folder.path()).len() > 1);
    let store = Store::open(&Place::new(workspace.path("store"))).unwrap();
    let subjects = vec![SubjectId::new(&subject.name).unwrap()];
    let before: Vec<String> = objects(folder.path()).into_iter().map(|(name, _)| name).collect();
    store.accept(&DeletionRequest { subjects, ..DeletionRequest::default() }).unwrap();
    // Whatever was there then is gone when the deletion is erased, but the result of another stage that was being left; what is put later
    // is of others.
    wait_until("the erasure is never finished", || store.erase().is_ok());
    assert!(store.snapshot().unwrap().unerased().is_empty());
    let still = objects(folder.path()).into_iter().filter(|(name, _)| before.contains(name)).count();
    assert!(still <= 1 && before.len() > 1, "{still} of {} are there although the deletion is erased", before.len());
    assert_eq!(subject.traces(folder.path()), [""; 0]);
    training.end(0);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    // The search finds what is there.
    fs::write(folder.path().join("planted"), [b"xx", subject.id.as_bytes(), b"yy"].concat()).unwrap();
    assert_eq!(subject.traces(folder.path()).len(), 1);
}

#[test]
fn a_deletion_is_not_called_erased_while_the_storage_is_away() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, away) = (parent.path().join("objects"), parent.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let workers = ByHand::start(1);
    let workspace = with(&workers, &in_folder(&folder));
    workspace.edit("pipeline.toml", "epochs = 100", "epochs = 4000");
    let subject = Subject::of(&workspace);
    let training = Training::start(&workspace, &[]);
    training.wait_for_stages(1);
    wait_until("no object is left", || !objects(&folder).is_empty());
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    let store = Store::open(&Place::new(workspace.path("store"))).unwrap();
    let subjects = vec![SubjectId::new(&subject.name).unwrap()];
    let accepted = store.accept(&DeletionRequest { subjects, ..DeletionRequest::default() }).unwrap();
    training.wait_for("nothing is called erased before its objects are removed");
    // Longer than a lease lasts with everything on top, and the training goes on meanwhile.
    for _ in 0..10 {
        let message = store.erase().unwrap_err().to_string();
        assert!(message.contains("object storage"), "{message}");
    }
    assert_eq!(store.snapshot().unwrap().unerased(), [accepted.effect.epoch]);
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    wait_until("the erasure is never finished", || store.erase().is_ok());
    training.interrupt();
    assert!(fs::read_dir(&folder).unwrap().next().is_none());
}

#[test]
fn objects_of_an_owner_that_was_killed_are_removed_when_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let workers = ByHand::start(2);
    let workspace = with(&workers, &in_folder(folder.path()));
    let training = Training::start(&workspace, &[]);
    training.wait_for_stages(1);
    wait_until("no object is left", || !objects(folder.path()).is_empty());
    drop(training);
    workers.tire();
    workers.wait_for_ends();
    let left = objects(folder.path());
    assert!(!left.is_empty());
    workers.go_on();
    let training = Training::start(&workspace, &[]);
    training.wait_for("has joined");
    assert!(left.iter().all(|(name, _)| !Path::new(name).exists()));
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn a_store_has_the_digest_of_one_process_through_an_s3_server() {
    let Some(s3) = S3::start() else { return };
    // The workers take their credentials from the environment, as the owner does.
    let workers = ByHand::with_variables(2, &S3::variables());
    let workspace = with(&workers, &s3.objects());
    let training = Training::start(&workspace, &S3::variables_for_training());
    wait_until("no object is put", || s3.names().iter().any(|name| !name.ends_with("/launch")));
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    assert_eq!(s3.names(), [""; 0], "something is left in the bucket");
    // Every object went to the bucket, and came from it.
    let log = s3.log();
    for request in ["\"PUT /s3t/a/b/", "\"GET /s3t/a/b/", "\"POST /s3t?delete"] {
        assert!(log.contains(request), "no {request} in {log}");
    }
}

#[test]
fn an_s3_server_that_goes_away_costs_bandwidth_and_no_stage() {
    let Some(mut s3) = S3::start() else { return };
    let workers = ByHand::with_variables(2, &S3::variables());
    let workspace = with(&workers, &s3.objects());
    let training = Training::start(&workspace, &S3::variables_for_training());
    training.wait_for_stages(1);
    s3.stop();
    training.wait_for("go over the links of the workers");
    training.wait_for_stages(4);
    s3.start_again();
    training.end(0);
    assert_eq!(digest(&workspace), in_process());
    assert_eq!(s3.names(), [""; 0]);
}

#[test]
fn buckets_with_versions_and_wrong_credentials_are_refused_by_name() {
    let Some(s3) = S3::start() else { return };
    let workers = ByHand::with_variables(1, &S3::variables());
    let refusal = |objects: &str, variables: &[(&str, &str)]| {
        let workspace = with(&workers, objects);
        let mut command = workspace.command();
        command.args(["train", "pipeline.toml"]).envs(variables.iter().copied()).stdout(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let variables = S3::variables();
    let said = refusal(&s3.objects().replace("s3://s3t/", "s3://another/"), &variables);
    assert!(said.contains("object storage s3://another/a/b") && said.contains("give a bucket that is there"), "{said}");
    s3.keep_versions();
    let said = refusal(&s3.objects(), &variables);
    assert!(said.contains("keeps objects that are removed (its versioning is on); use a bucket without"), "{said}");
}
