//! An owner and its workers over real connections: workers that are strangers, that are lost, silent, or cut off by the network.

#[path = "../../s3t-executor/tests/common/mod.rs"]
mod common;
mod proxy;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Counting, STEPS, StopAfter, digest, environment, job, settings, trained};
use proxy::Proxy;
use s3t_cluster::s3t_executor::{
    ExecutorError, Session, Silent, Site, StageJob, StageProgress, Step, TrainedStage, Trainer, work,
};
use s3t_cluster::{Call, ClusterError, Ending, Launcher, Registration, Settings, Task, TaskState, join, start};

/// An engine that hands its calls to the test, and says of its tasks what the test says.
#[derive(Debug, Clone)]
struct Engine {
    calls: Arc<Mutex<mpsc::Sender<(usize, Call)>>>,
    tasks: Arc<Mutex<Vec<Task>>>,
    cancelled: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
}

impl Launcher for Engine {
    fn engine(&self) -> &'static str {
        "test"
    }

    fn submit(&self, _number: u64, workers: usize, call: &Call) -> Result<usize, ClusterError> {
        let _ = self.calls.lock().unwrap().send((workers, call.clone()));
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.tasks.lock().unwrap().clone())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        self.cancelled.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn log(&self, task: &str) -> Option<String> {
        Some(format!("last words of {task}"))
    }
}

struct Owner {
    session: Box<dyn Session>,
    call: Call,
    calls: mpsc::Receiver<(usize, Call)>,
    engine: Engine,
}

fn queued(number: usize) -> Task {
    Task { name: format!("1_{number}"), state: TaskState::Queued }
}

fn owner(workers: usize, restarts: usize, lease_seconds: f64) -> Owner {
    let (give, calls) = mpsc::channel();
    let engine = Engine {
        calls: Arc::new(Mutex::new(give)),
        tasks: Arc::new(Mutex::new((0..workers).map(queued).collect())),
        cancelled: Arc::default(),
        looks: Arc::default(),
    };
    let site = Site {
        store: "store".into(),
        worker: settings(),
        threads: NonZero::<usize>::MIN,
        trainer: Arc::new(Counting::default()),
    };
    let settings = Settings {
        workers,
        listen: "127.0.0.1:0".into(),
        host: None,
        restarts,
        lease_seconds,
        look_seconds: 0.1,
        objects: None,
    };
    let session = start(&site, settings, Box::new(engine.clone())).unwrap();
    let (asked, call) = calls.recv().unwrap();
    assert_eq!(asked, workers);
    Owner { session, call, calls, engine }
}

fn registration(number: usize) -> Registration {
    Registration::of_this_process(format!("1_{number}"), Some(1))
}

/// Works for the owner in a thread; gives a flag that says that the worker has ended.
fn worker(call: &Call, number: usize, trainer: Arc<dyn Trainer>) -> Arc<AtomicBool> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let (call, ended, closed) = (call.clone(), Arc::clone(&has_ended), Arc::clone(&has_ended));
    std::thread::spawn(move || {
        let joined = join(&call.address, &call.invitation, &registration(number), Duration::from_secs(5)).unwrap();
        let closed = move |_| closed.store(true, Ordering::SeqCst);
        let _ = work(joined.reader, joined.writer, Some(joined.lease), |_| Ok(trainer), closed);
        ended.store(true, Ordering::SeqCst);
    });
    has_ended
}

fn honest(call: &Call, number: usize) -> Arc<AtomicBool> {
    worker(call, number, Arc::new(Counting::default()))
}

#[test]
fn workers_that_come_one_by_one_train_what_is_asked_for() {
    let owner = owner(3, 0, 60.0);
    let stages: Vec<StageJob> = (0..12).map(|number| job(&[&*format!("slice {number}")])).collect();
    std::thread::scope(|scope| {
        for stage in &stages {
            scope.spawn(|| {
                let progress = StopAfter::new(usize::MAX);
                assert_eq!(owner.session.train(stage, &progress).unwrap(), trained(stage, STEPS));
                let done: Vec<usize> = progress.steps.into_inner().unwrap().iter().map(|step| step.done).collect();
                assert_eq!(done, (1..=STEPS).collect::<Vec<_>>());
            });
        }
        for number in 0..3 {
            honest(&owner.call, number);
        }
    });
    assert_eq!(owner.session.environment(), environment());
    assert_eq!(owner.session.capacity().get(), 3);
}

#[test]
fn workers_end_with_their_owner() {
    let owner = owner(2, 0, 60.0);
    let workers = [honest(&owner.call, 0), honest(&owner.call, 1)];
    owner.session.train(&job(&["one"]), &Silent).unwrap();
    let cancelled = Arc::clone(&owner.engine.cancelled);
    drop(owner.session);
    assert!(cancelled.load(Ordering::SeqCst));
    // A worker that had not joined yet finds nobody.
    while !workers.iter().any(|worker| worker.load(Ordering::SeqCst)) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn strangers_and_workers_of_another_kind_are_refused_by_what_differs() {
    let owner = owner(1, 10, 60.0);
    let text = owner.call.invitation.text();
    let (rest, _) = text.rsplit_once('.').unwrap();
    let stranger = format!("{rest}.{}", "A".repeat(43)).parse().unwrap();
    let patience = Duration::from_secs(5);
    let refusal = |invitation: &_, registration: &_| {
        join(&owner.call.address, invitation, registration, patience).err().expect("it is refused").to_string()
    };
    assert!(refusal(&stranger, &registration(0)).contains("its token is not that of this launch"));
    let other = Registration { version: "0.0.1".into(), ..registration(0) };
    let message = refusal(&owner.call.invitation, &other);
    assert!(message.contains("its version is 0.0.1, and the owner's "), "{message}");
    let small = Registration { memory: Some(1 << 19), ..registration(0) };
    let message = refusal(&owner.call.invitation, &small);
    assert!(
        message.contains("it has 0 megabytes of memory, and `resources.activation_memory_mb` alone is 1"),
        "{message}"
    );

    let joined = join(&owner.call.address, &owner.call.invitation, &registration(0), patience).unwrap();
    let error = work(joined.reader, joined.writer, Some(joined.lease), |_| Ok(Arc::new(Foreign) as _), |_| {});
    let message = error.unwrap_err().to_string();
    assert!(message.contains("its instructions is `avx2+avx512`, and the store's `avx2`"), "{message}");

    // A port that somebody looks at, and bytes that are no greeting.
    drop(std::net::TcpStream::connect(&owner.call.address).unwrap());
    let mut noise = std::net::TcpStream::connect(&owner.call.address).unwrap();
    std::io::Write::write_all(&mut noise, &[7; 4096]).unwrap();

    honest(&owner.call, 0);
    owner.session.train(&job(&["one"]), &Silent).unwrap();
}

/// Computes with other instructions.
struct Foreign;

impl Trainer for Foreign {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        let instructions = vec!["avx2".into(), "avx512".into()];
        s3t_core::NumericEnvironment { instructions, ..environment() }
    }

    fn train(&self, job: &StageJob, _progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        Err(ExecutorError::Cancelled(job.key()))
    }

    fn forget(&self, _records: &[s3t_core::Digest]) {}

    fn forget_all(&self) {}
}

/// Does something in every step, to the connections of a worker for example.
struct AtEachStep<F>(F);

impl<F: Fn() + Send + Sync> StageProgress for AtEachStep<F> {
    fn step(&self, _step: Step) -> std::ops::ControlFlow<()> {
        (self.0)();
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn a_stage_of_a_worker_that_is_lost_is_given_to_another() {
    let owner = owner(2, 1, 60.0);
    let proxy = Proxy::to(&owner.call.address);
    let through = Call { address: proxy.address(), ..owner.call.clone() };
    let lost = worker(&through, 0, Arc::new(Counting::default()));
    let stage = job(&["endless"]);
    let steps = AtomicUsize::new(0);
    let progress = AtEachStep(|| {
        if steps.fetch_add(1, Ordering::SeqCst) == 0 {
            proxy.cut();
        }
    });
    let result = std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&stage, &progress));
        while !lost.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        worker(&owner.call, 1, Arc::new(Finite));
        training.join().unwrap()
    });
    assert_eq!(result.unwrap().key, stage.key());
}

/// Trains every stage in no time.
struct Finite;

impl Trainer for Finite {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, _progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        Ok(trained(job, 1))
    }

    fn forget(&self, _records: &[s3t_core::Digest]) {}

    fn forget_all(&self) {}
}

#[test]
fn a_stage_that_loses_every_worker_is_given_up_with_the_end_of_the_log() {
    let owner = owner(1, 1, 60.0);
    let stage = job(&["endless"]);
    let error = std::thread::scope(|scope| {
        let proxy = Proxy::to(&owner.call.address);
        let (session, address) = (&owner.session, proxy.address());
        let stage = &stage;
        let training = scope.spawn(move || session.train(stage, &AtEachStep(|| proxy.cut())));
        for _ in 0..2 {
            let through = Call { address: address.clone(), ..owner.call.clone() };
            let lost = honest(&through, 0);
            while !lost.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        training.join().unwrap().unwrap_err()
    });
    assert!(matches!(&error, ExecutorError::GaveUp { workers: 2, .. }), "{error}");
    assert!(error.to_string().contains("the end of its log: last words of 1_0"), "{error}");
}

#[test]
fn a_silent_worker_loses_its_stage_after_the_lease_and_ends_by_itself_and_comes_too_late() {
    let owner = owner(2, 1, 3.0);
    let proxy = Proxy::to(&owner.call.address);
    let through = Call { address: proxy.address(), ..owner.call.clone() };
    let silent = worker(&through, 0, Arc::new(Counting::default()));
    let stage = job(&["endless"]);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&stage, &AtEachStep(|| proxy.freeze())));
        // Not before the first has the stage.
        while !proxy.is_frozen() {
            std::thread::sleep(Duration::from_millis(5));
        }
        worker(&owner.call, 1, Arc::new(Finite));
        assert_eq!(training.join().unwrap().unwrap(), trained(&stage, 1));
    });
    // The worker hears nobody, and ends within its lease.
    while !silent.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Everything that it said arrives now, and changes nothing.
    proxy.thaw();
    assert_eq!(owner.session.train(&stage, &Silent).unwrap(), trained(&stage, 1));
}

#[test]
fn forgetting_returns_when_each_worker_has_said_so_or_its_lease_has_ended() {
    let owner = owner(2, 1, 3.0);
    let proxy = Proxy::to(&owner.call.address);
    let through = Call { address: proxy.address(), ..owner.call.clone() };
    let (there, unreachable) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let reached = worker(&owner.call, 0, Arc::clone(&there) as _);
    let ended = worker(&through, 1, Arc::clone(&unreachable) as _);
    let stages = [job(&["one"]), job(&["two"])];
    // Both workers are there once both have trained.
    while there.threads.lock().unwrap().is_empty() || unreachable.threads.lock().unwrap().is_empty() {
        std::thread::scope(|scope| {
            for stage in &stages {
                scope.spawn(|| owner.session.train(stage, &Silent).unwrap());
            }
        });
    }
    owner.session.forget(&[digest("record")]);
    assert_eq!(*there.forgotten.lock().unwrap(), [digest("record")]);
    assert_eq!(*unreachable.forgotten.lock().unwrap(), [digest("record")]);
    assert!(!ended.load(Ordering::SeqCst));

    proxy.freeze();
    owner.session.forget_all();
    assert_eq!(there.forgotten_all.load(Ordering::SeqCst), 1);
    assert_eq!(unreachable.forgotten_all.load(Ordering::SeqCst), 0, "nothing reaches it");
    assert!(ended.load(Ordering::SeqCst), "the worker is there after its lease");
    assert!(!reached.load(Ordering::SeqCst), "the other goes on");
}

#[test]
fn a_deletion_ends_the_stage_that_holds_the_record_and_no_other() {
    let owner = owner(2, 0, 60.0);
    honest(&owner.call, 0);
    honest(&owner.call, 1);
    let (mut hit, mut other) = (job(&["endless"]), job(&["endless", "other"]));
    hit.records[0].digest = digest("deleted");
    other.records.retain(|record| record.digest != digest("deleted"));
    let (hit_runs, other_runs) = (Notes::default(), Notes::default());
    std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&hit, &hit_runs));
        let going_on = scope.spawn(|| owner.session.train(&other, &other_runs));
        while hit_runs.steps() == 0 || other_runs.steps() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        owner.session.forget(&[digest("deleted")]);
        assert_eq!(training.join().unwrap(), Err(ExecutorError::Cancelled(hit.key())));
        let before = other_runs.steps();
        while other_runs.steps() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        other_runs.stop.store(true, Ordering::SeqCst);
        assert_eq!(going_on.join().unwrap(), Err(ExecutorError::Cancelled(other.key())));
    });
}

#[derive(Default)]
struct Notes {
    steps: AtomicUsize,
    stop: AtomicBool,
}

impl Notes {
    fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }
}

impl StageProgress for Notes {
    fn step(&self, _step: Step) -> std::ops::ControlFlow<()> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        std::ops::ControlFlow::Continue(())
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn say(owner: &Owner, ending: Ending, words: &str) {
    owner.engine.tasks.lock().unwrap()[0].state = TaskState::Ended(ending, words.into());
}

#[test]
fn a_task_that_was_preempted_is_replaced_without_end() {
    let owner = owner(1, 0, 60.0);
    for _ in 0..5 {
        say(&owner, Ending::Again, "PREEMPTED");
        assert_eq!(owner.calls.recv_timeout(Duration::from_secs(60)).unwrap().0, 1);
        owner.engine.tasks.lock().unwrap()[0] = queued(0);
        std::thread::sleep(Duration::from_millis(300));
    }
    honest(&owner.call, 0);
    owner.session.train(&job(&["one"]), &Silent).unwrap();
}

#[test]
fn workers_that_fail_before_they_join_are_replaced_so_often_and_then_named() {
    let owner = owner(1, 2, 60.0);
    let error = std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&job(&["one"]), &Silent));
        for number in 0..3 {
            owner.engine.tasks.lock().unwrap()[0] =
                Task { name: format!("1_{number}"), state: TaskState::Ended(Ending::Failed, "FAILED (1:0)".into()) };
            if number < 2 {
                assert_eq!(owner.calls.recv_timeout(Duration::from_secs(60)).unwrap().0, 1);
            }
        }
        training.join().unwrap().unwrap_err()
    });
    let message = error.to_string();
    assert!(message.contains("3 workers ended before they joined"), "{message}");
    assert!(message.contains("task 1_2: FAILED (1:0); the end of its log: last words of 1_2"), "{message}");
}

#[test]
fn a_task_that_somebody_cancelled_is_not_replaced() {
    let owner = owner(1, 5, 60.0);
    say(&owner, Ending::Final, "CANCELLED by 0");
    let error = owner.session.train(&job(&["one"]), &Silent).unwrap_err().to_string();
    assert!(error.contains("no worker is left") && error.contains("CANCELLED by 0"), "{error}");
    assert!(owner.calls.try_recv().is_err(), "another worker was asked for");
}

#[test]
fn tasks_that_vanish_without_an_end_count_as_failed() {
    // Listed and gone, and taken and never listed.
    for is_listed in [true, false] {
        let owner = owner(1, 1, 60.0);
        let error = std::thread::scope(|scope| {
            let training = scope.spawn(|| owner.session.train(&job(&["one"]), &Silent));
            for number in 0..2 {
                *owner.engine.tasks.lock().unwrap() = if is_listed { vec![queued(number)] } else { Vec::new() };
                let looks = owner.engine.looks.load(Ordering::SeqCst);
                while owner.engine.looks.load(Ordering::SeqCst) < looks + 2 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                owner.engine.tasks.lock().unwrap().clear();
                if number == 0 {
                    assert_eq!(owner.calls.recv_timeout(Duration::from_secs(60)).unwrap().0, 1);
                }
            }
            training.join().unwrap().unwrap_err()
        });
        let message = error.to_string();
        assert!(message.contains("2 workers ended before they joined"), "{message}");
        let words =
            if is_listed { "test does not know it any more" } else { "test has taken 1 workers, and lists no task" };
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn no_job_leaves_and_no_lease_is_renewed_without_a_permit() {
    let owner = owner(1, 0, 3.0);
    let (stage, may) = (job(&["one"]), Arc::new(AtomicBool::new(false)));
    let permit = Arc::clone(&may);
    owner.session.permit(Some(Arc::new(move |time| {
        // Asked for the time for which a worker may remember: a lease, by the slowest clock.
        assert!(time > Duration::from_secs(3), "{time:?}");
        permit.load(Ordering::SeqCst)
    })));
    let trainer = Arc::new(Counting::default());
    let ended = worker(&owner.call, 0, Arc::clone(&trainer) as _);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&stage, &Silent));
        // Nobody renews its lease: it ends, and has had no job.
        while !ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(trainer.threads.lock().unwrap().is_empty());
        may.store(true, Ordering::SeqCst);
        honest(&owner.call, 1);
        assert_eq!(training.join().unwrap().unwrap(), trained(&stage, STEPS));
    });
}

/// Takes one step, and then a step that lasts until it is let go.
#[derive(Default)]
struct LongStep {
    goes_on: AtomicBool,
}

impl Trainer for LongStep {
    fn environment(&self) -> s3t_core::NumericEnvironment {
        environment()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let step = |done| progress.step(Step { done, steps: 2, records: 1, loss: 0.5 });
        if step(1).is_continue() {
            while !self.goes_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if step(2).is_continue() {
                return Ok(trained(job, 2));
            }
        }
        Err(ExecutorError::Cancelled(job.key()))
    }

    fn forget(&self, _records: &[s3t_core::Digest]) {}

    fn forget_all(&self) {}
}

#[test]
fn a_worker_in_the_middle_of_a_long_step_is_not_cut_off_by_a_deletion() {
    let owner = owner(1, 0, 60.0);
    let trainer = Arc::new(LongStep::default());
    let ended = worker(&owner.call, 0, Arc::clone(&trainer) as _);
    let hit = job(&["one"]);
    let notes = Notes::default();
    std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&hit, &notes));
        while notes.steps() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let forgetting = scope.spawn(|| owner.session.forget(&[hit.records[0].digest]));
        // Longer than a worker may hang.
        std::thread::sleep(Duration::from_secs(5));
        assert!(!forgetting.is_finished(), "the worker has the record still");
        trainer.goes_on.store(true, Ordering::SeqCst);
        assert_eq!(training.join().unwrap(), Err(ExecutorError::Cancelled(hit.key())));
        forgetting.join().unwrap();
    });
    assert!(!ended.load(Ordering::SeqCst));
    assert_eq!(owner.session.train(&job(&["two"]), &Silent).unwrap(), trained(&job(&["two"]), 2));
}

#[test]
fn a_worker_that_a_deletion_cuts_off_does_not_count_against_its_stage() {
    // A stage that loses one worker is given up.
    let owner = owner(2, 0, 8.0);
    let proxy = Proxy::to(&owner.call.address);
    let through = Call { address: proxy.address(), ..owner.call.clone() };
    worker(&through, 0, Arc::new(Counting::default()));
    let stage = job(&["endless"]);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| owner.session.train(&stage, &AtEachStep(|| proxy.freeze())));
        while !proxy.is_frozen() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Its stage has nothing to do with the deletion.
        owner.session.forget(&[digest("deleted")]);
        worker(&owner.call, 1, Arc::new(Finite));
        assert_eq!(training.join().unwrap().unwrap(), trained(&stage, 1));
    });
}
