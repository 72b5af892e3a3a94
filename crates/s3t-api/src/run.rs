//! `run`: the whole story: train, evaluate, delete, evaluate, verify.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use s3t_core::Record;
use s3t_engine::{EngineError, Observer, Pipeline, Quiet, System};
use s3t_eval::BaselineModel;
use s3t_executor::{Silent, StageProgress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::asked::{Asked, ask, prompts};
use crate::deletion::{Deletion, delete_in};
use crate::evaluation::{Evaluation, evaluate_in};
use crate::open::Start;
use crate::planning::{PlanFigures, plan_of};
use crate::reply::{Reply, unless};
use crate::training::{Training, train_in};
use crate::verification::{Verification, verify_in};
use crate::{ApiError, ErrorKind};

/// The request to run a pipeline from training to verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The start.
    #[serde(default)]
    pub start: Start,
}

/// The answer to `run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunAnswer {
    /// The deletions that a store which was deleted first had accepted, if it had accepted any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_after: Option<u64>,
    /// The plan.
    pub plan: PlanFigures,
    /// The training.
    pub training: Training,
    /// Ordinary fine-tuning of all blocks on all data, if `run.baseline` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// The evaluation before the deletion.
    pub before: Evaluation,
    /// The answers to the prompts of `run.ask` before the deletion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_before: Vec<Asked>,
    /// The deletion of the records and subjects that the pipeline names, unless it names nothing or an earlier run has done it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// The evaluation after the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Evaluation>,
    /// The answers to the same prompts after the deletion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_after: Vec<Asked>,
    /// The verification.
    pub verification: Verification,
}

impl Reply for RunAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        unless(self.verification.passed)
    }
}

/// The score of ordinary fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// The score on the test data.
    pub score: f64,
    /// Passes over all records.
    pub epochs: usize,
}

/// A step of a run, which begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStep {
    /// The store is open.
    Plan,
    /// The stages, and the baseline beside them, are about to be trained.
    Training,
    /// The test data is about to be answered.
    Evaluation,
    /// The named records and subjects are about to be deleted.
    Deletion,
    /// The test data is about to be answered again.
    EvaluationAfter,
    /// The stages are about to be trained again.
    Verification,
}

/// A finished part of a run. As JSON, the field of [`RunAnswer`] with its value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPart<'a> {
    /// The deletions that a store which was deleted first had accepted.
    RestartedAfter(u64),
    /// The plan.
    Plan(&'a PlanFigures),
    /// The training.
    Training(&'a Training),
    /// The score of ordinary fine-tuning.
    Baseline(&'a Baseline),
    /// The evaluation before the deletion.
    Before(&'a Evaluation),
    /// The answers to the prompts of `run.ask` before the deletion, if there are any.
    AskedBefore(&'a [Asked]),
    /// The deletion.
    Deletion(&'a Deletion),
    /// The evaluation after the deletion.
    After(&'a Evaluation),
    /// The answers to the same prompts after the deletion.
    AskedAfter(&'a [Asked]),
    /// The verification.
    Verification(&'a Verification),
}

/// The reason why a run deletes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NothingDeleted {
    /// The pipeline names no record and no subject.
    NothingNamed,
    /// An earlier run has deleted what the pipeline names.
    DoneBefore,
}

/// Watches a run.
pub trait RunObserver: Sync {
    /// The observer of the stages of a step.
    fn progress(&self, step: RunStep) -> &dyn Observer;

    /// Called when a step begins.
    fn begins(&self, _step: RunStep, _system: &System) {}

    /// Called when a part is finished.
    fn finished(&self, _part: &RunPart<'_>) {}

    /// Called in the place of the deletion if there is none.
    fn deletes_nothing(&self, _reason: NothingDeleted) {}

    /// The progress of the baseline, which takes so many optimiser steps.
    fn baseline(&self, _steps: usize) -> Box<dyn StageProgress + Send + '_> {
        Box::new(Silent)
    }
}

impl RunObserver for Quiet {
    fn progress(&self, _step: RunStep) -> &dyn Observer {
        self
    }
}

/// Trains, evaluates, deletes the records and subjects that the pipeline names, evaluates again, and verifies.
///
/// Test data that the model cannot take and unknown records and subjects are refused before the training.
///
/// # Errors
///
/// The kind of the first failure; finished stages and the deletion stand.
pub fn run(request: &RunRequest, observer: &dyn RunObserver) -> Result<RunAnswer, ApiError> {
    let pipeline = Pipeline::read(&request.pipeline)?;
    // A pipeline without test data is refused before a store is made or deleted.
    pipeline.test_source()?;
    let (system, restarted_after) = request.start.open(pipeline)?;
    if let Some(deletions) = restarted_after {
        observer.finished(&RunPart::RestartedAfter(deletions));
    }
    let test = system.pipeline().read_test_data()?;
    system.check_questions(&test)?;
    let prompts = prompts(&system)?;
    system.check_questions(&prompts)?;
    let due = system.run_request()?;

    observer.begins(RunStep::Plan, &system);
    let plan = plan_of(&system)?;
    observer.finished(&RunPart::Plan(&plan));
    observer.begins(RunStep::Training, &system);
    let (training, baseline) = train_beside(&system, observer)?;

    observer.begins(RunStep::Evaluation, &system);
    let before = evaluate_in(&system, &test)?;
    let baseline = baseline.map(|model| score(&model, &test)).transpose()?;
    if let Some(baseline) = &baseline {
        observer.finished(&RunPart::Baseline(baseline));
    }
    observer.finished(&RunPart::Before(&before));
    let asked_before = ask(&system, &prompts)?;
    if !asked_before.is_empty() {
        observer.finished(&RunPart::AskedBefore(&asked_before));
    }

    let (mut deletion, mut after, mut asked_after) = (None, None, Vec::new());
    match due {
        s3t_engine::RunRequest::Nothing => observer.deletes_nothing(NothingDeleted::NothingNamed),
        s3t_engine::RunRequest::Done => observer.deletes_nothing(NothingDeleted::DoneBefore),
        s3t_engine::RunRequest::Due(due) => {
            observer.begins(RunStep::Deletion, &system);
            let (answer, _) = delete_in(&system, &due)?;
            observer.finished(&RunPart::Deletion(deletion.insert(answer.deletion)));
            observer.begins(RunStep::EvaluationAfter, &system);
            observer.finished(&RunPart::After(after.insert(evaluate_in(&system, &test)?)));
            asked_after = ask(&system, &prompts)?;
            if !asked_after.is_empty() {
                observer.finished(&RunPart::AskedAfter(&asked_after));
            }
        }
    }

    observer.begins(RunStep::Verification, &system);
    let verification =
        verify_in(&system, system.pipeline().run.verify, observer.progress(RunStep::Verification))?.verification;
    observer.finished(&RunPart::Verification(&verification));
    Ok(RunAnswer {
        restarted_after,
        plan,
        training,
        baseline,
        before,
        asked_before,
        deletion,
        after,
        asked_after,
        verification,
    })
}

fn score(model: &BaselineModel, test: &[Record]) -> Result<Baseline, ApiError> {
    Ok(Baseline { score: model.score(test)?, epochs: model.epochs })
}

/// Trains the stages, and the baseline beside them as one more job.
fn train_beside(system: &System, observer: &dyn RunObserver) -> Result<(Training, Option<BaselineModel>), ApiError> {
    let baseline = if system.pipeline().run.baseline { Some(s3t_eval::Baseline::new(system)?) } else { None };
    let progress = baseline.as_ref().map(|baseline| observer.baseline(baseline.steps()));
    let slot = Mutex::new(baseline.zip(progress));
    // Whichever thread comes first trains the baseline.
    let train = || -> Option<Result<BaselineModel, EngineError>> {
        let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(baseline, progress)| baseline.train(&*progress))
    };
    let (training, baseline) = std::thread::scope(|scope| {
        let beside = std::thread::Builder::new().spawn_scoped(scope, train);
        let training = train_in(system, observer.progress(RunStep::Training));
        let baseline = match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The machine starts no thread: the baseline is trained now.
            Err(_) => train(),
        };
        (training, baseline)
    });
    let training = training?;
    observer.finished(&RunPart::Training(&training));
    Ok((training, baseline.transpose()?))
}
