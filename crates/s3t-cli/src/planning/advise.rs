//! `s3t advise`.

use s3t::core::wording::with_commas;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use s3t::api::{AdviseAnswer, AdviseRequest};
use s3t::core::budget::search::{Candidate, SearchLimits};

use super::system::SystemArgs;
use super::{by_flags, show_plot};
use crate::exit::{Outcome, code_of};
use crate::output::{Output, decimal, duration, say, size, table};

#[derive(Args)]
pub(crate) struct AdviseArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// The benefit that is worth paying for.
    #[arg(long, value_enum, default_value_t = GoalName::Deletions)]
    goal: GoalName,
    /// With --goal depth: the requests after which the depth counts.
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
    /// The largest number of shards.
    #[arg(long, default_value_t = SearchLimits::default().shards)]
    max_shards: u32,
    /// The largest number of sequences of a shard.
    #[arg(long, default_value_t = SearchLimits::default().budget)]
    max_budget: usize,
    /// The smallest number of records of a slice.
    #[arg(long, default_value_t = SearchLimits::default().slice_records)]
    min_slice_records: u64,
    /// The smallest number of blocks of a slice.
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

impl From<GoalName> for s3t::api::GoalName {
    fn from(goal: GoalName) -> Self {
        match goal {
            GoalName::Deletions => Self::Deletions,
            GoalName::Depth => Self::Depth,
        }
    }
}

pub(crate) fn advise(args: &AdviseArgs, output: &mut Output) -> Outcome {
    let answer = s3t::api::advise(&AdviseRequest {
        system: args.system.request()?,
        goal: args.goal.into(),
        after: args.after,
        requests_per_day: args.requests_per_day,
        days: args.days,
        max_flops: args.max_flops,
        max_megabytes: args.max_megabytes,
        max_shards: args.max_shards,
        max_budget: args.max_budget,
        min_slice_records: args.min_slice_records,
        min_slice_blocks: args.min_slice_blocks,
        plot: args.plot.clone(),
    })
    .map_err(|failure| by_flags::<AdviseArgs>(args.system.pipeline(), failure))?;
    output.answer(&answer, || show_advice(&answer, args.goal));
    Ok(code_of(&answer))
}

fn show_advice(answer: &AdviseAnswer, goal: GoalName) {
    let AdviseAnswer { recommended, reason, warnings, front, searched, strategies, seconds, plot, .. } = answer;
    let best = front.iter().position(|shape| shape == recommended);
    // At most twelve points of the front, evenly, with the recommended one.
    let step = front.len().div_ceil(11).max(1);
    let shown = (0..front.len()).filter(|index| index % step == 0 || Some(*index) == best || index + 1 == front.len());
    let row = |index: usize| {
        let Candidate { shape, budget, strategy, blocks_per_slice, cost, lifetime, benefit } = &front[index];
        let mut row = vec![
            if Some(index) == best { "->".to_owned() } else { String::new() },
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
        if goal == GoalName::Depth {
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
    if goal == GoalName::Depth {
        header.push("blocks left");
    }
    table(&header, shown.map(row).collect(), 0);
    let Candidate { shape, budget, strategy, .. } = recommended;
    say!(
        "Recommended: --shards {} --slices {} --budget {budget} --strategy {strategy}: {}.",
        shape.shards,
        shape.slices,
        reason
    );
    warnings.iter().for_each(|warning| say!("Warning: {warning}."));
    say!("{} shapes searched in {}, {} on the front", with_commas(*searched as u64), duration(*seconds), front.len());
    if strategies.len() > 1 {
        say!("strategies tried: {}", strategies.join(", "));
    }
    show_plot(plot.as_deref());
}
