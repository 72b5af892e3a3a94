//! `s3t plan`.

use s3t::core::wording::with_commas;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use s3t::api::{PlanAnswer, PlanFigures, PlanRequest, UpkeepRow};
use s3t::core::PartitionShape;
use s3t::core::budget::cost::Cost;
use s3t::simulation::{ClusterFigures, DepthFigures, Workers};

use super::system::{SystemArgs, numbers};
use super::{by_flags, show_plot};
use crate::exit::{Outcome, code_of};
use crate::output::{Output, decimal, percent, say, size, table};

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// The worth of a model of depth 0 (a dead shard) to L, as in 0.1,0.62,0.70,0.72: adds the expected utility.
    #[arg(long)]
    utility: Option<String>,
    /// Deletion requests over which upkeep is counted.
    #[arg(long, default_value_t = 1000)]
    requests: u64,
    /// Repair after so many requests; 0 for one for each shard.
    #[arg(long, default_value_t = 0)]
    repair_every: u64,
    /// Tell the time and the price of training on a cluster, as in workers=64,tflops=100,per-hour=2,gap=1: workers, 10^12 operations of
    /// one in a second as training reaches them, its price, seconds between two stages.
    #[arg(long, value_parser = workers)]
    cluster: Option<Workers>,
    /// Draw a picture (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
    /// The picture's horizontal axis.
    #[arg(long, value_enum, default_value_t = Against::Requests)]
    against: Against,
}

/// The picture of a plan.
#[derive(Clone, Copy, ValueEnum)]
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

impl From<Against> for s3t::api::Against {
    fn from(against: Against) -> Self {
        match against {
            Against::Requests => Self::Requests,
            Against::Budget => Self::Budget,
            Against::Shards => Self::Shards,
            Against::Slices => Self::Slices,
            Against::Upkeep => Self::Upkeep,
        }
    }
}

pub(crate) fn plan(args: &PlanArgs, output: &mut Output) -> Outcome {
    let answer = s3t::api::plan(&PlanRequest {
        system: args.system.request()?,
        utility: args.utility.as_deref().map(|text| numbers(text, "utility")).transpose()?,
        requests: args.requests,
        repair_every: args.repair_every,
        cluster: args.cluster,
        plot: args.plot.clone(),
        against: args.against.into(),
    })
    .map_err(|failure| by_flags::<PlanArgs>(args.system.pipeline(), failure))?;
    output.answer(&answer, || {
        let PlanAnswer { figures, depth, upkeep_requests, upkeep, cluster, plot } = &answer;
        show_figures(figures);
        show_depths(depth, figures.shape);
        show_upkeep(upkeep, *upkeep_requests);
        cluster.iter().for_each(show_cluster);
        show_plot(plot.as_deref());
    });
    Ok(code_of(&answer))
}

/// Reads the workers of a cluster.
fn workers(text: &str) -> Result<Workers, String> {
    let mut workers = Workers { workers: 0, tflops: 0.0, per_hour: 0.0, gap: 0.0 };
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no value; write `workers=64`"))?;
        let number = || value.parse().map_err(|_| format!("`{value}` is no number of {name}"));
        match name {
            "workers" => workers.workers = value.parse().map_err(|_| format!("`{value}` is no number of workers"))?,
            "tflops" => workers.tflops = number()?,
            "per-hour" => workers.per_hour = number()?,
            "gap" => workers.gap = number()?,
            _ => return Err(format!("unknown `{name}`; known: workers, tflops, per-hour, gap")),
        }
    }
    Ok(workers)
}

fn show_cluster(figures: &ClusterFigures) {
    let Workers { workers, tflops, per_hour, .. } = figures.workers;
    let mut rows = vec![
        ("stages".to_owned(), with_commas(figures.stages)),
        ("trained after".to_owned(), time(figures.seconds)),
        ("longest sequence".to_owned(), format!("{}; no number of workers is faster", time(figures.critical_path))),
        ("one worker".to_owned(), time(figures.work)),
        ("efficiency".to_owned(), percent(figures.efficiency)),
    ];
    if per_hour > 0.0 {
        rows.push(("price".to_owned(), format!("{:.2}", figures.price)));
    }
    say!();
    let header = format!("{} workers of {tflops} TFLOPS", with_commas(u64::from(workers)));
    table(&["", &header], rows.into_iter().map(|(name, value)| vec![name, value]).collect(), 2);
}

/// Seconds as people say them.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7200.0 => format!("{:.1} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// The table of a plan.
pub(crate) fn show_figures(figures: &PlanFigures) {
    let PlanFigures { records, shape, budget, strategy, cost, lifetime, .. } = figures;
    let PartitionShape { shards, slices } = shape;
    let groups: Vec<String> = figures.groups.groups().iter().map(ToString::to_string).collect();
    let sizes = || figures.slice_sizes.entries().iter().flatten().copied();
    let (smallest, largest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
    let of = if smallest == largest {
        with_commas(smallest)
    } else {
        format!("{} to {}", with_commas(smallest), with_commas(largest))
    };
    let both = |shared: String, unshared: String| {
        if shared == unshared { shared } else { format!("{shared} ({unshared} without shared prefixes)") }
    };
    let Cost { record_passes, block_passes_forward, frozen_passes, .. } = cost.shared;
    let frozen = if frozen_passes == 0 {
        String::new()
    } else {
        format!(", {} of frozen blocks once", with_commas(frozen_passes))
    };
    let mut rows = vec![
        ("records", with_commas(*records)),
        ("shards x slices", format!("{shards} x {slices}, slices of {of} records")),
        ("sequences", format!("{budget} a shard, {strategy}")),
        ("layer groups", format!("blocks {}, top first", groups.join(", "))),
        ("method", figures.method.clone()),
        ("stages", both(with_commas(cost.shared.stages), with_commas(cost.unshared.stages))),
        ("record passes", with_commas(record_passes)),
        ("block passes", format!("{} forward and as many backward{frozen}", with_commas(block_passes_forward))),
        ("training", both(format!("{:.2e} FLOPs", cost.shared.flops), format!("{:.2e} FLOPs", cost.unshared.flops))),
        (
            "on disk",
            format!("{} of stages, {} parameters", size(cost.shared.bytes), with_commas(cost.shared.parameters)),
        ),
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
                with_commas(lifetime.independent.adversary_all),
                with_commas(lifetime.independent.adversary_first)
            ),
        ),
    ];
    if let Some(reason) = &figures.reason {
        rows.insert(3, ("", reason.clone()));
    }
    table(&["", "plan"], rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect(), 2);
    figures.warnings.iter().for_each(|warning| say!("Warning: {warning}"));
}

fn show_depths(depths: &[DepthFigures], shape: PartitionShape) {
    let slices = shape.slices as usize;
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
        let mut row = vec![with_commas(figures.requests), format!("{:.2} of {slices}{within}", figures.expected_depth)];
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

fn show_upkeep(upkeep: &[UpkeepRow], requests: u64) {
    let unit = upkeep.first().map_or(1.0, |full| full.build_flops);
    let row = |one: &UpkeepRow| {
        let policy = if one.estimated { format!("{} (estimated)", one.policy) } else { one.policy.clone() };
        vec![
            policy,
            decimal(one.build_flops / unit),
            decimal(one.total_in_full_retrainings),
            format!("{:.2e}", one.total_flops),
        ]
    };
    say!();
    let after = format!("after {} requests", with_commas(requests));
    let header = ["training, in full retrainings", "first build", &after, "FLOPs"];
    table(&header, upkeep.iter().map(row).collect(), 1);
}
