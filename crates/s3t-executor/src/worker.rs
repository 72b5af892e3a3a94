//! A worker: trains the jobs that come in on a byte stream.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use s3t_core::StageKey;

use crate::kept::{Coming, ResultPlace};
use crate::lease::{Lease, LeaseClock};
use crate::message::Failure;
use crate::sealed::to_bytes;
use crate::{
    Answer, ExecutorError, Kept, LAUNCH_OBJECT, ObjectFolder, ObjectKind, Request, StageJob, StageProgress, Step,
    TrainedStage, Trainer, WorkerSettings, read_frame, write_frame,
};

/// The time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// The loss for which a worker ends in the middle of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkEnd {
    /// The owner is gone: there is nothing more to do.
    Owner,
    /// The lease: the owner was not heard for so long, and may still be there.
    Lease,
}

/// Works for the owner at the other end of `input` and `output` until it closes `input`: loads the base model as the first frame
/// says, then trains one job after the other. `closed` is called, on another thread, as soon as the owner is gone: a program may end
/// there, in the middle of a step. With a lease it is called too when the lease ends, and has to end the program: what the worker
/// remembers goes with it.
///
/// # Errors
///
/// The failure of `load`, [`ExecutorError::Damaged`] and [`ExecutorError::OtherVersion`] for a frame that cannot be read, and
/// [`ExecutorError::StartFailed`] if the machine starts no thread. The owner is told before this returns.
pub fn work<L>(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    lease: Option<Lease>,
    load: L,
    closed: impl FnOnce(WorkEnd) + Send + 'static,
) -> Result<(), ExecutorError>
where
    L: FnOnce(&WorkerSettings) -> Result<Arc<dyn Trainer>, ExecutorError>,
{
    work_with_objects(input, output, lease, None, load, closed)
}

/// Works as [`work`] does, where large parts of jobs and results may be in this folder of object storage.
///
/// # Errors
///
/// As [`work`], and [`ExecutorError::StartFailed`] if the folder cannot be read. The owner is told before this returns.
pub fn work_with_objects<L>(
    mut input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    lease: Option<Lease>,
    objects: Option<Arc<dyn ObjectFolder>>,
    load: L,
    closed: impl FnOnce(WorkEnd) + Send + 'static,
) -> Result<(), ExecutorError>
where
    L: FnOnce(&WorkerSettings) -> Result<Arc<dyn Trainer>, ExecutorError>,
{
    let shared = Arc::new(Shared {
        lease: lease.map(LeaseClock::new),
        objects,
        output: Mutex::new(Box::new(output)),
        threads: AtomicUsize::new(1),
        cancelled: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        kept: Mutex::default(),
        trainer: OnceLock::new(),
        failure: OnceLock::new(),
    });
    let _end = End(&shared);
    let closed = Arc::new(Closed(Mutex::new(Some(Box::new(closed)))));
    if shared.lease.is_some() {
        let (leased, closed) = (Arc::clone(&shared), Arc::clone(&closed));
        start(move || {
            if leased.lease.as_ref().is_some_and(LeaseClock::wait_for_end) {
                closed.call(WorkEnd::Lease);
            }
        })?;
    }
    let told = |error: ExecutorError| {
        shared.send(&Answer::Unfit(error.to_string()));
        error
    };
    let settings = match read_frame(&mut input).map_err(told)? {
        None => return Ok(()),
        Some(Request::Hello(settings)) => settings,
        Some(_) => return Err(told(ExecutorError::Damaged("it came before the settings of the worker".into()))),
    };
    let (give, jobs) = mpsc::channel();
    let beating = Arc::clone(&shared);
    start(move || beating.beat()).map_err(told)?;
    let listening = Arc::clone(&shared);
    start(move || {
        match listening.listen(input, &give) {
            Ok(()) => closed.call(WorkEnd::Owner),
            Err(error) => {
                listening.send(&Answer::Damaged(error.to_string()));
                let _ = listening.failure.set(error);
            }
        }
        listening.is_over.store(true, Ordering::Release);
    })
    .map_err(told)?;
    if let Some(Err(error)) = shared.objects.as_ref().map(|objects| objects.get(LAUNCH_OBJECT)) {
        let problem = format!("{error}; a worker needs its own credentials for the object storage, in its environment");
        return Err(told(ExecutorError::StartFailed { place: "this worker".into(), problem }));
    }
    let trainer = load(&settings).map_err(told)?;
    // The thread that listens has not set another.
    let trainer = shared.trainer.get_or_init(|| trainer);
    shared.send(&Answer::Ready(trainer.environment()));
    train_all(&shared, &**trainer, &settings, &jobs);
    shared.failure.get().cloned().map_or(Ok(()), Err)
}

fn start(work: impl FnOnce() + Send + 'static) -> Result<(), ExecutorError> {
    let started = std::thread::Builder::new().spawn(work);
    started.map(drop).map_err(|error| ExecutorError::StartFailed {
        place: "a thread of the worker".into(),
        problem: format!("{error}; raise the limit of processes (`ulimit -u`)"),
    })
}

fn train_all(shared: &Shared, trainer: &dyn Trainer, settings: &WorkerSettings, jobs: &Receiver<Given>) {
    while let Ok(given) = jobs.recv() {
        let number = given.number;
        let answer = match train(shared, trainer, settings, given) {
            Ok((stage, result)) => shared.answer(number, stage, result),
            Err(error) => Answer::Failed(number, Failure::from(error)),
        };
        shared.send(&answer);
    }
}

/// Trains a job, when all of it has come.
fn train(
    shared: &Shared,
    trainer: &dyn Trainer,
    settings: &WorkerSettings,
    Given { number, key, mut job }: Given,
) -> Result<(TrainedStage, Option<ResultPlace>), ExecutorError> {
    let watch = Watch { shared, number };
    job.fetch(shared.objects.as_deref(), &|| watch.is_cancelled())?;
    if let Some(missing) = job.missing() {
        return Err(ExecutorError::Damaged(format!("it names record {missing}, which was not sent")));
    }
    let whole = Wiped(job.job());
    shared.kept.lock().unwrap_or_else(PoisonError::into_inner).fill(&whole.0);
    let result = job.result.take();
    drop(job);
    checked(&whole.0, key, settings)?;
    Ok((trainer.train(&whole.0, &watch)?, result))
}

fn checked(job: &StageJob, key: StageKey, settings: &WorkerSettings) -> Result<(), ExecutorError> {
    if job.key() != key {
        return Err(ExecutorError::Damaged(format!("its lineage has the key {}, not {key}", job.key())));
    }
    let (expected, found) = (job.lineage.recipe.base, settings.base.digest);
    if expected != found {
        return Err(ExecutorError::OtherModel { expected, found });
    }
    Ok(())
}

/// A job that came in.
struct Given {
    number: u64,
    key: StageKey,
    job: Coming,
}

/// A job whose records are overwritten when it is dropped.
struct Wiped(StageJob);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// The call that says that the owner is gone. It is made once.
struct Closed(Mutex<Option<OnEnd>>);

type OnEnd = Box<dyn FnOnce(WorkEnd) + Send>;

impl Closed {
    fn call(&self, end: WorkEnd) {
        let call = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(call) = call {
            call(end);
        }
    }
}

struct Shared {
    lease: Option<LeaseClock>,
    objects: Option<Arc<dyn ObjectFolder>>,
    output: Mutex<Box<dyn Write + Send>>,
    threads: AtomicUsize,
    /// The highest number of a job that was cancelled.
    cancelled: AtomicU64,
    /// The owner is gone, or the worker ends.
    is_over: AtomicBool,
    /// The records of the last job.
    kept: Mutex<Kept>,
    trainer: OnceLock<Arc<dyn Trainer>>,
    /// The frame that could not be read.
    failure: OnceLock<ExecutorError>,
}

impl Shared {
    /// Sends an answer. An owner that is gone is noticed by the thread that listens.
    fn send(&self, answer: &Answer) {
        let Ok(frame) = write_frame(answer) else { return };
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if output.write_all(&frame).and_then(|()| output.flush()).is_err() {
            self.is_over.store(true, Ordering::Release);
        }
    }

    /// The answer of a job that is done. A large result is left as an object; where that cannot be, it goes over the link.
    fn answer(&self, number: u64, mut stage: TrainedStage, place: Option<ResultPlace>) -> Answer {
        let Some((folder, ResultPlace { slot, min })) = self.objects.as_deref().zip(place) else {
            return Answer::Trained(number, stage);
        };
        let left = match to_bytes(&stage.tensors.blocks) {
            Ok(bytes) if bytes.len() as u64 >= min => slot.leave(ObjectKind::Stage, bytes, folder).ok(),
            _ => None,
        };
        let Some(content) = left else { return Answer::Trained(number, stage) };
        stage.tensors.blocks.clear();
        Answer::Left(number, stage, content)
    }

    fn beat(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            self.send(&self.lease.as_ref().map_or(Answer::Alive, |lease| Answer::Renew(lease.ask())));
            std::thread::sleep(BEAT);
        }
    }

    /// Takes requests until the owner closes the stream.
    fn listen(&self, mut input: impl Read, jobs: &Sender<Given>) -> Result<(), ExecutorError> {
        loop {
            let Some(request) = read_frame::<Request<'_>>(&mut input)? else { return Ok(()) };
            match request {
                Request::Job { number, key, threads, job } => {
                    self.threads.store(threads, Ordering::Relaxed);
                    let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                    let coming = job.coming(&kept);
                    kept.expect(&coming);
                    // A worker that ends takes no more jobs.
                    let _ = jobs.send(Given { number, key, job: coming });
                }
                Request::Threads(threads) => self.threads.store(threads, Ordering::Relaxed),
                Request::Cancel(number) => drop(self.cancelled.fetch_max(number, Ordering::Relaxed)),
                Request::Forget { number, records } => {
                    self.kept.lock().unwrap_or_else(PoisonError::into_inner).forget(records.as_deref());
                    // A worker that has no trainer yet remembers nothing.
                    if let Some(trainer) = self.trainer.get() {
                        match records {
                            Some(records) => trainer.forget(&records),
                            None => trainer.forget_all(),
                        }
                    }
                    self.send(&Answer::Forgot(number));
                }
                Request::Renewed(number) => {
                    if let Some(lease) = &self.lease {
                        lease.renewed(number);
                    }
                }
                Request::Dismiss(reason) => {
                    let problem = format!("the owner of the store does not take it: {reason}");
                    return Err(ExecutorError::StartFailed { place: "this worker".into(), problem });
                }
                Request::Hello(_) => {
                    return Err(ExecutorError::Damaged("the settings of the worker came twice".into()));
                }
            }
        }
    }
}

/// Ends the signs of life, and the watch over the lease, when the worker ends.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        if let Some(lease) = &self.0.lease {
            lease.end();
        }
    }
}

/// Tells the owner of each step, and stops a job that was cancelled.
struct Watch<'a> {
    shared: &'a Shared,
    number: u64,
}

impl StageProgress for Watch<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        if self.is_cancelled() {
            return ControlFlow::Break(());
        }
        self.shared.send(&Answer::Step(self.number, step));
        ControlFlow::Continue(())
    }

    fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    fn is_cancelled(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire) || self.shared.cancelled.load(Ordering::Relaxed) >= self.number
    }
}
