//! Executors: every one obeys the laws, and `processes`, whose workers are `s3t worker`, gives the bits of `local` whatever happens to
//! its workers.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::by_hand::ByHand;
use crate::workspace::Workspace;
use rustix::process::{Pid, Signal, kill_process};
use s3t::backends::DeviceSpec;
use s3t::core::registry::plugins;
use s3t::core::tensors::StageTensors;
use s3t::core::{PluginInfo, PluginKind, StageKey, StoreSecret};
use s3t::engine::StageLabel;
use s3t::executor::{BaseModel, Executor, ExecutorError, Local, Session, Silent, Site, Step, WorkerSettings};
use s3t::models::LoadOptions;
use s3t::plugins::processes::Processes;
use s3t::prelude::*;
use s3t::store::{DeletionRequest, Place, Store};
use s3t::train::StageTrainer;
use s3t_testkit::{
    GOLDEN_RECORDS, GOLDEN_STAGES, check_executor, digest_of_stages, golden_stage, tiny_pipeline, toy_records,
    write_tiny_model,
};
use serde_json::json;
use tempfile::TempDir;

/// The program of the workers.
const S3T: &str = env!("CARGO_BIN_EXE_s3t");

#[test]
fn every_executor_has_a_row_and_obeys_the_laws() {
    let workers = ByHand::start(2);
    let rows = [
        json!({"type": "local"}),
        workers.table(),
        json!({"type": "processes", "program": S3T, "workers": 1}),
        json!({"type": "processes", "program": S3T, "workers": 3, "restarts": 0}),
    ];
    let executors = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::Executor);
    let names: Vec<&str> = executors.map(PluginInfo::name).collect();
    let elsewhere = ["kubernetes", "ray", "slurm", "ssh"];
    let here = names.iter().filter(|name| !elsewhere.contains(name)).copied();
    assert_eq!(here.clone().collect::<Vec<_>>(), ["local", "network", "processes"], "the expected set of executors");
    // The others obey them in the tests that have their engines.
    assert_eq!(names.len(), here.clone().count() + elsewhere.len());
    for name in here {
        assert!(rows.iter().any(|row| row["type"] == name), "`{name}` has no row");
    }
    rows.iter().for_each(check_executor);
}

fn processes(workers: usize) -> Processes {
    Processes { workers, program: Some(S3T.into()), ..Processes::default() }
}

/// The same system over and over, with this executor.
struct World {
    folder: TempDir,
    system: System,
}

const SHAPE: PartitionShape = PartitionShape { shards: 2, slices: 3 };

fn pipeline(folder: &Path, shape: PartitionShape, epochs: usize, executor: Box<dyn Executor>) -> Pipeline {
    let mut pipeline = tiny_pipeline(&folder.join("model"), &folder.join("store"));
    pipeline.shape = shape;
    pipeline.training.epochs = epochs;
    pipeline.resources.jobs = 2;
    pipeline.executor = executor;
    pipeline
}

impl World {
    fn new(records: &[Record], epochs: usize, executor: Box<dyn Executor>) -> Self {
        Self::of_shape(SHAPE, records, epochs, executor)
    }

    fn of_shape(shape: PartitionShape, records: &[Record], epochs: usize, executor: Box<dyn Executor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(&folder.path().join("model"), 4).unwrap();
        let pipeline = pipeline(folder.path(), shape, epochs, executor);
        let system = System::create(pipeline, records, Some(StoreSecret::from_bytes([2; 32]))).unwrap();
        Self { folder, system }
    }

    fn trained(records: &[Record], epochs: usize, executor: Box<dyn Executor>) -> Self {
        let world = Self::new(records, epochs, executor);
        world.system.train(&Quiet).unwrap();
        world
    }

    fn stages(&self) -> BTreeMap<StageKey, StageTensors> {
        let store = self.system.store();
        store.snapshot().unwrap().stages().iter().map(|key| (*key, store.stage(key).unwrap().1)).collect()
    }

    fn answers(&self) -> Vec<Vec<u32>> {
        let answers = self.system.predict(&toy_records(30, 0, 999)).unwrap();
        answers.iter().map(|answer| answer.scores.iter().map(|score| score.to_bits()).collect()).collect()
    }
}

#[track_caller]
fn assert_same(one: &World, other: &World) {
    let (one, other) = ((one.stages(), one.answers()), (other.stages(), other.answers()));
    assert_eq!(one.0.keys().collect::<Vec<_>>(), other.0.keys().collect::<Vec<_>>());
    for (key, tensors) in &one.0 {
        assert_eq!(tensors.first_difference(&other.0[key]), None, "stage {key}");
    }
    assert_eq!(one.1, other.1);
}

#[test]
fn survivors_are_those_of_the_world_without_the_record_with_1_2_and_3_workers() {
    let records = toy_records(60, 12, 3);
    let subject = SubjectId::new("subject-4").unwrap();
    let without: Vec<Record> =
        records.iter().filter(|record| record.subject.as_ref() != Some(&subject)).cloned().collect();
    assert!(without.len() < records.len());
    let (here, never) =
        (World::trained(&records, 2, Box::new(Local {})), World::trained(&without, 2, Box::new(Local {})));
    for workers in [1, 2, 3] {
        let there = World::trained(&records, 2, Box::new(processes(workers)));
        assert_same(&here, &there);
        there.system.delete(&[], std::slice::from_ref(&subject)).unwrap();
        let kept = never.stages();
        for (key, tensors) in there.stages() {
            let same = kept.get(&key).unwrap_or_else(|| panic!("stage {key} survives, but saw the record"));
            assert_eq!(tensors.first_difference(same), None, "stage {key}");
        }
        // Repair and verification go to the workers too.
        there.system.train(&Quiet).unwrap();
        assert_same(&never, &there);
        let report = there.system.verify(VerifyScope::All, &Quiet).unwrap();
        assert!(report.passed() && report.stages.len() == kept.len(), "{report:?}");
    }
}

#[test]
fn the_golden_digest_of_training_is_the_same_with_1_2_and_3_workers() {
    let device: DeviceSpec = "flex".parse().unwrap();
    let folder = crate::workspace::repository().join("data/vit-mnist");
    let backbone = s3t::models::load(&folder, LoadOptions::default(), &device.open().unwrap()).unwrap();
    let jobs = [0, 4].map(|start| golden_stage(&backbone, &device, start, GOLDEN_RECORDS));
    let base =
        BaseModel { folder, digest: backbone.digest(), options: serde_json::to_value(LoadOptions::default()).unwrap() };
    let site = Site {
        store: "golden".into(),
        worker: WorkerSettings { base, device: device.to_string(), memory: 1 << 30, gradient_checkpointing: false },
        threads: NonZero::new(4).unwrap(),
        trainer: Arc::new(StageTrainer::new(backbone, device, 1 << 30).unwrap()),
    };
    let digest = |session: &dyn Session| {
        let stages = std::thread::scope(|scope| {
            let started = jobs.each_ref().map(|job| scope.spawn(|| session.train(job, &Silent).unwrap()));
            started.map(|thread| thread.join().unwrap().tensors)
        });
        digest_of_stages(&stages).to_string()
    };
    let here = digest(&*Local {}.start(site.clone()).unwrap());
    assert_eq!(GOLDEN_STAGES.lines().next(), Some(&*format!("f32 {here}")));
    for workers in [1, 2, 3] {
        assert_eq!(digest(&*processes(workers).start(site.clone()).unwrap()), here, "{workers} workers");
    }
}

/// Stops in the middle of the stage after some stages.
struct StopAfter(AtomicU64);

impl Observer for StopAfter {
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        if self.0.load(Ordering::Relaxed) == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn stage_finished(&self, _stage: &StageLabel) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    }
}

#[test]
fn stopping_and_going_on_changes_no_bit() {
    let records = toy_records(60, 12, 3);
    let here = World::trained(&records, 2, Box::new(Local {}));
    for workers in [1, 3] {
        let mut there = World::new(&records, 2, Box::new(processes(workers)));
        let mut pieces = 0;
        loop {
            match there.system.train(&StopAfter(AtomicU64::new(3))) {
                Ok(_) => break,
                Err(EngineError::Executor(ExecutorError::Cancelled(_))) => pieces += 1,
                Err(error) => panic!("{error}"),
            }
            let World { folder, system } = there;
            drop(system);
            let system = System::open(pipeline(folder.path(), SHAPE, 2, Box::new(processes(workers)))).unwrap();
            there = World { folder, system };
        }
        assert!(pieces > 1, "{pieces} pieces");
        assert_same(&here, &there);
    }
}

/// A program that writes its process id to a file, line by line, before it is a worker.
fn noted(pids: &Path, workers: usize, restarts: usize) -> Processes {
    let script = format!("echo $$ >> '{}'; exec '{S3T}' worker", pids.display());
    let arguments = vec!["-c".to_owned(), script];
    Processes { workers, program: Some("/bin/sh".into()), arguments, restarts, ..Processes::default() }
}

fn read_pids(pids: &Path) -> Vec<i32> {
    fs::read_to_string(pids).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

fn is_alive(pid: i32) -> bool {
    // A child that has ended and was not waited for counts as gone.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[test]
fn kills_of_workers_at_random_change_no_bit() {
    let records = toy_records(60, 12, 3);
    let here = World::trained(&records, 60, Box::new(Local {}));
    for workers in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let (is_over, kills) = (AtomicBool::new(false), AtomicU64::new(0));
        let there = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut numbers = Numbers(workers as u64);
                // Workers that are being started are killed too. Ever longer pauses, so that stages end on slow machines as well.
                let mut pause = 200.0;
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20 + numbers.below(pause as u64)));
                    pause *= 1.05;
                    let known = read_pids(&pids);
                    let newest = known.iter().rev().take(workers);
                    let living: Vec<i32> = newest.copied().filter(|pid| is_alive(*pid)).collect();
                    if !living.is_empty() && !is_over.load(Ordering::Relaxed) {
                        kill(living[numbers.below(living.len() as u64) as usize]);
                        kills.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let there = World::trained(&records, 60, Box::new(noted(&pids, workers, 10_000)));
            is_over.store(true, Ordering::Relaxed);
            there
        });
        assert!(kills.load(Ordering::Relaxed) > 3, "only {kills:?} kills of {workers} workers");
        assert_same(&here, &there);
        let known = read_pids(&pids);
        drop(there);
        // Another process may have got the number of one that has ended.
        let is_worker =
            |pid: &&i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"worker\0"));
        assert_eq!(
            known.iter().filter(is_worker).filter(|pid| is_alive(**pid)).count(),
            0,
            "a worker outlives its executor"
        );
    }
}

/// Kills every worker in its first step.
struct Deadly<'a>(&'a Path);

impl Observer for Deadly<'_> {
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        read_pids(self.0).into_iter().filter(|pid| is_alive(*pid)).for_each(kill);
        ControlFlow::Continue(())
    }
}

#[test]
fn a_stage_that_ends_every_worker_is_given_up_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let world = World::new(&toy_records(60, 0, 3), 200, Box::new(noted(&pids, 1, 2)));
    let error = world.system.train(&Deadly(&pids)).unwrap_err();
    let EngineError::Executor(ExecutorError::GaveUp { key, workers: 3, last }) = &error else { panic!("{error}") };
    assert!(world.system.snapshot().unwrap().missing().contains(key));
    assert!(matches!(**last, ExecutorError::WorkerDied { .. }));
    let message = error.to_string();
    assert!(message.contains("signal: 9") && message.contains("executor.restarts"), "{message}");
}

#[test]
fn a_program_that_is_no_worker_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let executor = Processes { program: Some("/bin/false".into()), workers: 1, ..Processes::default() };
    let failed = System::create(pipeline(folder.path(), SHAPE, 2, Box::new(executor)), &toy_records(60, 0, 3), None);
    let message = failed.err().unwrap().to_string();
    assert!(message.contains("worker 4 ended before it answered: exit status: 1"), "{message}");
    assert!(!folder.path().join("store").exists(), "a store was made although no arithmetic is known");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let executor = Processes { program: Some("/nowhere/s3t".into()), ..Processes::default() };
    let failed = System::create(pipeline(folder.path(), SHAPE, 2, Box::new(executor)), &toy_records(60, 0, 3), None);
    let message = failed.err().unwrap().to_string();
    assert!(message.contains("`/nowhere/s3t` cannot be run") && message.contains("executor.program"), "{message}");
}

/// Deletes a record in another process's way while a stage that saw it is trained by a worker.
struct DeletesInTheMiddle<'a> {
    store: Store,
    records: &'a [Record],
    hit: Mutex<Option<(StageLabel, Instant)>>,
    went_on: AtomicU64,
    finished: Mutex<BTreeSet<StageKey>>,
}

impl Observer for DeletesInTheMiddle<'_> {
    fn step(&self, stage: &StageLabel, step: Step) -> ControlFlow<()> {
        let mut hit = self.hit.lock().unwrap();
        match &*hit {
            None if stage.slices.len() == 2 && step.done > 1 => {
                let in_stage = |record: &&Record| {
                    let address = self.store.address(&record.id).unwrap().unwrap();
                    address.shard == stage.shard && address.slice == stage.slices[1]
                };
                let record = self.records.iter().find(in_stage).unwrap();
                let request = DeletionRequest { records: vec![record.id.clone()], ..DeletionRequest::default() };
                self.store.accept(&request).unwrap();
                self.store.erase().unwrap();
                *hit = Some((stage.clone(), Instant::now()));
            }
            Some((label, _)) if label == stage => drop(self.went_on.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn stage_finished(&self, stage: &StageLabel) {
        self.finished.lock().unwrap().insert(stage.key);
    }
}

#[test]
fn a_deletion_cancels_the_job_that_it_hits_and_the_dead_stage_is_never_stored() {
    const SMALL: PartitionShape = PartitionShape { shards: 1, slices: 3 };
    let records = toy_records(30, 0, 3);
    for workers in [1, 3] {
        // So many epochs that a stage is not over before its cancellation arrives.
        let world = World::of_shape(SMALL, &records, 200, Box::new(processes(workers)));
        let observer = DeletesInTheMiddle {
            store: Store::open(&Place::new(world.folder.path().join("store"))).unwrap(),
            records: &records,
            hit: Mutex::new(None),
            went_on: AtomicU64::new(0),
            finished: Mutex::default(),
        };
        let report = world.system.train(&observer).unwrap();
        let (hit, _) = observer.hit.lock().unwrap().clone().expect("a stage was hit");
        assert_eq!(observer.went_on.load(Ordering::SeqCst), 0, "the stage went on after it was hit");
        assert!(!observer.finished.lock().unwrap().contains(&hit.key), "the dead stage was trained to its end");
        let stages = world.stages();
        assert!(!stages.contains_key(&hit.key));
        assert_eq!(report.planned, stages.len());
        let there = |record: &&Record| world.system.store().address(&record.id).unwrap().is_some();
        let without: Vec<Record> = records.iter().filter(there).cloned().collect();
        assert_eq!(without.len() + 1, records.len());
        let twin = World::of_shape(SMALL, &without, 200, Box::new(Local {}));
        twin.system.train(&Quiet).unwrap();
        assert_same(&world, &twin);
    }
}

#[test]
fn workers_end_with_their_owner_and_the_same_command_goes_on() {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "epochs = 2", "epochs = 150");
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    let script = format!("echo $$ >> '{}'; exec '{S3T}' worker", workspace.path("pids").display());
    let executor = format!(
        "[executor]\ntype = \"processes\"\nworkers = 2\nprogram = \"/bin/sh\"\narguments = [\"-c\", {}]\n\n[run]",
        json!(script)
    );
    workspace.edit("pipeline.toml", "[run]", &executor);
    let mut owner = workspace.command().args(["train", "pipeline.toml"]).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let trained = || {
        let place = Place::new(workspace.path("store"));
        Store::open_read_only(&place).is_ok_and(|store| !store.snapshot().unwrap().stages().is_empty())
    };
    while !trained() {
        assert!(Instant::now() < until, "nothing is trained");
        std::thread::sleep(Duration::from_millis(10));
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    let pids = read_pids(&workspace.path("pids"));
    assert_eq!(pids.len(), 2);
    while pids.iter().any(|pid| is_alive(*pid)) {
        assert!(Instant::now() < until, "a worker goes on without its owner");
        std::thread::sleep(Duration::from_millis(10));
    }
    let trained = workspace.json(&["train", "pipeline.toml"]);
    assert!(trained["training"]["report"]["reused"].as_u64().unwrap() > 0, "{trained}");
    let twin = Workspace::new();
    twin.edit("pipeline.toml", "epochs = 2", "epochs = 150");
    twin.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    twin.json(&["train", "pipeline.toml"]);
    let bits = |workspace: &Workspace| workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string();
    assert_eq!(bits(&workspace), bits(&twin));
    workspace.json(&["verify", "pipeline.toml", "--scope", "all"]);
}

#[test]
fn what_a_worker_says_is_passed_on_with_its_name() {
    let workspace = Workspace::new();
    let script = format!("echo 'the card is hot' >&2; exec '{S3T}' worker");
    let executor = format!(
        "[executor]\ntype = \"processes\"\nworkers = 1\nprogram = \"/bin/sh\"\narguments = [\"-c\", {}]\n\n[run]",
        json!(script)
    );
    workspace.edit("pipeline.toml", "[run]", &executor);
    let ran = workspace.run(&["train", "pipeline.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("worker 1: the card is hot"), "{}", ran.stderr);
}

#[test]
fn a_program_without_a_worker_does_not_start_itself_without_end() {
    // As a worker it would start workers of its own.
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "[run]", "[executor]\ntype = \"processes\"\n\n[run]");
    let output = workspace.command().env("S3T_WORKER", "1").args(["train", "pipeline.toml"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("this program is a worker itself"), "{message}");
}
