//! `simulate`: request streams against a planned system.

use std::path::{Path, PathBuf};
use std::time::Instant;

use s3t_core::budget::prior::rates_of_prior;
use s3t_core::limits::shown;
use s3t_core::spelling::Spellings;
use s3t_core::{PartitionShape, Prior};
use s3t_simulation::{CurvePoint, Lifetimes, PlannedSystem, Simulation, Stream, Trace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::charts::curve_chart;
use super::described::Described;
use super::extent::{grouped, steps};
use super::system::SystemRequest;
use crate::picture::Picture;
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request for a simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SimulateRequest {
    /// The system.
    #[serde(flatten)]
    pub system: SystemRequest,
    /// The stream of requests.
    pub stream: StreamName,
    /// With the stream `trace`: a CSV file with the columns `shard` and `slice`, or a column `subject` or `record`.
    pub trace: Option<PathBuf>,
    /// With the stream `bursty`: the mean number of requests of a burst.
    pub burst: f64,
    /// With the stream `subjects`: the mean number of records of a subject.
    pub subject_records: f64,
    /// With the stream `subjects`: as if the partition were by record, so that a subject's records lie anywhere.
    pub scattered: bool,
    /// Each of the records is deleted once, in random order, instead of slices that are drawn.
    pub finite: bool,
    /// Requests after which a trial is given up; without it, long after every shard should be dead.
    pub max_requests: Option<u64>,
    /// The file of a picture (.svg or .png).
    pub plot: Option<PathBuf>,
}

impl Default for SimulateRequest {
    fn default() -> Self {
        Self {
            system: SystemRequest::default(),
            stream: StreamName::default(),
            trace: None,
            burst: 8.0,
            subject_records: 4.0,
            scattered: false,
            finite: false,
            max_requests: None,
            plot: None,
        }
    }
}

/// The name of a stream of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamName {
    /// Every slice is as likely as any other.
    Uniform,
    /// Slices are hit as the prior says.
    #[default]
    Prior,
    /// Somebody who knows the sequences picks slices.
    Adversarial,
    /// Bursts that stay in one slice.
    Bursty,
    /// Subjects with several records.
    Subjects,
    /// A recorded stream.
    Trace,
}

/// The answer to `simulate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SimulateAnswer {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// Sequences of a shard.
    pub budget: usize,
    /// The strategy's plugin name.
    pub strategy: String,
    /// `true` if each of the records was deleted once.
    pub finite: bool,
    /// The stream.
    pub stream: StreamName,
    /// Trials.
    pub trials: usize,
    /// The seed.
    pub seed: u64,
    /// The mean number of requests until every shard was dead.
    pub mean_deletions: f64,
    /// The standard error of that mean.
    pub standard_error: f64,
    /// The requests that the systems lasted.
    pub lifetimes: Lifetimes,
    /// The exact expectation, for streams that have one; `null` for never too.
    pub exact: Option<f64>,
    /// The state of the system after some requests.
    pub curve: Vec<CurvePoint>,
    /// Seconds that the trials took.
    pub seconds: f64,
    /// The file of the picture, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

plain_answers!(SimulateAnswer);

/// Simulates request streams against a system.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a system or stream that cannot be simulated, or that takes too long.
pub fn simulate(request: &SimulateRequest) -> Result<SimulateAnswer, ApiError> {
    let picture = Picture::at(request.plot.as_deref())?;
    if request.trace.is_some() != (request.stream == StreamName::Trace) {
        return Err(ApiError::new(ErrorKind::Refused, "`trace` with a file and `stream` = trace go together"));
    }
    let described = Described::new(&request.system)?;
    let system = &described.system;
    if request.finite && !(request.stream == StreamName::Uniform || described.prior == Prior::Uniform) {
        let problem = "deletes every record once, whatever the prior says; say so with `stream` = uniform";
        return Err(ApiError::field("finite", problem));
    }
    let stream = stream(request, &described)?;
    let exact = exact_lifetime(&stream, request.finite, system);
    let trials = request.system.trials.unwrap_or(10_000);
    let simulation = Simulation {
        shape: system.shape,
        sequences: system.sequences.clone(),
        stream,
        records: request.finite.then(|| system.slice_sizes.clone()),
        trials,
        seed: system.seed,
        max_requests: max_requests(request, system, trials)?,
    };
    let work = starts(&simulation, &described);
    request.system.check_work(work, "`trials`, `shards`, `slices` or `budget`")?;
    let start = Instant::now();
    let lifetimes = simulation.lifetimes()?;
    let seconds = start.elapsed().as_secs_f64();
    let last = lifetimes.all_dead.quantiles[4];
    let curve = Simulation { trials: trials.min(2000), ..simulation }.curve(&steps(last))?;
    let plot = picture.map(|picture| picture.draw(&curve_chart(&curve, system.shape, described.budget)));
    Ok(SimulateAnswer {
        shape: system.shape,
        budget: described.budget,
        strategy: described.strategy.clone(),
        finite: request.finite,
        stream: request.stream,
        trials: lifetimes.trials,
        seed: system.seed,
        mean_deletions: lifetimes.all_dead.mean,
        standard_error: lifetimes.all_dead.standard_error,
        lifetimes,
        exact,
        curve,
        seconds,
        plot: plot.transpose()?,
    })
}

fn stream(request: &SimulateRequest, described: &Described) -> Result<Stream, ApiError> {
    let rates = &described.system.rates;
    Ok(match request.stream {
        StreamName::Uniform => Stream::Uniform,
        StreamName::Prior if rates.is_alike() => Stream::of(&described.prior),
        StreamName::Prior => Stream::Rates(rates.clone()),
        StreamName::Adversarial => Stream::Adversarial,
        StreamName::Bursty => Stream::Bursty { mean_burst: request.burst },
        StreamName::Subjects => {
            Stream::Subjects { mean_records: request.subject_records, scattered: request.scattered }
        }
        StreamName::Trace => Stream::Trace(read_trace(request.trace.as_deref().unwrap_or(Path::new("")))?),
    })
}

/// A trace whose ids a person can tell apart.
fn read_trace(path: &Path) -> Result<Trace, ApiError> {
    let mut seen: Option<Spellings<'static, u64>> = None;
    let check = |kind: &'static str, id: &str, line: u64| {
        if id.contains(['\n', '\r']) {
            return Err(format!(
                "the {kind} `{}` has several lines; a quote that is never closed takes in those behind it",
                shown(id)
            ));
        }
        let clash = seen.get_or_insert_with(|| Spellings::new(kind)).add(id.to_owned(), line);
        clash.map(drop).map_err(|clash| clash.problem(|line| format!(" in line {line}")))
    };
    Ok(Trace::read(path, check)?)
}

/// About how many elementary steps the trials take beside the requests themselves: each starts from the first slices of all
/// sequences, from all records or from all ids; some follow all sequences.
fn starts(simulation: &Simulation, described: &Described) -> f64 {
    let PartitionShape { shards, slices } = simulation.shape;
    let (shards, slices, trials) = (f64::from(shards), f64::from(slices), simulation.trials);
    let own = match &simulation.stream {
        Stream::Trace(trace) => 2.0 * trace.len() as f64,
        _ if simulation.records.is_some() => described.system.records() as f64 / 64.0,
        _ => 0.0,
    };
    let follow = trials.min(2000) as f64 * shards * slices * (2.0 + described.budget as f64 / 8.0);
    trials as f64 * (shards * (1.0 + slices / 64.0) + own) + follow
}

/// Requests after which a trial is given up: the number that was asked for, or far more than a system lasts; refused if the trials
/// would take minutes or hours.
fn max_requests(request: &SimulateRequest, system: &PlannedSystem, trials: usize) -> Result<u64, ApiError> {
    // The prior says how long a system lasts where requests follow it; others may hit slices that it never does.
    let expected = match request.stream {
        StreamName::Prior => system.lifetime(),
        _ => PlannedSystem { rates: rates_of_prior(&Prior::Uniform, system.shape), ..system.clone() }.lifetime(),
    };
    let expected = expected.independent;
    let slices = f64::from(system.shape.shards) * f64::from(system.shape.slices);
    let burst = if request.stream == StreamName::Bursty { request.burst.max(1.0) } else { 1.0 };
    // Lifetimes beyond fifty times their mean do not occur. A system with a slice that is never hit lives for ever: then
    // the first death is waited for, if there is one.
    let (usual, limit) = match (expected.all_dead, expected.first_dead) {
        (all, _) if all.is_finite() => (all, 1000.0 + 50.0 * all),
        (_, first) if first.is_finite() => (20.0 * first, 20.0 * first),
        _ => (100.0 * slices, 100.0 * slices),
    };
    // A system that lives for ever is followed up to the number that was asked for, all others until they die.
    let given = request.max_requests.map(|given| given as f64);
    let usual = match given {
        Some(given) if expected.all_dead.is_finite() => given.min(usual * burst),
        Some(given) => given,
        None => usual * burst,
    };
    if usual * trials as f64 > request.system.max_work {
        let message = format!(
            "{trials} trials of about {} requests are more than `max_work` {:.0e}; give fewer `trials` or `max_requests`, or \
             raise `max_work`",
            grouped(usual.round() as u64),
            request.system.max_work
        );
        return Err(ApiError::new(ErrorKind::Refused, message));
    }
    Ok(request.max_requests.unwrap_or((limit * burst).min(1e18) as u64))
}

/// The exact expectation, for streams that have one.
fn exact_lifetime(stream: &Stream, finite: bool, system: &PlannedSystem) -> Option<f64> {
    let lifetime = system.lifetime();
    match stream {
        _ if finite => Some(lifetime.finite.all_dead),
        Stream::Prior(_) | Stream::Rates(_) => Some(lifetime.independent.all_dead),
        Stream::Adversarial => Some(lifetime.independent.adversary_all as f64),
        Stream::Uniform => {
            let rates = rates_of_prior(&Prior::Uniform, system.shape);
            Some(PlannedSystem { rates, ..system.clone() }.lifetime().independent.all_dead)
        }
        _ => None,
    }
}
