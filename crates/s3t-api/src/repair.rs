//! `repair`: trains again the stages that deletions cut off, once or whenever a deletion makes it due.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use s3t_engine::{Observer, RepairObserver, RepairPolicy, System};
use s3t_store::StoreError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::open::with_store;
use crate::parts::all;
use crate::reply::plain_answers;
use crate::status::ShardStatus;
use crate::training::BuildReport;

/// The request to repair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RepairRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Due only if shards serve with less than this share of their planned depth, in the mean: 0 to 1.
    #[serde(default)]
    pub below_depth: Option<f64>,
    /// Due only if somebody who picks slices could kill a shard with fewer requests than this.
    #[serde(default)]
    pub below_budget: Option<usize>,
    /// Stages built side by side; otherwise the number that the pipeline says.
    #[serde(default)]
    pub jobs: Option<usize>,
    /// The most minutes that one repair takes: above 0, at most a million.
    #[serde(default)]
    pub minutes: Option<f64>,
}

/// The answer to `repair`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RepairAnswer {
    /// The repair.
    pub repair: Repair,
    /// Each shard after the repair.
    pub shards: Vec<ShardStatus>,
}

plain_answers!(RepairAnswer);

/// A repair, with the time that it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Repair {
    /// The stages, and the reason.
    pub report: RepairReport,
    /// Seconds that the repair took.
    pub seconds: f64,
}

/// The stages of a repair, and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepairReport {
    /// Stages that were missing when the repair was decided.
    pub missing: usize,
    /// The reason why the repair was or was not due.
    pub reason: String,
    /// The build; `null` if the repair was not due.
    pub build: Option<BuildReport>,
    /// `true` if the repair was stopped by its limit of time.
    pub out_of_time: bool,
}

impl From<s3t_engine::RepairReport> for RepairReport {
    fn from(report: s3t_engine::RepairReport) -> Self {
        let s3t_engine::RepairReport { missing, reason, build, out_of_time } = report;
        Self { missing, reason, build: build.map(BuildReport::from), out_of_time }
    }
}

impl RepairRequest {
    /// A request to build every missing stage.
    pub fn new(pipeline: impl Into<PathBuf>) -> Self {
        Self { pipeline: pipeline.into(), below_depth: None, below_budget: None, jobs: None, minutes: None }
    }

    /// The policy that the request describes.
    ///
    /// # Errors
    ///
    /// A refused field: `below_depth` outside of 0 to 1, `minutes` that are not above 0 and at most a million.
    pub fn policy(&self) -> Result<RepairPolicy, ApiError> {
        if let Some(depth) = self.below_depth.filter(|depth| !(0.0..=1.0).contains(depth)) {
            return Err(ApiError::field("below_depth", format!("is {depth}; it takes a share from 0 to 1")));
        }
        if let Some(minutes) = self.minutes.filter(|minutes| !(*minutes > 0.0 && *minutes <= 1e6)) {
            let problem = format!("is {minutes}; it takes a number above 0, at most a million");
            return Err(ApiError::field("minutes", problem));
        }
        Ok(RepairPolicy {
            below_depth: self.below_depth,
            below_budget: self.below_budget,
            time: self.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
        })
    }

    fn open(&self) -> Result<System, ApiError> {
        let mut pipeline = with_store(&self.pipeline)?;
        if let Some(jobs) = self.jobs {
            pipeline = pipeline.change(|pipeline| pipeline.resources.jobs = jobs)?;
        }
        Ok(System::open(pipeline)?)
    }
}

/// Builds missing stages if the request's policy says that a repair is due.
///
/// # Errors
///
/// As [`RepairRequest::policy`] and [`System::repair`].
pub fn repair(request: &RepairRequest, observer: &dyn Observer) -> Result<RepairAnswer, ApiError> {
    let policy = request.policy()?;
    let system = request.open()?;
    let started = Instant::now();
    let report = system.repair(&policy, observer)?;
    answer(&system, report, started.elapsed())
}

fn answer(system: &System, report: s3t_engine::RepairReport, took: Duration) -> Result<RepairAnswer, ApiError> {
    let repair = Repair { report: report.into(), seconds: took.as_secs_f64() };
    Ok(RepairAnswer { repair, shards: all(system.status()?.shards) })
}

/// Watches the repairs of [`watch`], and ends them.
pub trait WatchObserver: Sync {
    /// The observer of the stages of each repair.
    fn progress(&self) -> &dyn Observer;

    /// Called after each repair that was due.
    fn repaired(&self, answer: RepairAnswer);

    /// Called when another process has the store in hand; the watch tries again.
    fn waiting(&self, reason: String);

    /// `true` ends the watch. Asked ten times a second while nothing is due.
    fn is_stopped(&self) -> bool;
}

/// Repairs whenever a deletion makes it due, until the observer stops the watch.
///
/// # Errors
///
/// As [`repair`].
pub fn watch(request: &RepairRequest, observer: &dyn WatchObserver) -> Result<(), ApiError> {
    let policy = request.policy()?;
    let system = request.open()?;
    Ok(system.watch(&policy, &Watched { system: &system, observer })?)
}

/// Tells of the engine's repairs in answers.
struct Watched<'a> {
    system: &'a System,
    observer: &'a dyn WatchObserver,
}

impl RepairObserver for Watched<'_> {
    fn progress(&self) -> &dyn Observer {
        self.observer.progress()
    }

    fn repaired(&self, report: &s3t_engine::RepairReport, took: Duration) {
        match answer(self.system, report.clone(), took) {
            Ok(answer) => self.observer.repaired(answer),
            // The status is not readable now; the watch meets the same failure and ends with it.
            Err(error) => self.observer.waiting(error.to_string()),
        }
    }

    fn waiting(&self, reason: &StoreError) {
        self.observer.waiting(reason.to_string());
    }

    fn is_stopped(&self) -> bool {
        self.observer.is_stopped()
    }
}
