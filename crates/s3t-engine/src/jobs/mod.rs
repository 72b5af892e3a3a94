//! Building stages: each missing one is given to the executor as soon as its parent is there.
//!
//! A stage has the same bits wherever and whenever it is trained, so the order in which stages are trained, and how many at once,
//! changes no bit of any of them.

mod hold;
mod making;
mod order;
mod queue;
mod watch;

use std::collections::BTreeSet;
use std::sync::mpsc;

use s3t_core::StageKey;
use s3t_core::tensors::StageTensors;
use s3t_executor::{ExecutorError, Session, StageJob, TrainedStage};
use s3t_store::{Snapshot, Store};
use s3t_train::check_isolation;

use crate::EngineError;
use crate::jobs::hold::Hold;
use crate::jobs::making::make_job;
use crate::jobs::queue::Queue;
use crate::jobs::watch::Watch;

pub use watch::{Observer, Quiet, StageLabel};

/// The place from which a build gets the stages that it builds on, and to which it gives those that it built.
pub(crate) trait Stages: Sync {
    /// The tensors of a stage that this build does not build.
    fn existing(&self, key: &StageKey) -> Result<StageTensors, EngineError>;

    /// Keeps a stage that was built; `false` if nobody wants it any more.
    fn built(&self, job: &StageJob, tensors: &StageTensors) -> Result<bool, EngineError>;

    /// Returns `true` if [`existing`](Self::existing) gives the stages that were built too: then the build holds no tensors.
    fn keeps(&self) -> bool;

    /// Returns `true` while a stage is wanted: no deletion has hit it.
    fn is_wanted(&self, _key: &StageKey) -> bool {
        true
    }
}

/// The means of a build: the executor and the threads that it may share out.
pub(crate) struct Means<'a> {
    pub(crate) session: &'a dyn Session,
    pub(crate) threads: usize,
}

/// A stage that a thread has trained and that the caller of the build is to keep.
struct Trained {
    job: StageJob,
    tensors: StageTensors,
    kept: mpsc::Sender<(StageTensors, Result<bool, EngineError>)>,
}

/// Builds the stages `wanted` of a snapshot's plan, each after its parent, and returns their number. Stages that nobody wants any more
/// are left out, with the stages that build on them.
///
/// Threads of the build train, and the caller keeps what they trained: so they may run behind others (see [`Observer::trains`]) without
/// holding the store while they wait for a processor.
pub(crate) fn build(
    store: &Store,
    snapshot: &Snapshot,
    means: &Means<'_>,
    stages: &dyn Stages,
    wanted: &BTreeSet<StageKey>,
    observer: &dyn Observer,
) -> Result<usize, EngineError> {
    if wanted.is_empty() {
        return Ok(0);
    }
    let span = tracing::Span::current();
    let capacity = means.session.capacity().get();
    let queue = Queue::new(snapshot, wanted, capacity, means.threads, !stages.keeps());
    let hold = Hold::new(store, means.session);
    let held = hold.begin(snapshot)?;
    let (to_keep, trained) = mpsc::channel::<Trained>();
    let keep = |job: StageJob, tensors: StageTensors, to_keep: Option<&mpsc::Sender<Trained>>| {
        let Some(to_keep) = to_keep else { return stages.built(&job, &tensors).map(|kept| kept.then_some(tensors)) };
        let (kept, reply) = mpsc::channel();
        // A caller that is gone unwinds, and nobody wants the stage.
        let sent = to_keep.send(Trained { job, tensors, kept }).ok().and_then(|()| reply.recv().ok());
        sent.map_or(Ok(None), |(tensors, result)| result.map(|is_kept| is_kept.then_some(tensors)))
    };
    let build_one =
        |key: &StageKey, to_keep: Option<&mpsc::Sender<Trained>>| -> Result<Option<StageTensors>, EngineError> {
            // Before it is looked at: whoever accepts a deletion later finds the stage in the list.
            let _running = hold.enter(*key);
            if !stages.is_wanted(key) {
                return Ok(None);
            }
            let (job, label) = make_job(store, snapshot, &queue, stages, key)?;
            let _job =
                tracing::info_span!("job", stage = %key, shard = label.shard.0, records = job.records.len()).entered();
            observer.stage_started(&label, job.records.len());
            let watch = Watch { queue: &queue, stages, observer, label: &label, hold: &hold };
            let trained = checked(&job, means.session.train(&job, &watch)?)?;
            let steps = trained.steps;
            let kept = keep(job, trained.tensors, to_keep)?;
            tracing::info!(steps, is_kept = kept.is_some(), "stage trained");
            observer.stage_finished(&label);
            Ok(kept)
        };
    let work = |to_keep: Option<&mpsc::Sender<Trained>>| {
        let _span = span.clone().entered();
        // A thread that unwinds must not leave the others waiting for its stage.
        let _guard = queue.stop_on_panic();
        while let Some(key) = queue.next() {
            let result = match build_one(&key, to_keep) {
                // Whatever fails in a stage that a deletion has hit fails because of it: its records or its parents are gone.
                Err(error) if !stages.is_wanted(&key) => {
                    tracing::info!(stage = %key, "stage dropped: a deletion has hit it");
                    drop(error);
                    Ok(None)
                }
                result => result,
            };
            queue.done(key, result);
        }
    };
    std::thread::scope(|scope| {
        let _end = hold.end_later();
        if let Some(held) = held {
            let hold = &hold;
            let started = |thread: std::io::Result<_>| {
                thread.map(drop).map_err(|_| EngineError::from(s3t_train::TrainError::NoThread))
            };
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let tell = |line: &str| observer.worker_said("objects", line);
            started(named("s3t-forget").spawn_scoped(scope, move || hold.forget_deleted(&tell)))?;
            started(named("s3t-hold").spawn_scoped(scope, move || hold.keep(held)))?;
        }
        let mut started = 0;
        for _ in 0..capacity.clamp(1, wanted.len()) {
            let to_keep = to_keep.clone();
            let worker = move || {
                observer.trains();
                work(Some(&to_keep));
            };
            let worker = std::thread::Builder::new().name("s3t-train".to_owned()).spawn_scoped(scope, worker);
            if worker.is_err() {
                break;
            }
            started += 1;
        }
        drop(to_keep);
        if started == 0 {
            // Where no threads can be started, the caller does everything.
            work(None);
            return Ok(());
        }
        let _guard = queue.stop_on_panic();
        for Trained { job, tensors, kept } in trained {
            let result = stages.built(&job, &tensors);
            // A thread that is gone has unwound, and has stopped the build.
            let _ = kept.send((tensors, result));
        }
        Ok::<(), EngineError>(())
    })?;
    queue.finish()
}

/// The stage as the executor gave it, if it is the one that was asked for. An executor is a plugin: whatever it trained and wherever,
/// the stage has the arithmetic that its lineage names, and holds its own layer group, head and centroid only.
fn checked(job: &StageJob, trained: TrainedStage) -> Result<TrainedStage, EngineError> {
    let asked = job.key();
    if trained.key != asked {
        let worker = "the executor".to_owned();
        return Err(ExecutorError::WrongAnswer { worker, asked, answered: trained.key }.into());
    }
    let expected = &job.lineage.recipe.environment;
    if trained.environment != *expected {
        let (stored, here) = (Box::new(expected.clone()), Box::new(trained.environment));
        return Err(EngineError::Environment { stored, here });
    }
    check_isolation(&job.lineage, &trained.tensors)?;
    Ok(trained)
}
