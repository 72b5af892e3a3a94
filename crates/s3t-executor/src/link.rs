//! The owner's half of the protocol: a worker at the other end of two byte streams.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use s3t_core::{Digest, NumericEnvironment};
use zeroize::Zeroizing;

use crate::message::Failure;
use crate::parcels::{Lacking, Parcels};
use crate::{
    Answer, ExecutorError, Relay, Request, SentJob, StageJob, StageProgress, TrainedStage, WorkerSettings, read_frame,
    write_frame,
};

/// The time that a worker has to drop a cancelled job that nobody waits for. A step may take longer: then the worker is not fit any more.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// A worker that has given no sign of life for this time hangs: it gives one every second.
const HANGS_AFTER: Duration = Duration::from_secs(3);

type Frame = Zeroizing<Vec<u8>>;

/// A worker, as the owner of the store sees it. The worker ends when the link and its handles are dropped, which closes its input.
///
/// # Proof note
///
/// *Before*: a worker answers, late, doubly or for another stage. *After*: [`train`](Self::train) returns what the worker answered
/// for this job, or an error. *Why*: every job has a number of its own that its answers name; an answer with a lower number is
/// dropped, with a higher number it ends the link; the result names the stage, and is compared with the one that was asked for.
pub struct Link {
    name: String,
    environment: NumericEnvironment,
    handle: LinkHandle,
    /// Answers, without signs of life.
    incoming: Receiver<Incoming>,
    number: u64,
    silence: Duration,
    is_fit: bool,
}

type Incoming = Result<Answer, ExecutorError>;

impl Link {
    /// Greets a worker and waits until it has loaded the base model. `name` names the worker in messages; a worker that shows no sign
    /// of life for `silence` has died.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::StartFailed`] with the worker's own words, [`ExecutorError::WorkerDied`], [`ExecutorError::TimedOut`],
    /// [`ExecutorError::Damaged`] or [`ExecutorError::OtherVersion`].
    pub fn open(
        name: impl Into<String>,
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        settings: &WorkerSettings,
        silence: Duration,
    ) -> Result<Self, ExecutorError> {
        let name = name.into();
        let heard = Arc::new(Heard::default());
        let (frames, outgoing) = mpsc::channel();
        let frames = Arc::new(frames);
        let (answers, incoming) = mpsc::channel();
        let failed = |error: std::io::Error| ExecutorError::StartFailed {
            place: name.clone(),
            problem: format!("no thread can be started for it ({error}); raise the limit of processes (`ulimit -u`)"),
        };
        std::thread::Builder::new().spawn(move || write_all(writer, &outgoing)).map_err(failed)?;
        let (noted, replies) = (Arc::clone(&heard), Arc::downgrade(&frames));
        std::thread::Builder::new().spawn(move || read_all(reader, &answers, &noted, &replies)).map_err(failed)?;
        let handle = LinkHandle { frames, heard, silence };
        handle.send(&Request::Hello(settings.clone()))?;
        let environment = loop {
            match incoming.recv_timeout(silence.saturating_sub(handle.silent_for())) {
                Ok(Ok(Answer::Ready(environment))) => break environment,
                Ok(Ok(Answer::Unfit(problem))) => return Err(ExecutorError::StartFailed { place: name, problem }),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) if handle.silent_for() < silence => {}
                Err(RecvTimeoutError::Timeout) => return Err(timed_out(&name, silence)),
                Err(RecvTimeoutError::Disconnected) => return Err(died(&name)),
            }
        };
        Ok(Self { name, environment, handle, incoming, number: 0, silence, is_fit: true })
    }

    /// The arithmetic of the worker.
    pub fn environment(&self) -> &NumericEnvironment {
        &self.environment
    }

    /// Returns `true` while the worker can be given the next job. A link that is not fit is to be dropped, and its worker ended.
    pub fn is_fit(&self) -> bool {
        self.is_fit
    }

    /// Tells the worker why it is not taken, and drops the link to it.
    pub fn dismiss(self, reason: String) {
        let _ = self.handle.send(&Request::Dismiss(reason));
    }

    /// A handle that tells the worker what to forget, whatever it trains meanwhile.
    pub fn handle(&self) -> LinkHandle {
        self.handle.clone()
    }

    /// Has the worker train a stage.
    ///
    /// # Errors
    ///
    /// As [`Trainer::train`](crate::Trainer::train), and [`ExecutorError::WrongAnswer`].
    pub fn train(&mut self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        self.train_by(job, progress, None)
    }

    /// Has the worker train a stage of which large parts travel as objects, where there is a relay. Where the owner cannot leave
    /// them, everything goes over the link.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train), and [`ExecutorError::Unfetched`]: then the stage is to be given without the relay.
    pub fn train_by(
        &mut self,
        job: &StageJob,
        progress: &dyn StageProgress,
        relay: Option<&Relay>,
    ) -> Result<TrainedStage, ExecutorError> {
        let result = self.run(job, progress, relay);
        if let Err(error) = &result {
            let is_of_the_job = matches!(
                error,
                ExecutorError::Training { .. }
                    | ExecutorError::Cancelled(_)
                    | ExecutorError::Refused { .. }
                    | ExecutorError::Unfetched { .. }
            );
            self.is_fit &= is_of_the_job;
        }
        result
    }

    fn run(
        &mut self,
        job: &StageJob,
        progress: &dyn StageProgress,
        relay: Option<&Relay>,
    ) -> Result<TrainedStage, ExecutorError> {
        let key = job.key();
        if progress.is_cancelled() {
            return Err(ExecutorError::Cancelled(key));
        }
        self.number += 1;
        let number = self.number;
        let mut threads = progress.threads();
        let parcels = match relay.map(|relay| self.handle.send_parcels(number, threads, job, relay)) {
            Some(Ok(parcels)) => Some(parcels),
            Some(Err(failure)) => {
                relay.into_iter().for_each(|relay| relay.rest(&failure));
                None
            }
            None => None,
        };
        if parcels.is_none() {
            self.handle.send_job(number, threads, job)?;
        }
        let mut looked = Instant::now();
        loop {
            let every = progress.look_every();
            let received = self.incoming.recv_timeout(every.saturating_sub(looked.elapsed()));
            if looked.elapsed() >= every {
                looked = Instant::now();
                if progress.is_cancelled() {
                    return Err(self.cancel(job, progress));
                }
                let now = progress.threads();
                if now != threads {
                    threads = now;
                    self.handle.send(&Request::Threads(threads))?;
                }
            }
            let answer = match received {
                Ok(answer) => answer?,
                Err(RecvTimeoutError::Disconnected) => return Err(died(&self.name)),
                Err(RecvTimeoutError::Timeout) if self.handle.silent_for() > self.silence => {
                    return Err(timed_out(&self.name, self.silence));
                }
                Err(RecvTimeoutError::Timeout) => continue,
            };
            match answer {
                Answer::Step(of, step) if of == number => {
                    if let ControlFlow::Break(()) = progress.step(step) {
                        return Err(self.cancel(job, progress));
                    }
                }
                Answer::Trained(of, stage) if of == number => {
                    if stage.key != key {
                        let (worker, answered) = (self.name.clone(), stage.key);
                        return Err(ExecutorError::WrongAnswer { worker, asked: key, answered });
                    }
                    return Ok(stage);
                }
                Answer::Left(of, mut stage, content) if of == number => {
                    if stage.key != key {
                        let (worker, answered) = (self.name.clone(), stage.key);
                        return Err(ExecutorError::WrongAnswer { worker, asked: key, answered });
                    }
                    let Some((parcels, relay)) = parcels.as_ref().zip(relay) else {
                        let problem = "it has left its result where nobody asked for it";
                        return Err(ExecutorError::Damaged(format!("from {}: {problem}", self.name)));
                    };
                    stage.tensors.blocks =
                        relay.take(&parcels.result, content).map_err(|error| ExecutorError::Unfetched {
                            worker: format!("the result of {}", self.name),
                            problem: error.to_string(),
                        })?;
                    return Ok(stage);
                }
                Answer::Failed(of, failure) if of == number => {
                    return Err(match failure {
                        Failure::Unfetched(problem) => {
                            // Whatever it has, it is sent again.
                            self.handle.kept().clear();
                            ExecutorError::Unfetched { worker: self.name.clone(), problem }
                        }
                        Failure::Cancelled => ExecutorError::Cancelled(key),
                        Failure::Training(message) => ExecutorError::Training { key, message },
                        Failure::Refused(problem) => ExecutorError::Refused { worker: self.name.clone(), problem },
                    });
                }
                other => self.aside(&other)?,
            }
        }
    }

    /// Tells the worker that nobody wants the job any more, and waits for it to drop the job.
    fn cancel(&mut self, job: &StageJob, progress: &dyn StageProgress) -> ExecutorError {
        let number = self.number;
        let asked = Instant::now();
        let mut is_dropped = false;
        if self.handle.send(&Request::Cancel(number)).is_ok() {
            while !is_dropped {
                let patience = if progress.waits_for_step() { self.silence } else { CANCEL_PATIENCE };
                let waited = asked.elapsed();
                if waited >= patience || waited >= CANCEL_PATIENCE && self.handle.hangs() {
                    break;
                }
                match self
                    .incoming
                    .recv_timeout(CANCEL_PATIENCE.min(patience.saturating_sub(waited)).min(progress.look_every()))
                {
                    // A result that comes after the cancellation is dropped.
                    Ok(Ok(Answer::Trained(of, _) | Answer::Left(of, ..) | Answer::Failed(of, _))) => {
                        is_dropped = of == number;
                    }
                    Ok(Ok(_)) | Err(RecvTimeoutError::Timeout) => {}
                    Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        }
        self.is_fit &= is_dropped;
        ExecutorError::Cancelled(job.key())
    }

    /// Takes an answer that is not about the job that was asked for.
    fn aside(&self, answer: &Answer) -> Result<(), ExecutorError> {
        let of = match answer {
            Answer::Unfit(problem) => {
                return Err(ExecutorError::WorkerDied { worker: self.name.clone(), problem: problem.clone() });
            }
            Answer::Damaged(problem) => {
                return Err(ExecutorError::Damaged(format!("sent to {}: {problem}", self.name)));
            }
            Answer::Step(of, _) | Answer::Trained(of, _) | Answer::Left(of, ..) | Answer::Failed(of, _) => *of,
            Answer::Alive | Answer::Ready(_) | Answer::Forgot(_) | Answer::Renew(_) => return Ok(()),
        };
        if of > self.number {
            return Err(ExecutorError::Damaged(format!(
                "from {}: it answers for job {of}, which it was not given",
                self.name
            )));
        }
        // A late answer for a job that was cancelled.
        Ok(())
    }
}

fn died(name: &str) -> ExecutorError {
    ExecutorError::WorkerDied { worker: name.into(), problem: "its output was closed".into() }
}

fn timed_out(name: &str, silence: Duration) -> ExecutorError {
    ExecutorError::TimedOut { worker: name.into(), seconds: silence.as_secs_f64() }
}

/// Tells a worker what to forget. Once the link and all handles are dropped, no lease of the worker is renewed any more.
#[derive(Clone)]
pub struct LinkHandle {
    frames: Arc<Sender<Frame>>,
    heard: Arc<Heard>,
    silence: Duration,
}

/// Everything that was heard of a worker besides its answers for jobs.
#[derive(Default)]
struct Heard {
    state: Mutex<HeardState>,
    changed: Condvar,
    /// The records that the worker keeps of its last job.
    kept: Mutex<BTreeSet<Digest>>,
    /// Says whether the lease of the worker may be renewed now.
    renews: OnceLock<Renews>,
}

type Renews = Box<dyn Fn() -> bool + Send + Sync>;

struct HeardState {
    /// The moment of the last bytes.
    last: Instant,
    /// The last request to forget.
    asked: u64,
    /// The last request to forget that was done.
    done: u64,
    /// The stream of the worker has ended.
    is_over: bool,
}

impl Default for HeardState {
    fn default() -> Self {
        Self { last: Instant::now(), asked: 0, done: 0, is_over: false }
    }
}

impl LinkHandle {
    /// The time since the last bytes of the worker.
    pub fn silent_for(&self) -> Duration {
        self.heard.lock().last.elapsed()
    }

    /// Returns `true` once the stream of the worker has ended. The program of a worker in a child process has ended then; one on another
    /// machine may have lost its connection only.
    pub fn is_over(&self) -> bool {
        self.heard.lock().is_over
    }

    /// Returns `true` if the worker has given no sign of life for so long that it hangs. One that sends or receives much, or that is in the
    /// middle of a long step, gives signs all the while.
    pub fn hangs(&self) -> bool {
        self.silent_for() > HANGS_AFTER
    }

    /// Renews the lease of the worker only while `renews` says so.
    pub fn renew_while(&self, renews: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.heard.renews.set(Box::new(renews));
    }

    /// Has the worker drop what it remembers of these records, or of all with `None`, and waits for it: `false` if it gives no sign of life
    /// for `patience`, or has not said that it did within the time after which it counts as lost. End the worker then.
    pub fn forget(&self, records: Option<&[Digest]>, patience: Duration) -> bool {
        let number = {
            let mut state = self.heard.lock();
            state.asked += 1;
            state.asked
        };
        {
            let mut kept = self.kept();
            match records {
                Some(records) => records.iter().for_each(|record| _ = kept.remove(record)),
                None => kept.clear(),
            }
            if self.send(&Request::Forget { number, records: records.map(<[Digest]>::to_vec) }).is_err() {
                return self.is_over();
            }
        }
        let asked = Instant::now();
        let mut state = self.heard.lock();
        while state.done < number && !state.is_over {
            let (waited, silent) = (asked.elapsed(), state.last.elapsed());
            if waited > self.silence || waited.min(silent) > patience {
                return false;
            }
            let left = self.silence.saturating_sub(waited).min(patience.saturating_sub(waited.min(silent)));
            let waited = self.heard.changed.wait_timeout(state, left + Duration::from_millis(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Sends a job without the records that the worker has.
    fn send_job(&self, number: u64, threads: usize, job: &StageJob) -> Result<(), ExecutorError> {
        let mut kept = self.kept();
        self.send(&Request::Job { number, key: job.key(), threads, job: SentJob::new(job, &kept) })?;
        *kept = job.records.iter().map(|record| record.digest).collect();
        Ok(())
    }

    /// Sends a job of which the large parts are objects.
    fn send_parcels<'a>(
        &self,
        number: u64,
        threads: usize,
        job: &'a StageJob,
        relay: &'a Relay,
    ) -> Result<Parcels<'a>, ExecutorError> {
        let mut parcels = Parcels::new(relay, job)?;
        let (Lacking { new, of_records }, mut kept) = parcels.lacking(|| self.kept())?;
        let sent = SentJob::in_parcels(&parcels, new, of_records);
        self.send(&Request::Job { number, key: job.key(), threads, job: sent })?;
        *kept = job.records.iter().map(|record| record.digest).collect();
        drop(kept);
        Ok(parcels)
    }

    /// Held while it changes and the frame that changes it at the worker's is sent.
    fn kept(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.heard.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, request: &Request<'_>) -> Result<(), ExecutorError> {
        // A worker that is gone is noticed where its answers are read.
        let _ = self.frames.send(write_frame(request)?);
        Ok(())
    }
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, HeardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut HeardState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A reader that notes when bytes come.
struct Noting<'a, R> {
    reader: R,
    heard: &'a Heard,
}

impl<R: Read> Read for Noting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.heard.lock().last = Instant::now();
        Ok(read)
    }
}

/// Writes frames until nobody sends any, or the worker is gone. A thread of its own, so that a worker that reads nothing keeps nobody
/// waiting.
fn write_all(mut writer: impl Write, frames: &Receiver<Frame>) {
    while let Ok(frame) = frames.recv() {
        if writer.write_all(&frame).and_then(|()| writer.flush()).is_err() {
            return;
        }
    }
}

fn read_all(reader: impl Read, answers: &Sender<Incoming>, heard: &Heard, replies: &Weak<Sender<Frame>>) {
    let mut reader = Noting { reader, heard };
    loop {
        let answer = match read_frame(&mut reader) {
            Ok(None) => break,
            Ok(Some(Answer::Forgot(number))) => {
                heard.note(|state| state.done = state.done.max(number));
                continue;
            }
            Ok(Some(Answer::Alive)) => continue,
            Ok(Some(Answer::Renew(number))) => {
                // Nobody renews the lease of a worker that nobody holds.
                let may_renew = heard.renews.get().is_none_or(|renews| renews());
                if let (Some(replies), Ok(reply)) =
                    (replies.upgrade().filter(|_| may_renew), write_frame(&Request::Renewed(number)))
                {
                    let _ = replies.send(reply);
                }
                continue;
            }
            Ok(Some(answer)) => Ok(answer),
            Err(error) => Err(error),
        };
        let is_last = answer.is_err();
        if answers.send(answer).is_err() || is_last {
            break;
        }
    }
    heard.note(|state| state.is_over = true);
}
