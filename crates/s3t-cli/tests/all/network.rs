//! The executor `network`: workers that somebody starts, that are killed, stopped and left alone, and deletions by other processes.
use std::fs;
use std::ops::ControlFlow;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::by_hand::ByHand;
use crate::workspace::Workspace;
use rustix::process::{Pid, Signal, kill_process};
use s3t::core::PluginKind;
use s3t::core::registry::plugin_from_json;
use s3t::engine::StageLabel;
use s3t::executor::{Executor, Step};
use s3t::prelude::*;
use s3t::store::{DeletionRequest, Place, Store, StoreError};

/// A workspace of which training takes some seconds.
fn slow() -> Workspace {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "epochs = 2", "epochs = 200");
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    workspace
}

fn with(workers: &ByHand) -> Workspace {
    let workspace = slow();
    workspace.edit("pipeline.toml", "[run]", &format!("{}[run]", workers.lines()));
    workspace
}

fn answers(workspace: &Workspace) -> String {
    workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string()
}

fn stages(workspace: &Workspace) -> usize {
    let place = Place::new(workspace.path("store"));
    Store::open_read_only(&place).map_or(0, |store| store.snapshot().unwrap().stages().len())
}

fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn kills_of_workers_change_no_bit_and_the_invitation_is_private_and_goes() {
    let twin = slow();
    twin.json(&["train", "pipeline.toml"]);
    let workers = ByHand::start(2);
    let workspace = with(&workers);
    let is_over = AtomicBool::new(false);
    let kills = std::thread::scope(|scope| {
        let killing = scope.spawn(|| {
            let mut kills = 0;
            while !is_over.load(Ordering::SeqCst) && kills < 6 {
                std::thread::sleep(Duration::from_millis(700));
                if let Some(pid) = workers.pids().first().filter(|_| stages(&workspace) > kills) {
                    signal(*pid, Signal::KILL);
                    kills += 1;
                }
            }
            kills
        });
        let trained = scope.spawn(|| workspace.json(&["train", "pipeline.toml"]));
        wait_until("there is no invitation", || workers.invitation().exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(workers.invitation()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        trained.join().unwrap();
        is_over.store(true, Ordering::SeqCst);
        killing.join().unwrap()
    });
    assert!(kills > 0, "no worker was killed");
    assert!(!workers.invitation().exists(), "the invitation stays");
    assert_eq!(answers(&workspace), answers(&twin));
    workspace.json(&["verify", "pipeline.toml", "--scope", "all"]);
}

#[test]
fn workers_end_by_themselves_when_their_owner_is_killed_and_the_same_command_goes_on() {
    let workers = ByHand::start(2);
    let workspace = with(&workers);
    let mut owner = workspace.command().args(["train", "pipeline.toml"]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("nothing is trained", || stages(&workspace) > 0);
    workers.tire();
    owner.kill().unwrap();
    owner.wait().unwrap();
    workers.wait_for_ends();
    drop(workers);
    let workers = ByHand::start(2);
    let text = fs::read_to_string(workspace.path("pipeline.toml")).unwrap();
    let (start, rest) = (text.find("[executor]").unwrap(), text.find("[run]").unwrap());
    workspace.write("pipeline.toml", format!("{}{}{}", &text[..start], workers.lines(), &text[rest..]));
    let trained = workspace.json(&["train", "pipeline.toml"]);
    assert!(trained["training"]["report"]["reused"].as_u64().unwrap() > 0, "{trained}");
    let twin = slow();
    twin.json(&["train", "pipeline.toml"]);
    assert_eq!(answers(&workspace), answers(&twin));
}

/// Stops the worker of a stage, as a machine that hangs, and has another process delete a record that the stage holds.
struct Hangs<'a> {
    workers: &'a ByHand,
    store: Store,
    records: &'a [Record],
    hit: Mutex<Option<StageLabel>>,
}

impl Observer for Hangs<'_> {
    fn step(&self, stage: &StageLabel, step: Step) -> ControlFlow<()> {
        let mut hit = self.hit.lock().unwrap();
        if hit.is_none() && step.done > 1 {
            let in_stage = |record: &&Record| {
                let address = self.store.address(&record.id).unwrap().unwrap();
                address.shard == stage.shard && address.slice == stage.slices[0]
            };
            let record = self.records.iter().find(in_stage).unwrap();
            self.workers.tire();
            self.workers.pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
            let request = DeletionRequest { records: vec![record.id.clone()], ..DeletionRequest::default() };
            self.store.accept(&request).unwrap();
            *hit = Some(stage.clone());
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn a_deletion_of_another_process_is_called_erased_when_the_lease_of_a_hanging_worker_has_ended() {
    let workers = ByHand::start(1);
    let folder = tempfile::tempdir().unwrap();
    s3t_testkit::write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let mut pipeline = s3t_testkit::tiny_pipeline(&folder.path().join("model"), &folder.path().join("store"));
    pipeline.training.epochs = 60;
    pipeline.executor = plugin_from_json::<dyn Executor>(PluginKind::Executor, &workers.table()).unwrap();
    let records = s3t_testkit::toy_records(60, 0, 3);
    let system = System::create(pipeline, &records, None).unwrap();
    let open = || Store::open(&Place::new(folder.path().join("store"))).unwrap();
    let observer = Hangs { workers: &workers, store: open(), records: &records, hit: Mutex::new(None) };
    let other = open();
    std::thread::scope(|scope| {
        let training = scope.spawn(|| system.train(&observer));
        wait_until("no stage was hit", || observer.hit.lock().unwrap().is_some());
        // The patience of an erasure is shorter than the lease.
        let error = other.erase().unwrap_err();
        assert!(matches!(error, StoreError::Elsewhere { .. }), "{error}");
        assert!(!other.snapshot().unwrap().unerased().is_empty());
        wait_until("the erasure is never finished", || match other.erase() {
            Ok(_) => true,
            Err(StoreError::Elsewhere { .. }) => false,
            Err(error) => panic!("{error}"),
        });
        assert!(other.snapshot().unwrap().unerased().is_empty());
        // The worker wakes up, finds that its lease has ended, and ends.
        workers.pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
        workers.wait_for_ends();
        let hit = observer.hit.lock().unwrap().clone().unwrap();
        assert!(!other.snapshot().unwrap().has_stage(&hit.key));
        workers.go_on();
        training.join().unwrap().unwrap();
        assert!(system.verify(VerifyScope::All, &Quiet).unwrap().passed());
    });
}

#[test]
fn a_deletion_is_not_called_erased_before_the_lease_of_a_hanging_worker_has_ended_although_its_owner_was_killed() {
    let workers = ByHand::start(1);
    let workspace = with(&workers);
    let mut owner = workspace.command().args(["train", "pipeline.toml"]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("nothing is trained", || stages(&workspace) > 0);
    workers.tire();
    // It hangs with the records of a stage in its memory, and its owner says nothing any more.
    let hanging = workers.pids()[0];
    signal(hanging, Signal::STOP);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    let text = fs::read_to_string(workspace.path("train.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let id = line["id"].as_str().unwrap();
    // The command says what it waits for, if it ends before the lease does.
    let deleted = workspace.run(&["delete", "pipeline.toml", "--record", id, "--json"]);
    let deletion: serde_json::Value = serde_json::from_str(&deleted.stdout).unwrap();
    match deletion["deletion"]["pending"]["reason"].as_str() {
        Some(reason) => {
            assert!(reason.contains("workers on other machines may remember them for"), "{deletion}");
            assert_eq!(deleted.code, 6);
        }
        None => {
            assert!(killed.elapsed() >= Duration::from_secs(3), "called erased {:?} after the kill", killed.elapsed());
        }
    }
    let store = Store::open(&Place::new(workspace.path("store"))).unwrap();
    wait_until("the erasure is never finished", || match store.erase() {
        Ok(_) => true,
        Err(StoreError::Elsewhere { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    // The lease was renewed at the kill at the latest.
    assert!(killed.elapsed() >= Duration::from_secs(3), "called erased {:?} after the kill", killed.elapsed());
    assert!(store.snapshot().unwrap().unerased().is_empty());
    // The worker wakes up, and ends without a word from anybody.
    signal(hanging, Signal::CONT);
    workers.wait_for_ends();
}
