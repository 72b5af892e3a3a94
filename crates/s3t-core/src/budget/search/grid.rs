//! The grid of a search: slice counts, budgets, shard counts, and the strategies that can be tried in the time there is.

use std::collections::BTreeSet;

use super::request::{Goal, SearchRequest};
use crate::budget::depth::MAX_EXACT_SLICES;
use crate::sequence::{MAX_STEPS, factorial};
use crate::{CoreError, Prior, SequenceRequest, SequenceStrategy, ShardId};

/// The largest number of shapes that are valued: they are held in memory.
const MAX_SHAPES: f64 = 400_000.0;

/// The largest number of elementary steps of a search.
const MAX_SEARCH_STEPS: f64 = 1e10;

/// The largest number of elementary steps of a search with more strategies than the cheapest: some ten seconds.
const MAX_STEPS_OF_SEVERAL: f64 = 1e9;

/// Shards whose own sequences are valued, where a strategy gives each shard others. More shards repeat those.
pub(super) const OWN_SHARDS: u32 = 16;

/// The largest number of slices that the blocks allow.
pub(super) fn max_slices(request: &SearchRequest<'_>) -> usize {
    request.model.blocks / request.fixed.blocks_per_slice.unwrap_or(request.limits.slice_blocks).max(1)
}

/// Every L that the blocks, the prior and the goal allow.
///
/// # Errors
///
/// [`CoreError::InvalidField`] for a model that is too large, and for a number of slices that the blocks do not allow.
pub(super) fn slice_counts(request: &SearchRequest<'_>) -> Result<Vec<u32>, CoreError> {
    const MAX_BLOCKS: usize = 1 << 17;
    if request.model.blocks > MAX_BLOCKS {
        return Err(CoreError::field("blocks", format!("is {}; it takes 1 to {MAX_BLOCKS}", request.model.blocks)));
    }
    let exact = matches!(request.goal, Goal::Depth { .. });
    let max = max_slices(request).min(if exact { MAX_EXACT_SLICES as usize } else { usize::MAX }) as u32;
    let limit = || {
        if exact && max == MAX_EXACT_SLICES {
            return format!("depths are exact for 1 to {MAX_EXACT_SLICES} slices");
        }
        let of_slice = match request.fixed.blocks_per_slice {
            Some(blocks) => blocks.to_string(),
            None => format!("at least {}", request.limits.slice_blocks.max(1)),
        };
        format!("{} blocks with {of_slice} to a slice are enough for 1 to {max}", request.model.blocks)
    };
    if let Some(slices) = request.fixed.slices {
        request.prior.check(slices)?;
        if slices == 0 || slices > max {
            return Err(CoreError::field("slices", format!("is {slices}; {}", limit())));
        }
        return Ok(vec![slices]);
    }
    match request.prior {
        Prior::Uniform => Ok((1..=max).collect()),
        Prior::PerSlice(values) => {
            let slices = values.len() as u32;
            request.prior.check(slices)?;
            if slices == 0 || slices > max {
                return Err(CoreError::field("prior", format!("gives {slices} slices; {}", limit())));
            }
            Ok(vec![slices])
        }
    }
}

/// The strategies to try, the cheapest first, and the names of those that would make the search too long. Baselines among other
/// strategies are passed over.
///
/// # Errors
///
/// [`CoreError::InvalidField`] if the search would take gigabytes or hours with the cheapest strategy alone.
pub(super) fn affordable<'a>(
    request: &SearchRequest<'_>,
    counts: &[u32],
    strategies: &[&'a dyn SequenceStrategy],
) -> Result<(Vec<&'a dyn SequenceStrategy>, Vec<String>), CoreError> {
    let among_others = strategies.len() > 1;
    let mut priced: Vec<(Extent, &dyn SequenceStrategy)> =
        strategies.iter().map(|strategy| (Extent::of(request, counts, *strategy, among_others), *strategy)).collect();
    priced.sort_by(|(one, first), (other, second)| {
        one.steps.total_cmp(&other.steps).then_with(|| first.typetag_name().cmp(second.typetag_name()))
    });
    let (mut total, mut tried, mut left_out) = (Extent::default(), Vec::new(), Vec::new());
    for (extent, strategy) in priced {
        if extent.shapes == 0.0 && among_others {
            // A baseline for every request.
            continue;
        }
        let with = Extent { shapes: total.shapes + extent.shapes, steps: total.steps + extent.steps };
        let max_steps = if tried.is_empty() { MAX_SEARCH_STEPS } else { MAX_STEPS_OF_SEVERAL };
        if with.shapes <= MAX_SHAPES && with.steps <= max_steps {
            total = with;
            tried.push(strategy);
        } else if tried.is_empty() {
            let problem = "give more shapes than are searched; lower them, or give `shards`, `slices` or `budget`";
            return Err(CoreError::field("search", problem));
        } else {
            left_out.push(strategy.typetag_name().to_owned());
        }
    }
    Ok((tried, left_out))
}

/// The size of a search with one strategy.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    shapes: f64,
    steps: f64,
}

impl Extent {
    fn of(request: &SearchRequest<'_>, counts: &[u32], strategy: &dyn SequenceStrategy, among_others: bool) -> Self {
        let mut extent = Self::default();
        for slices in counts {
            let tried = budgets(request, *slices);
            let blocks = match request.fixed.blocks_per_slice {
                Some(_) => 1,
                None => {
                    (request.model.blocks / *slices as usize + 1).saturating_sub(request.limits.slice_blocks.max(1))
                }
            } as f64;
            let shards = match request.fixed.shards {
                Some(_) => 1,
                None => grid(max_shards(request, *slices)).count(),
            } as f64;
            // A lifetime is an integral of some thousand nodes, for each rate.
            let rates = if matches!(request.prior, Prior::Uniform) { 1.0 } else { f64::from(*slices) };
            let depths = match request.goal {
                Goal::Deletions => 0.0,
                Goal::Depth { .. } => f64::from(*slices) * f64::from(*slices).exp2(),
            };
            for budget in &tried {
                let of_shard = of_shard(request, *slices, *budget, 0);
                if among_others && strategy.is_baseline(&of_shard) {
                    continue;
                }
                extent.shapes += shards * blocks;
                let own = f64::from(own_shards(request, strategy, &of_shard));
                // A budget that would be refused takes no time.
                let choosing = Some(strategy.steps(&of_shard)).filter(|steps| *steps <= MAX_STEPS).unwrap_or(0.0);
                // A set of sequences costs its slices once for each number of blocks.
                let costs = *budget as f64 * f64::from(*slices) * (blocks + 1.0) * 10.0;
                extent.steps += own * (choosing + costs + depths) + shards * rates * 1e4;
            }
        }
        extent
    }
}

/// The request for the sequences of one shard.
pub(super) fn of_shard<'a>(request: &SearchRequest<'a>, slices: u32, budget: usize, shard: u32) -> SequenceRequest<'a> {
    SequenceRequest { shard: ShardId(shard), slices, budget, prior: request.prior, seed: request.seed }
}

/// Shards that are valued one by one: a single one where it stands for all.
pub(super) fn own_shards(
    request: &SearchRequest<'_>,
    strategy: &dyn SequenceStrategy,
    of_shard: &SequenceRequest<'_>,
) -> u32 {
    if !strategy.depends_on_shard(of_shard) {
        return 1;
    }
    request.fixed.shards.unwrap_or(request.limits.shards).clamp(1, OWN_SHARDS)
}

/// The largest number of shards whose slices have enough records.
fn max_shards(request: &SearchRequest<'_>, slices: u32) -> u64 {
    (request.records / u64::from(slices) / request.limits.slice_records.max(1)).min(request.limits.shards.into())
}

/// The numbers of shards to try.
pub(super) fn shard_counts(request: &SearchRequest<'_>, slices: u32) -> Vec<u64> {
    let counts: Vec<u64> = match request.fixed.shards {
        Some(shards) if u64::from(shards) <= request.records / u64::from(slices) => vec![shards.into()],
        Some(_) => Vec::new(),
        None => grid(max_shards(request, slices)).collect(),
    };
    counts.into_iter().filter(|shards| *shards > 0).collect()
}

/// All numbers to 8, then about eight for each doubling, and the last.
fn grid(last: u64) -> impl Iterator<Item = u64> {
    let mut numbers: BTreeSet<u64> = (1..=last.min(8)).chain([last]).collect();
    let mut next = 8u64;
    while next < last {
        numbers.insert(next);
        next += (next / 8).max(1);
    }
    numbers.into_iter()
}

/// Budgets worth trying: more than L sequences add no first slices, so they are for depth only.
pub(super) fn budgets(request: &SearchRequest<'_>, slices: u32) -> Vec<usize> {
    if let Some(budget) = request.fixed.budget {
        return vec![budget];
    }
    let possible = factorial(slices).unwrap_or(u128::MAX).min(request.limits.budget as u128) as u64;
    let max = if matches!(request.goal, Goal::Deletions) { possible.min(u64::from(slices)) } else { possible };
    let mut budgets: BTreeSet<u64> = grid(max).collect();
    budgets.insert(max.min(u64::from(slices)));
    budgets.into_iter().filter(|budget| *budget > 0).map(|budget| budget as usize).collect()
}
