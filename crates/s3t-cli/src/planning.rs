//! The commands that plan a system before it is trained: `plan`, `advise`, `simulate`, `compare-sequences`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use s3t::core::budget::cost::Cost;
use s3t::core::budget::depth::MAX_EXACT_SLICES;
use s3t::core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t::core::budget::search::{Advice, Candidate, Goal, SearchLimits, SearchRequest};
use s3t::core::registry::plugins;
use s3t::core::sequence::{Cyclic, MAX_STEPS, factorial, plan_sequences};
use s3t::core::spelling::Spellings;
use s3t::core::{PartitionShape, PluginKind, Prior, SequenceRequest, SequenceStrategy, ShardId};
use s3t::plot::{Axis, Chart, Format, Series};
use s3t::plugins::baseline_sequences::SortedCyclic;
use s3t::plugins::prior_sequences::{Auto, Bms};
use s3t::simulation::{
    Comparison, CurvePoint, DepthFigures, LifetimeFigures, Lifetimes, PlannedSystem, Simulation, StrategyFigures,
    Stream, Summary, Trace, Upkeep,
};

use crate::exit::{self, Failure};
use crate::output::{Output, count, decimal, duration, percent, say, size, table};
use crate::system_args::{Described, SystemArgs, Workload, numbers, parse_strategy};

type Outcome = Result<u8, Failure>;

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// What a model of depth 0 (a dead shard) to L is worth, as in 0.1,0.62,0.70,0.72: adds the expected utility.
    #[arg(long)]
    utility: Option<String>,
    /// Deletion requests over which upkeep is counted.
    #[arg(long, default_value_t = 1000)]
    requests: u64,
    /// Repair after so many requests; 0 for one for each shard.
    #[arg(long, default_value_t = 0)]
    repair_every: u64,
    /// Draw a picture (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
    /// What the picture shows.
    #[arg(long, value_enum, default_value_t = Against::Requests)]
    against: Against,
}

/// What a plan is drawn against.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Against {
    /// The best depth against requests.
    Requests,
    /// Deletions the system lasts against the budget B.
    Budget,
    /// Deletions the system lasts against the shards m.
    Shards,
    /// Deletions the system lasts against the slices L.
    Slices,
    /// Total training against requests, for full retraining, SISA, S3T and S3T with repairs.
    Upkeep,
}

#[derive(Args)]
pub(crate) struct AdviseArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// What is worth paying for.
    #[arg(long, value_enum, default_value_t = GoalName::Deletions)]
    goal: GoalName,
    /// With --goal depth: after how many requests the depth counts.
    #[arg(long, default_value_t = 100)]
    after: u64,
    /// Deletion requests that come in a day.
    #[arg(long, requires = "days")]
    requests_per_day: Option<f64>,
    /// Days that the system should last without training.
    #[arg(long, requires = "requests_per_day")]
    days: Option<f64>,
    /// Floating-point operations that training may take, as in 1e18.
    #[arg(long)]
    max_flops: Option<f64>,
    /// Megabytes that the stages may take.
    #[arg(long)]
    max_megabytes: Option<u64>,
    /// The most shards.
    #[arg(long, default_value_t = SearchLimits::default().shards)]
    max_shards: u32,
    /// The most sequences of a shard.
    #[arg(long, default_value_t = SearchLimits::default().budget)]
    max_budget: usize,
    /// The fewest records of a slice.
    #[arg(long, default_value_t = SearchLimits::default().slice_records)]
    min_slice_records: u64,
    /// The fewest blocks of a slice.
    #[arg(long, default_value_t = SearchLimits::default().slice_blocks)]
    min_slice_blocks: usize,
    /// Draw the front (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum GoalName {
    /// Requests until every shard is dead.
    Deletions,
    /// Adapted blocks that a shard still answers with after some requests.
    Depth,
}

#[derive(Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// Where requests come from.
    #[arg(long, value_enum, default_value_t = StreamName::Prior)]
    stream: StreamName,
    /// With --stream trace: a CSV file with the columns `shard` and `slice`, or a column `subject` or `record`.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// With --stream bursty: the mean number of requests of a burst.
    #[arg(long, default_value_t = 8.0)]
    burst: f64,
    /// With --stream subjects: the mean number of records of a subject.
    #[arg(long, default_value_t = 4.0)]
    subject_records: f64,
    /// With --stream subjects: as if the partition were by record, so that a subject's records lie anywhere.
    #[arg(long)]
    scattered: bool,
    /// Delete each of the records once, in random order, instead of drawing slices.
    #[arg(long)]
    finite: bool,
    /// Give a trial up after so many requests; without it, long after every shard should be dead.
    #[arg(long)]
    max_requests: Option<u64>,
    /// Draw the best depth against requests (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum StreamName {
    /// Every slice is as likely as any other.
    Uniform,
    /// Slices are hit as the prior says.
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

#[derive(Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// The strategies to compare, with commas between them, each a name or a table as in '{ type = "bms", t = 20 }'; all
    /// that there are if it is left out.
    #[arg(long)]
    strategies: Option<String>,
    /// The exponent t of the published score.
    #[arg(long, default_value_t = 100)]
    t: u32,
    /// Requests to the system after which depths are compared; 0 for one for each slice.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Draw the best depth against requests (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// `s3t plan`.
pub(crate) fn plan(args: &PlanArgs, output: &mut Output) -> Outcome {
    let picture = picture(args.plot.as_deref())?;
    let described = args.system.describe()?;
    let system = &described.system;
    let points = if picture.is_some() { 208 } else { 6 };
    args.system.check_work(system.steps(points, args.requests), "--shards, --slices, --budget or --requests")?;
    let lifetime = system.lifetime();
    let utility = args.utility.as_deref().map(|text| numbers(text, "utility")).transpose()?;
    let depths = system.depths(&milestones(lifetime.independent.all_dead), utility.as_deref())?;
    let every = if args.repair_every == 0 { u64::from(system.shape.shards) } else { args.repair_every };
    let upkeep = system.upkeep(args.requests, every)?;
    show_figures(&described, &lifetime, output);
    let rows: Vec<_> = upkeep.iter().map(|one| upkeep_json(one, upkeep[0].build)).collect();
    output.merge(|| serde_json::json!({ "depth": depths, "upkeep_requests": args.requests, "upkeep": rows }));
    output.print(|| {
        show_depths(&depths, system);
        show_upkeep(&upkeep, args.requests);
    });
    if let Some((path, format)) = picture {
        let chart = match args.against {
            Against::Requests => depth_chart(system, lifetime.independent.all_dead)?,
            Against::Upkeep => upkeep_chart(&upkeep),
            Against::Budget | Against::Shards | Against::Slices => rate_chart(&described, args.against)?,
        };
        draw(&chart, path, format, output)?;
    }
    Ok(0)
}

/// The table of a plan, and its fields in JSON.
pub(crate) fn show_figures(described: &Described, lifetime: &LifetimeFigures, output: &mut Output) {
    let Described { system, budget, strategy, reason, method, .. } = described;
    let PartitionShape { shards, slices } = system.shape;
    let cost = system.cost();
    let records = system.records();
    let groups: Vec<String> = system.groups.groups().iter().map(ToString::to_string).collect();
    let warnings = warnings(described);
    output.merge(|| {
        serde_json::json!({
            "records": records,
            "shape": system.shape,
            "budget": budget,
            "strategy": strategy,
            "reason": reason,
            "slice_sizes": system.slice_sizes,
            "sequences": system.sequences,
            "groups": system.groups,
            "epochs": system.epochs,
            "cost": cost,
            "lifetime": lifetime,
            "mean_deletions": lifetime.independent.all_dead,
            "mean_deletions_sisa": lifetime.sisa,
            "warnings": warnings,
        })
    });
    output.print(|| {
        let sizes = || system.slice_sizes.entries().iter().flatten().copied();
        let (smallest, largest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
        let of =
            if smallest == largest { count(smallest) } else { format!("{} to {}", count(smallest), count(largest)) };
        let both = |shared: String, unshared: String| {
            if shared == unshared { shared } else { format!("{shared} ({unshared} without shared prefixes)") }
        };
        let Cost { record_passes, block_passes_forward, frozen_passes, .. } = cost.shared;
        let frozen = if frozen_passes == 0 {
            String::new()
        } else {
            format!(", {} of frozen blocks once", count(frozen_passes))
        };
        let mut rows = vec![
            ("records", count(records)),
            ("shards x slices", format!("{shards} x {slices}, slices of {of} records")),
            ("sequences", format!("{budget} a shard, {strategy}")),
            ("layer groups", format!("blocks {}, top first", groups.join(", "))),
            ("method", method.clone()),
            ("stages", both(count(cost.shared.stages), count(cost.unshared.stages))),
            ("record passes", count(record_passes)),
            ("block passes", format!("{} forward and as many backward{frozen}", count(block_passes_forward))),
            (
                "training",
                both(format!("{:.2e} FLOPs", cost.shared.flops), format!("{:.2e} FLOPs", cost.unshared.flops)),
            ),
            ("on disk", format!("{} of stages, {} parameters", size(cost.shared.bytes), count(cost.shared.parameters))),
            (
                "deletions it lasts",
                format!(
                    "{} expected until every shard is dead (SISA: {})",
                    decimal(lifetime.independent.all_dead),
                    decimal(lifetime.sisa)
                ),
            ),
            ("", format!("{} until the first shard is", decimal(lifetime.independent.first_dead))),
            ("", format!("{} if each record is deleted once, in random order", decimal(lifetime.finite.all_dead))),
            (
                "",
                format!(
                    "{} if somebody who knows the sequences picks slices ({} for one shard)",
                    count(lifetime.independent.adversary_all),
                    count(lifetime.independent.adversary_first)
                ),
            ),
        ];
        if let Some(reason) = reason {
            rows.insert(3, ("", reason.clone()));
        }
        table(&["", "plan"], rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect(), 2);
        warnings.iter().for_each(|warning| say!("Warning: {warning}"));
    });
}

fn warnings(described: &Described) -> Vec<String> {
    let mut warnings = described.warnings.clone();
    if described.system.groups.smallest() < 2 {
        warnings.push("a slice has one block only; training is known to collapse below two. Use fewer slices.".into());
    }
    warnings
}

fn show_depths(depths: &[DepthFigures], system: &PlannedSystem) {
    let slices = system.shape.slices as usize;
    let utility = depths.iter().any(|figures| figures.expected_utility.is_some());
    let mut header = vec!["requests".to_owned(), "expected best depth".to_owned()];
    if utility {
        header.push("expected utility".to_owned());
    }
    // The paper's approximation stands beside the exact figure at three depths.
    let mut shown = vec![1, slices.div_ceil(2), slices];
    shown.dedup();
    let lemma = depths.iter().any(|figures| !figures.lemma_2.is_empty());
    header.extend(shown.iter().map(|depth| format!("depth >= {depth}{}", if lemma { " (Lemma 2)" } else { "" })));
    let row = |figures: &DepthFigures| {
        let within = figures.confidence.map_or_else(String::new, |width| format!(" +- {width:.2}"));
        let mut row = vec![count(figures.requests), format!("{:.2} of {slices}{within}", figures.expected_depth)];
        if utility {
            row.push(figures.expected_utility.map_or_else(String::new, |utility| format!("{utility:.4}")));
        }
        row.extend(shown.iter().map(|depth| {
            let lemma =
                figures.lemma_2.get(depth - 1).map_or_else(String::new, |lemma| format!(" ({})", percent(*lemma)));
            format!("{}{lemma}", percent(figures.retention[depth - 1]))
        }));
        row
    };
    say!();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, depths.iter().map(row).collect(), 0);
}

fn show_upkeep(upkeep: &[Upkeep], requests: u64) {
    let unit = upkeep[0].build;
    let row = |one: &Upkeep| {
        let total = one.total.last().copied().unwrap_or(one.build);
        let policy = if one.estimated { format!("{} (estimated)", one.policy) } else { one.policy.clone() };
        vec![policy, decimal(one.build / unit), decimal(total / unit), format!("{total:.2e}")]
    };
    say!();
    let after = format!("after {} requests", count(requests));
    let header = ["training, in full retrainings", "first build", &after, "FLOPs"];
    table(&header, upkeep.iter().map(row).collect(), 1);
}

fn upkeep_json(upkeep: &Upkeep, unit: f64) -> serde_json::Value {
    let total = upkeep.total.last().copied().unwrap_or(upkeep.build);
    serde_json::json!({
        "policy": upkeep.policy,
        "estimated": upkeep.estimated,
        "build_flops": upkeep.build,
        "total_flops": total,
        "total_in_full_retrainings": total / unit,
    })
}

/// Requests worth a look, from a tenth of a lifetime to one and a half.
fn milestones(lifetime: f64) -> Vec<u64> {
    let lifetime = if lifetime.is_finite() { lifetime } else { 100.0 };
    let mut found: Vec<u64> = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5]
        .iter()
        .map(|share| (lifetime * share).round().clamp(1.0, 1e15) as u64)
        .collect();
    found.dedup();
    found
}

/// About a hundred numbers of requests up to the last.
fn steps(last: f64) -> Vec<u64> {
    let last = if last.is_finite() { last.ceil().clamp(1.0, 1e15) as u64 } else { 1000 };
    let step = last.div_ceil(100).max(1);
    (0..=last.div_ceil(step)).map(|index| index * step).collect()
}

/// `s3t advise`.
pub(crate) fn advise(args: &AdviseArgs, output: &mut Output) -> Outcome {
    let picture = picture(args.plot.as_deref())?;
    let Workload { records, epochs, model, prior, strategy, fixed, seed } = args.system.workload()?;
    // With slices that are alike rotations are as good as any set; with a prior all that use it compete.
    let (cyclic, sorted, bms, auto) = (Cyclic {}, SortedCyclic {}, Bms::default(), Auto {});
    let strategies: Vec<&dyn SequenceStrategy> = match (&strategy, &prior) {
        (Some(strategy), _) => vec![&**strategy],
        (None, Prior::Uniform) => vec![&cyclic],
        (None, Prior::PerSlice(_)) => vec![&auto, &bms, &sorted, &cyclic],
    };
    let goal = match args.goal {
        GoalName::Deletions => Goal::Deletions,
        GoalName::Depth => Goal::Depth { requests: args.after },
    };
    let limits = SearchLimits {
        flops: args.max_flops.unwrap_or(f64::INFINITY),
        bytes: args.max_megabytes.map_or(u64::MAX, |megabytes| megabytes.saturating_mul(1_000_000)),
        shards: args.max_shards,
        budget: args.max_budget,
        slice_records: args.min_slice_records,
        slice_blocks: args.min_slice_blocks,
    };
    let wanted_deletions = args.requests_per_day.zip(args.days).map(|(requests, days)| requests * days);
    if let Some(wanted) = wanted_deletions.filter(|wanted| !wanted.is_finite() || *wanted <= 0.0) {
        let message = format!("--requests-per-day times --days is {wanted}; both are above 0");
        return Err(Failure::new(exit::REFUSED, message));
    }
    let start = Instant::now();
    let request = SearchRequest { records, model, epochs, prior: &prior, goal, wanted_deletions, limits, fixed, seed };
    let advice = Advice::search(&request, &strategies).map_err(limit_flag)?;
    let seconds = start.elapsed().as_secs_f64();
    let best = advice.best();
    output.merge(|| {
        serde_json::json!({
            "mean_deletions": best.lifetime.all_dead,
            "recommended": best,
            "reason": advice.reason,
            "warnings": advice.warnings,
            "front": advice.front,
            "searched": advice.searched,
            "seconds": seconds,
        })
    });
    output.print(|| show_advice(&advice, goal, seconds));
    let finite = advice.front.iter().any(|candidate| candidate.benefit.is_finite());
    if let Some((path, format)) = picture.filter(|_| finite) {
        let label = match goal {
            Goal::Deletions => "expected requests until every shard is dead".to_owned(),
            Goal::Depth { requests } => format!("expected adapted blocks after {requests} requests"),
        };
        let point = |candidate: &Candidate| (candidate.cost.flops, candidate.benefit);
        let chart = Chart {
            title: format!("Cost and benefit for {} records", count(records)),
            x: Axis::log("FLOPs of training"),
            y: Axis::log(label),
            series: vec![
                Series::line("best for the cost", advice.front.iter().map(point).collect()),
                Series::marks("recommended", vec![point(best)]),
            ],
        };
        draw(&chart, path, format, output)?;
    }
    Ok(0)
}

/// The planner's limits as the flags they came from.
fn limit_flag(error: s3t::core::CoreError) -> Failure {
    let s3t::core::CoreError::InvalidField { field, problem } = &error else { return error.into() };
    let flag = match field.as_str() {
        "search" => "--blocks, --max-shards and --max-budget",
        "blocks" => "--blocks",
        "slice_records" => "--min-slice-records",
        "slice_blocks" => "--min-slice-blocks",
        "limits" => "--max-flops and --max-megabytes",
        "shards" => "--max-shards",
        "budget" => "--max-budget",
        "slices" => "--slices",
        "prior" => "--prior",
        _ => return error.into(),
    };
    Failure::new(exit::REFUSED, format!("{flag} {problem}"))
}

fn show_advice(advice: &Advice, goal: Goal, seconds: f64) {
    // At most twelve points of the front, evenly, with the recommended one.
    let step = advice.front.len().div_ceil(11).max(1);
    let shown = (0..advice.front.len())
        .filter(|index| index % step == 0 || *index == advice.recommended || index + 1 == advice.front.len());
    let row = |index: usize| {
        let Candidate { shape, budget, strategy, blocks_per_slice, cost, lifetime, benefit } = &advice.front[index];
        let mut row = vec![
            if index == advice.recommended { "->".to_owned() } else { String::new() },
            shape.shards.to_string(),
            shape.slices.to_string(),
            budget.to_string(),
            strategy.clone(),
            blocks_per_slice.to_string(),
            format!("{:.2e}", cost.flops),
            size(cost.bytes),
            decimal(lifetime.all_dead),
            decimal(lifetime.first_dead),
        ];
        if matches!(goal, Goal::Depth { .. }) {
            row.push(format!("{benefit:.2}"));
        }
        row
    };
    let mut header = vec![
        "",
        "shards",
        "slices",
        "budget",
        "strategy",
        "blocks a slice",
        "FLOPs",
        "on disk",
        "deletions",
        "first shard",
    ];
    if matches!(goal, Goal::Depth { .. }) {
        header.push("blocks left");
    }
    table(&header, shown.map(row).collect(), 0);
    let Candidate { shape, budget, strategy, .. } = advice.best();
    say!(
        "Recommended: --shards {} --slices {} --budget {budget} --strategy {strategy}: {}.",
        shape.shards,
        shape.slices,
        advice.reason
    );
    advice.warnings.iter().for_each(|warning| say!("Warning: {warning}."));
    say!(
        "{} shapes searched in {}, {} on the front",
        count(advice.searched as u64),
        duration(seconds),
        advice.front.len()
    );
}

/// `s3t simulate`.
pub(crate) fn simulate(args: &SimulateArgs, output: &mut Output) -> Outcome {
    let picture = picture(args.plot.as_deref())?;
    if args.trace.is_some() != (args.stream == StreamName::Trace) {
        return Err(Failure::new(exit::REFUSED, "--trace FILE and --stream trace go together"));
    }
    let described = args.system.describe()?;
    let system = &described.system;
    if args.finite && !(args.stream == StreamName::Uniform || described.prior == Prior::Uniform) {
        let message = "--finite deletes every record once, whatever the prior says; say so with --stream uniform";
        return Err(Failure::new(exit::REFUSED, message));
    }
    let stream = match args.stream {
        StreamName::Uniform => Stream::Uniform,
        StreamName::Prior if system.rates.is_alike() => Stream::of(&described.prior),
        StreamName::Prior => Stream::Rates(system.rates.clone()),
        StreamName::Adversarial => Stream::Adversarial,
        StreamName::Bursty => Stream::Bursty { mean_burst: args.burst },
        StreamName::Subjects => Stream::Subjects { mean_records: args.subject_records, scattered: args.scattered },
        StreamName::Trace => Stream::Trace(read_trace(args.trace.as_deref().unwrap_or(Path::new("")))?),
    };
    let exact = exact_lifetime(&stream, args.finite, system);
    let trials = args.system.trials.unwrap_or(10_000);
    let simulation = Simulation {
        shape: system.shape,
        sequences: system.sequences.clone(),
        stream,
        records: args.finite.then(|| system.slice_sizes.clone()),
        trials,
        seed: system.seed,
        max_requests: max_requests(args, system, trials)?,
    };
    // Each trial starts from the first slices of all sequences, from all records or from all ids; some follow all sequences.
    let (shards, slices) = (f64::from(system.shape.shards), f64::from(system.shape.slices));
    let own = match &simulation.stream {
        Stream::Trace(trace) => 2.0 * trace.len() as f64,
        _ if args.finite => system.records() as f64 / 64.0,
        _ => 0.0,
    };
    let follow = trials.min(2000) as f64 * shards * slices * (2.0 + described.budget as f64 / 8.0);
    let starts = trials as f64 * (shards * (1.0 + slices / 64.0) + own) + follow;
    args.system.check_work(starts, "--trials, --shards, --slices or --budget")?;
    let start = Instant::now();
    let lifetimes = simulation.lifetimes()?;
    let seconds = start.elapsed().as_secs_f64();
    let last = lifetimes.all_dead.quantiles[4];
    let curve = Simulation { trials: trials.min(2000), ..simulation }.curve(&steps(last))?;
    output.merge(|| {
        serde_json::json!({
            "shape": system.shape,
            "budget": described.budget,
            "strategy": described.strategy,
            "finite": args.finite,
            "stream": args.stream.to_possible_value().map(|value| value.get_name().to_owned()),
            "trials": lifetimes.trials,
            "seed": system.seed,
            "mean_deletions": lifetimes.all_dead.mean,
            "standard_error": lifetimes.all_dead.standard_error,
            "lifetimes": lifetimes,
            "exact": exact,
            "curve": curve,
            "seconds": seconds,
        })
    });
    output.print(|| show_lifetimes(&lifetimes, exact, &curve, system.shape, seconds));
    if let Some((path, format)) = picture {
        let points = curve.iter().map(|point| (point.requests as f64, point.depth)).collect();
        let band = curve.iter().map(|point| (point.requests as f64, point.band[0], point.band[1])).collect();
        let PartitionShape { shards, slices } = system.shape;
        let chart = Chart {
            title: format!("Best depth, {shards} shards x {slices} slices, {} sequences", described.budget),
            x: Axis::linear("deletion requests"),
            y: Axis::linear("best depth, mean over shards"),
            series: vec![Series::line("mean, 5 % to 95 %", points).with_band(band)],
        };
        draw(&chart, path, format, output)?;
    }
    Ok(0)
}

/// A trace whose ids a person can tell apart.
fn read_trace(path: &Path) -> Result<Trace, Failure> {
    let mut seen: Option<Spellings<'static, u64>> = None;
    let check = |kind: &'static str, id: &str, line: u64| {
        let clash = seen.get_or_insert_with(|| Spellings::new(kind)).add(id.to_owned(), line);
        clash.map(drop).map_err(|clash| clash.problem(|line| format!(" in line {line}")))
    };
    Ok(Trace::read(path, check)?)
}

/// Requests after which a trial is given up: what was asked for, or far more than a system lasts; refused if the trials would
/// take minutes or hours.
fn max_requests(args: &SimulateArgs, system: &PlannedSystem, trials: usize) -> Result<u64, Failure> {
    let expected = system.lifetime().independent;
    let slices = f64::from(system.shape.shards) * f64::from(system.shape.slices);
    let burst = if args.stream == StreamName::Bursty { args.burst.max(1.0) } else { 1.0 };
    // Lifetimes beyond fifty times their mean do not occur. A system with a slice that is never hit lives for ever: then
    // the first death is waited for, if there is one.
    let (usual, limit) = match (expected.all_dead, expected.first_dead) {
        (all, _) if all.is_finite() => (all, 1000.0 + 50.0 * all),
        (_, first) if first.is_finite() => (20.0 * first, 20.0 * first),
        _ => (100.0 * slices, 100.0 * slices),
    };
    // A system that lives for ever is followed up to the number that was asked for, all others until they die.
    let given = args.max_requests.map(|given| given as f64);
    let usual = match given {
        Some(given) if expected.all_dead.is_finite() => given.min(usual * burst),
        Some(given) => given,
        None => usual * burst,
    };
    if usual * trials as f64 > args.system.max_work {
        let message = format!(
            "{trials} trials of about {} requests are more than --max-work {:.0e}; give fewer --trials or --max-requests, or raise --max-work",
            decimal(usual),
            args.system.max_work
        );
        return Err(Failure::new(exit::REFUSED, message));
    }
    Ok(args.max_requests.unwrap_or((limit * burst).min(1e18) as u64))
}

/// The exact expectation, for streams that have one.
fn exact_lifetime(stream: &Stream, finite: bool, system: &PlannedSystem) -> Option<f64> {
    let lifetime = system.lifetime();
    match stream {
        _ if finite => Some(lifetime.finite.all_dead),
        Stream::Prior(_) | Stream::Rates(_) => Some(lifetime.independent.all_dead),
        Stream::Adversarial => Some(lifetime.independent.adversary_all as f64),
        Stream::Uniform => {
            let rates = s3t::core::budget::prior::rates_of_prior(&Prior::Uniform, system.shape);
            Some(PlannedSystem { rates, ..system.clone() }.lifetime().independent.all_dead)
        }
        _ => None,
    }
}

fn show_lifetimes(
    lifetimes: &Lifetimes,
    exact: Option<f64>,
    curve: &[CurvePoint],
    shape: PartitionShape,
    seconds: f64,
) {
    let row = |name: &str, summary: &Summary| {
        let mut row = vec![name.to_owned(), decimal(summary.mean), decimal(summary.standard_error)];
        row.extend(summary.quantiles.iter().map(|quantile| decimal(*quantile)));
        row
    };
    let rows = vec![
        row("until every shard is dead", &lifetimes.all_dead),
        row("until the first shard is", &lifetimes.first_dead),
    ];
    table(&["requests", "mean", "standard error", "5 %", "25 %", "median", "75 %", "95 %"], rows, 1);
    if let Some(exact) = exact {
        say!("exact expectation: {}", decimal(exact));
    }
    if lifetimes.survived > 0 {
        say!(
            "{} of {} trials ended before every shard was dead, so the mean is too small",
            count(lifetimes.survived as u64),
            count(lifetimes.trials as u64)
        );
    }
    let step = curve.len().div_ceil(8).max(1);
    let row = |point: &CurvePoint| {
        vec![
            count(point.requests),
            format!("{:.2} of {}", point.depth, shape.slices),
            format!("{:.2}", point.standard_error),
            format!("{:.2} to {:.2}", point.band[0], point.band[1]),
            percent(point.alive),
        ]
    };
    say!();
    let header = ["requests", "best depth", "standard error", "5 % to 95 %", "shards alive"];
    table(&header, curve.iter().step_by(step).map(row).collect(), 0);
    let streams = if lifetimes.trials == 1 { "stream" } else { "streams" };
    say!("{} {streams} in {}", count(lifetimes.trials as u64), duration(seconds));
}

/// `s3t compare-sequences`.
pub(crate) fn compare(args: &CompareArgs, output: &mut Output) -> Outcome {
    let picture = picture(args.plot.as_deref())?;
    let described = args.system.describe()?;
    let system = &described.system;
    let shape = system.shape;
    let requests = if args.requests == 0 { u64::from(shape.shards) * u64::from(shape.slices) } else { args.requests };
    let mut at = vec![requests];
    if picture.is_some() {
        at.extend(steps(2.0 * requests as f64));
        at.sort_unstable();
        at.dedup();
    }
    let comparison = Comparison {
        shape,
        budget: described.budget,
        prior: described.prior.clone(),
        seed: system.seed,
        requests: at.clone(),
        t: args.t,
        trials: args.system.trials.unwrap_or(2000),
    };
    let place = at.iter().position(|one| *one == requests).unwrap_or(0);
    let last = at.last().copied().unwrap_or(requests) as f64;
    let slices = f64::from(shape.shards) * f64::from(shape.slices);
    let steps = if shape.slices <= MAX_EXACT_SLICES {
        f64::from(shape.slices) * f64::from(shape.slices).exp2() * at.len() as f64
    } else {
        // A slice is hit for the first time once; after all are hit nothing is followed.
        let hits = if described.prior == Prior::Uniform { last.min(30.0 * slices) } else { last };
        comparison.trials as f64 * (hits + slices + last.min(slices) * described.budget as f64 / 8.0)
    };
    let all = args.strategies.is_none();
    let names: Vec<String> = match &args.strategies {
        Some(text) => split_outside_braces(text),
        None => {
            let strategies = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::SequenceStrategy);
            strategies.map(|plugin| plugin.name().to_owned()).collect()
        }
    };
    let strategies = names.iter().map(|name| parse_strategy(name)).collect::<Result<Vec<_>, _>>()?;
    let request = SequenceRequest {
        shard: ShardId(0),
        slices: shape.slices,
        budget: described.budget,
        prior: &described.prior,
        seed: system.seed,
    };
    // A strategy that would be refused takes no time.
    let choosing = strategies.iter().map(|strategy| strategy.steps(&request)).filter(|steps| *steps <= MAX_STEPS);
    let work = choosing.sum::<f64>() + 2.0 * steps * names.len() as f64;
    args.system.check_work(work, "--strategies, --slices, --budget, --trials or --requests")?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (name, strategy) in names.iter().zip(&strategies) {
        match comparison.of(&**strategy) {
            // Strategies of one name with different fields are told apart by what was written.
            Ok(figures) => found.push(StrategyFigures { strategy: name.clone(), ..figures }),
            // Not every strategy can make every budget; only those that were asked for must.
            Err(error) if all => refused.push((name.clone(), error.to_string())),
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by(|one, other| other.depth[place].total_cmp(&one.depth[place]).then(one.strategy.cmp(&other.strategy)));
    let Some(best) = found.first() else {
        let reasons: Vec<String> = refused.into_iter().map(|(_, reason)| reason).collect();
        return Err(Failure::new(exit::REFUSED, format!("no strategy can do this: {}", reasons.join("; "))));
    };
    output.merge(|| serde_json::json!({
        "shape": shape,
        "budget": described.budget,
        "prior": described.prior.probabilities(shape.slices),
        "requests": at,
        "mean_deletions": best.mean_deletions,
        "best": best.strategy,
        "strategies": found,
        "refused": refused.iter().map(|(strategy, reason)| serde_json::json!({ "strategy": strategy, "reason": reason })).collect::<Vec<_>>(),
    }));
    output.print(|| {
        show_strategies(&found, requests, place, args.t);
        refused.iter().for_each(|(_, reason)| say!("left out: {reason}"));
        described.warnings.iter().for_each(|warning| say!("Warning: {warning}"));
    });
    if let Some((path, format)) = picture {
        let line = |figures: &StrategyFigures| {
            let points = at.iter().zip(&figures.depth).map(|(requests, depth)| (*requests as f64, *depth));
            Series::line(&figures.strategy, points.collect())
        };
        let chart = Chart {
            title: format!("{} sequences of {} slices, {} shards", described.budget, shape.slices, shape.shards),
            x: Axis::linear("deletion requests"),
            y: Axis::linear("expected best depth of a shard"),
            series: found.iter().map(line).collect(),
        };
        draw(&chart, path, format, output)?;
    }
    Ok(0)
}

/// The parts between commas, but not those inside a table's braces.
fn split_outside_braces(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn show_strategies(found: &[StrategyFigures], requests: u64, place: usize, t: u32) {
    let row = |figures: &StrategyFigures| {
        let within = figures.depth_confidence.map_or_else(String::new, |width| format!(" +- {width:.2}"));
        vec![
            figures.strategy.clone(),
            format!("{:.4}{within}", figures.depth[place]),
            decimal(figures.mean_deletions),
            decimal(figures.lifetime.first_dead),
            figures.lifetime.adversary_first.to_string(),
            format!("{:.3}", figures.diversity),
            format!("{:.4}", figures.score),
            count(figures.stages as u64),
            duration(figures.seconds),
        ]
    };
    let depth = format!("depth after {}", count(requests));
    let score = format!("score, t={t}");
    let header = [
        "strategy",
        &depth,
        "deletions",
        "first shard",
        "adversary",
        "diversity",
        &score,
        "stages a shard",
        "chosen in",
    ];
    table(&header, found.iter().map(row).collect(), 1);
    for figures in found {
        if let Some(reason) = &figures.reason {
            say!("{}: {reason}", figures.strategy);
        }
    }
}

fn depth_chart(system: &PlannedSystem, lifetime: f64) -> Result<Chart, Failure> {
    let at = steps(if lifetime.is_finite() { 1.5 * lifetime } else { 1000.0 });
    let depths = system.depths(&at, None)?;
    let points = depths.iter().map(|figures| (figures.requests as f64, figures.expected_depth)).collect();
    let sisa = system.sisa();
    let of_sisa = sisa.depths(&at, None)?;
    let sisa_points = of_sisa.iter().map(|figures| (figures.requests as f64, figures.expected_depth)).collect();
    let PartitionShape { shards, slices } = system.shape;
    Ok(Chart {
        title: format!("Best depth, {shards} shards x {slices} slices"),
        x: Axis::linear("deletion requests"),
        y: Axis::linear("expected best depth of a shard"),
        series: vec![
            Series::line(format!("{} sequences", system.sequences.first().len()), points),
            Series::line("one sequence", sisa_points),
        ],
    })
}

fn upkeep_chart(upkeep: &[Upkeep]) -> Chart {
    let unit = upkeep[0].build;
    let line = |one: &Upkeep| {
        let points = (0..).zip(&one.total).map(|(requests, total)| (f64::from(requests), total / unit));
        let step = one.total.len().div_ceil(400).max(1);
        Series::line(&one.policy, points.step_by(step).collect())
    };
    Chart {
        title: "Training that deletions cost".into(),
        x: Axis::linear("deletion requests"),
        y: Axis::log("total, in full retrainings"),
        series: upkeep.iter().map(line).collect(),
    }
}

/// Expected requests until every shard is dead, for other budgets, shards or slices.
fn rate_chart(described: &Described, against: Against) -> Result<Chart, Failure> {
    let (strategy, shape, budget) = (described.strategy()?, described.system.shape, described.budget);
    let (label, to) = match against {
        Against::Budget => ("sequences of a shard", budget.max(shape.slices as usize)),
        Against::Shards => ("shards", 2 * shape.shards.max(5) as usize),
        _ => ("slices of a shard", 2 * shape.slices.max(5) as usize),
    };
    // A prior is for its own number of slices.
    let prior = if against == Against::Slices { &Prior::Uniform } else { &described.prior };
    let rate = |x: usize, budget: usize| -> Result<f64, Failure> {
        let (PartitionShape { mut shards, mut slices }, mut budget) = (shape, budget);
        match against {
            Against::Budget => budget = x,
            Against::Shards => shards = x as u32,
            _ => slices = x as u32,
        }
        let possible = factorial(slices).map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
        let request = SequenceRequest {
            shard: ShardId(0),
            slices,
            budget: budget.min(possible),
            prior,
            seed: described.system.seed,
        };
        let sequences = plan_sequences(&*strategy, &request)?;
        let probabilities = prior.probabilities(slices);
        let rates: Vec<f64> = probabilities.iter().map(|probability| probability / f64::from(shards)).collect();
        let heads = FirstSlices::of(shards.into(), &sequences, &rates);
        Ok(Lifetime::of(&[heads], Requests::Independent).all_dead)
    };
    let line = |name: String, budget: usize, flat: bool| -> Result<Series, Failure> {
        // At most a hundred points.
        let points =
            (1..=to).step_by(to.div_ceil(100)).map(|x| Ok((x as f64, rate(if flat { 1 } else { x }, budget)?)));
        Ok(Series::line(name, points.collect::<Result<_, Failure>>()?))
    };
    let own = if against == Against::Budget { "S3T".to_owned() } else { format!("S3T, {budget} sequences") };
    let series = vec![line(own, budget, false)?, line("one sequence (SISA)".into(), 1, against == Against::Budget)?];
    Ok(Chart {
        title: format!("Deletions a system lasts, {}", described.strategy),
        x: Axis::linear(label),
        y: Axis::linear("expected requests until every shard is dead"),
        series,
    })
}

/// Where the picture goes; refused before any work if the name does not say its format.
fn picture(path: Option<&Path>) -> Result<Option<(&Path, Format)>, Failure> {
    Ok(match path {
        Some(path) => Some((path, Format::of(path)?)),
        None => None,
    })
}

fn draw(chart: &Chart, path: &Path, format: Format, output: &mut Output) -> Result<(), Failure> {
    std::fs::write(path, chart.draw(format)?)
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", path.display())))?;
    output.merge(|| serde_json::json!({ "plot": path.display().to_string() }));
    output.print(|| say!("drawn in {}", path.display()));
    Ok(())
}
