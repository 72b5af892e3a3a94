//! The planner: which m, L, B, strategy and blocks per slice to choose.
//!
//! # Proof note
//!
//! *Before*: a task, and strategies to choose from. *After*: the front holds every shape of the search grid that no other
//! shape of the grid beats in both cost and benefit, within the limits, and nothing else. *Why*: all shapes of the grid are
//! valued, exactly, sorted by cost, and kept while the benefit rises. The grid is every L that the blocks allow, all small
//! and geometrically spaced large m and B, so it can miss a better shape between two points of it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cost::{Cost, CostModel, ModelShape};
use crate::deletion::{Lifetime, Requests, ShardHeads};
use crate::depth::{DepthTable, MAX_EXACT_SLICES, occupancy, untouched_sets};
use crate::sequence::{SequenceRequest, factorial, plan_sequences};
use crate::{CoreError, LayerGroups, PartitionShape, Prior, Sequence, SequenceStrategy, ShardId, SliceId};

/// The most shapes that are valued: they are held in memory.
const MOST_SHAPES: f64 = 400_000.0;

/// The most elementary steps of a search.
const MOST_SEARCH_STEPS: f64 = 1e10;

/// What is worth paying for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Expected requests until every shard is dead.
    Deletions,
    /// The expected number of adapted blocks that a shard still answers with after so many requests: best depth times
    /// blocks per slice. Exact, so for L up to [`MAX_EXACT_SLICES`] only.
    Depth {
        /// Requests to the whole system.
        requests: u64,
    },
}

/// What the search must stay within.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Floating-point operations of training.
    pub flops: f64,
    /// Bytes of stages on disk.
    pub bytes: u64,
    /// Shards. They are free in training and make a system last, but each model sees its share of the records only and every
    /// answer asks them all; what that costs in accuracy no plan can know, so the limit is low unless it is raised.
    pub shards: u32,
    /// Sequences of a shard.
    pub budget: usize,
    /// Records that a slice must have.
    pub slice_records: u64,
    /// Blocks that a slice must have; below two, training is known to collapse (S3T, section 5).
    pub slice_blocks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flops: f64::INFINITY, bytes: u64::MAX, shards: 10, budget: 64, slice_records: 100, slice_blocks: 2 }
    }
}

/// What is not searched but given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Shards.
    pub shards: Option<u32>,
    /// Slices.
    pub slices: Option<u32>,
    /// Sequences of a shard.
    pub budget: Option<usize>,
    /// Blocks of each layer group.
    pub blocks_per_slice: Option<usize>,
}

/// A system to be planned.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Records N.
    pub records: u64,
    /// The model.
    pub model: ModelShape,
    /// Passes of a stage over its records.
    pub epochs: u64,
    /// How likely each slice of a shard is to be hit. One that is given per slice fixes L.
    pub prior: &'a Prior,
    /// What is worth paying for.
    pub goal: Goal,
    /// Requests that the system should last, if that is known.
    pub wanted_deletions: Option<f64>,
    /// What the search must stay within.
    pub limits: Limits,
    /// What is not searched.
    pub fixed: Fixed,
    /// The seed of strategies that draw.
    pub seed: u64,
}

/// One shape of a system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Shards m and slices L.
    pub shape: PartitionShape,
    /// Sequences of a shard B.
    pub budget: usize,
    /// The strategy's plugin name.
    pub strategy: String,
    /// Blocks of each layer group.
    pub blocks_per_slice: usize,
    /// What training and keeping it costs.
    pub cost: Cost,
    /// How many requests it lasts.
    pub lifetime: Lifetime,
    /// What is paid for: see [`Goal`].
    pub benefit: f64,
}

/// What the planner found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// The shapes that no other beats in both cost and benefit, cheapest first.
    pub front: Vec<Candidate>,
    /// The index of the recommended one.
    pub recommended: usize,
    /// Why that one.
    pub reason: String,
    /// What to mind.
    pub warnings: Vec<String>,
    /// Shapes valued.
    pub searched: usize,
}

impl Advice {
    /// Searches for the best shapes.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] for a prior that is none, or if no shape is within the limits, naming the limit that
    /// leaves none. A strategy that cannot make a budget is passed over; [`CoreError::BrokenStrategy`] is not.
    pub fn search(task: &Task<'_>, strategies: &[&dyn SequenceStrategy]) -> Result<Self, CoreError> {
        let counts = slice_counts(task)?;
        check_extent(task, &counts, strategies.len())?;
        let mut candidates = Vec::new();
        for slices in counts {
            for budget in budgets(task, slices) {
                for strategy in strategies {
                    candidates.extend(shapes(task, slices, budget, *strategy)?);
                }
            }
        }
        let searched = candidates.len();
        candidates.retain(|candidate: &Candidate| {
            candidate.cost.flops <= task.limits.flops && candidate.cost.bytes <= task.limits.bytes
        });
        if candidates.is_empty() {
            return Err(nothing_fits(task, searched));
        }
        let (front, recommended, reason) = match task.wanted_deletions {
            Some(wanted) => {
                // Only what lasts long enough competes, so that the cheapest of it is on the front.
                let lasts = |candidate: &Candidate| candidate.lifetime.all_dead;
                let longest = candidates.iter().map(lasts).fold(0.0, f64::max);
                if longest >= wanted {
                    candidates.retain(|candidate| lasts(candidate) >= wanted);
                    (front(candidates), 0, format!("the cheapest that lasts the {wanted:.0} requests wanted"))
                } else {
                    candidates.retain(|candidate| lasts(candidate) >= longest);
                    let reason = format!("nothing within the limits lasts {wanted:.0} requests; this lasts longest");
                    (front(candidates), 0, reason)
                }
            }
            None => {
                let front = front(candidates);
                let (knee, reason) = knee(&front);
                (front, knee, reason)
            }
        };
        let mut warnings = Vec::new();
        if front[recommended].blocks_per_slice < 2 {
            warnings.push("one block a slice: training is known to collapse below two".to_owned());
        }
        if matches!(task.goal, Goal::Depth { .. }) && most_slices(task) > MAX_EXACT_SLICES as usize {
            warnings.push(format!("more than {MAX_EXACT_SLICES} slices were left out: depths are exact up to there"));
        }
        if front[recommended].shape.shards > 10 {
            warnings.push(
                "many shards: each model sees a small part of the records, so measure the accuracy before you commit"
                    .into(),
            );
        }
        Ok(Self { front, recommended, reason, warnings, searched })
    }

    /// The recommended shape.
    pub fn best(&self) -> &Candidate {
        &self.front[self.recommended]
    }
}

fn most_slices(task: &Task<'_>) -> usize {
    task.model.blocks / task.fixed.blocks_per_slice.unwrap_or(task.limits.slice_blocks).max(1)
}

/// Every L that the blocks, the prior and the goal allow.
fn slice_counts(task: &Task<'_>) -> Result<Vec<u32>, CoreError> {
    const MOST_BLOCKS: usize = 1 << 17;
    if task.model.blocks > MOST_BLOCKS {
        return Err(CoreError::field("blocks", format!("is {}; it takes 1 to {MOST_BLOCKS}", task.model.blocks)));
    }
    let exact = matches!(task.goal, Goal::Depth { .. });
    let most = if exact { most_slices(task).min(MAX_EXACT_SLICES as usize) } else { most_slices(task) } as u32;
    if let Some(slices) = task.fixed.slices {
        task.prior.check(slices)?;
        if slices == 0 || slices > most {
            return Err(CoreError::field("slices", format!("is {slices}, but the blocks allow 1 to {most}")));
        }
        return Ok(vec![slices]);
    }
    match task.prior {
        Prior::Uniform => Ok((1..=most).collect()),
        Prior::PerSlice(values) => {
            let slices = values.len() as u32;
            task.prior.check(slices)?;
            if slices == 0 || slices > most {
                let problem = format!("gives {slices} slices, but the blocks allow 1 to {most}");
                return Err(CoreError::field("prior", problem));
            }
            Ok(vec![slices])
        }
    }
}

/// Refuses a search that would take gigabytes or hours, before it starts.
fn check_extent(task: &Task<'_>, counts: &[u32], strategies: usize) -> Result<(), CoreError> {
    let (mut shapes, mut steps) = (0.0, 0.0);
    for slices in counts {
        let tried = budgets(task, *slices);
        let blocks = task.model.blocks / *slices as usize;
        let blocks = match task.fixed.blocks_per_slice {
            Some(_) => 1,
            None => (blocks + 1).saturating_sub(task.limits.slice_blocks.max(1)),
        } as f64;
        let most = most_shards(task, *slices);
        let shards = if task.fixed.shards.is_some() { 1 } else { grid(most).count() } as f64;
        let per_slices = tried.len() as f64 * strategies as f64;
        shapes += per_slices * shards * blocks;
        // A set of sequences costs its slices once for each number of blocks; a lifetime is an integral of some thousand nodes.
        let places: f64 = tried.iter().map(|budget| *budget as f64 * f64::from(*slices)).sum();
        let lifetime = if matches!(task.prior, Prior::Uniform) { 1.0 } else { f64::from(*slices) };
        let depths = match task.goal {
            Goal::Deletions => 0.0,
            Goal::Depth { .. } => f64::from(*slices) * f64::from(*slices).exp2(),
        };
        steps += strategies as f64 * places * (blocks + 1.0) * 10.0 + per_slices * (shards * lifetime * 1e4 + depths);
        if shapes > MOST_SHAPES || steps > MOST_SEARCH_STEPS {
            let problem = "give more shapes than are searched; lower them, or give --shards, --slices or --budget";
            return Err(CoreError::field("search", problem));
        }
    }
    Ok(())
}

/// The most shards whose slices have enough records.
fn most_shards(task: &Task<'_>, slices: u32) -> u64 {
    (task.records / u64::from(slices) / task.limits.slice_records.max(1)).min(task.limits.shards.into())
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
fn budgets(task: &Task<'_>, slices: u32) -> Vec<usize> {
    if let Some(budget) = task.fixed.budget {
        return vec![budget];
    }
    let possible = factorial(slices).unwrap_or(u128::MAX).min(task.limits.budget as u128) as u64;
    let most = if matches!(task.goal, Goal::Deletions) { possible.min(u64::from(slices)) } else { possible };
    let mut budgets: BTreeSet<u64> = grid(most).collect();
    budgets.insert(most.min(u64::from(slices)));
    budgets.into_iter().filter(|budget| *budget > 0).map(|budget| budget as usize).collect()
}

/// All shapes with these sequences, over m and blocks per slice.
fn shapes(
    task: &Task<'_>,
    slices: u32,
    budget: usize,
    strategy: &dyn SequenceStrategy,
) -> Result<Vec<Candidate>, CoreError> {
    let request = SequenceRequest { shard: ShardId(0), slices, budget, prior: task.prior, seed: task.seed };
    let sequences = match plan_sequences(strategy, &request) {
        Ok(sequences) => sequences,
        Err(CoreError::BudgetOutOfRange { .. }) => return Ok(Vec::new()),
        Err(other) => return Err(other),
    };
    let orders: Vec<&[SliceId]> = sequences.iter().map(Sequence::slices).collect();
    let probabilities = task.prior.probabilities(slices);
    let depths = match task.goal {
        Goal::Deletions => None,
        Goal::Depth { requests } => Some((Depths::new(&sequences, task.prior, slices)?, requests)),
    };
    let most_blocks = task.model.blocks / slices as usize;
    let blocks = match task.fixed.blocks_per_slice {
        Some(blocks) => blocks..=blocks.min(most_blocks),
        None => task.limits.slice_blocks.max(1)..=most_blocks,
    };
    // A shard of one record a slice: everything but storage is proportional to the records of a slice.
    let units: Vec<(usize, Cost)> = blocks
        .map(|blocks| {
            let groups = LayerGroups::from_top(task.model.blocks, slices, Some(blocks))?;
            let costs = CostModel { groups: &groups, model: task.model, epochs: task.epochs };
            Ok((blocks, costs.shard(&orders, &vec![1; slices as usize]).shared))
        })
        .collect::<Result<_, CoreError>>()?;
    let most = most_shards(task, slices);
    let mut found = Vec::new();
    let counts: Vec<u64> = match task.fixed.shards {
        Some(shards) if u64::from(shards) <= task.records / u64::from(slices) => vec![shards.into()],
        Some(_) => Vec::new(),
        None => grid(most).collect(),
    };
    for shards in counts.into_iter().filter(|shards| *shards > 0) {
        let rates: Vec<f64> = probabilities.iter().map(|probability| probability / shards as f64).collect();
        let heads = ShardHeads::of(shards, &sequences, &rates);
        let lifetime = Lifetime::of(&[heads], Requests::Independent);
        let depth = depths.as_ref().map(|(depths, requests)| depths.expected(&rates, *requests));
        for (blocks, unit) in &units {
            found.push(Candidate {
                shape: PartitionShape { shards: shards as u32, slices },
                budget,
                strategy: strategy.typetag_name().to_owned(),
                blocks_per_slice: *blocks,
                cost: scaled(unit, task.records as f64 / (shards * u64::from(slices)) as f64, shards),
                lifetime,
                benefit: depth.map_or(lifetime.all_dead, |depth| depth * *blocks as f64),
            });
        }
    }
    Ok(found)
}

/// The cost of so many shards with so many records in each slice, from that of one shard with one.
fn scaled(unit: &Cost, records: f64, shards: u64) -> Cost {
    let times = |passes: u64| (passes as f64 * records * shards as f64).round() as u64;
    Cost {
        record_passes: times(unit.record_passes),
        block_passes_forward: times(unit.block_passes_forward),
        block_passes_backward: times(unit.block_passes_backward),
        frozen_passes: times(unit.frozen_passes),
        flops: unit.flops * records * shards as f64,
        ..*unit * shards
    }
}

/// Expected best depths of one set of sequences under changing rates.
enum Depths {
    /// `[slices hit]`: the mean best depth over all sets of so many slices.
    Alike(Vec<f64>),
    Each(DepthTable),
}

impl Depths {
    fn new(sequences: &[Sequence], prior: &Prior, slices: u32) -> Result<Self, CoreError> {
        let table = DepthTable::new(sequences, slices)?;
        if matches!(prior, Prior::PerSlice(_)) {
            return Ok(Self::Each(table));
        }
        let (mut sums, mut counts) = (vec![0.0; slices as usize + 1], vec![0.0; slices as usize + 1]);
        for (untouched, depth) in table.depths().iter().enumerate() {
            let hit = slices as usize - untouched.count_ones() as usize;
            sums[hit] += f64::from(*depth);
            counts[hit] += 1.0;
        }
        Ok(Self::Alike(sums.iter().zip(counts).map(|(sum, count)| sum / count).collect()))
    }

    fn expected(&self, rates: &[f64], requests: u64) -> f64 {
        match self {
            Self::Alike(means) => {
                let hit = occupancy(rates.len() as u32, rates.first().copied().unwrap_or(0.0), requests);
                hit.iter().zip(means).map(|(chance, depth)| chance * depth).sum()
            }
            Self::Each(table) => {
                let sets = untouched_sets(rates, requests);
                sets.iter().zip(table.depths()).map(|(chance, depth)| chance * f64::from(*depth)).sum()
            }
        }
    }
}

/// Keeps what nothing beats: cheapest first, each with more benefit than all before it.
fn front(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let key = |candidate: &Candidate| (candidate.cost.bytes, candidate.shape.shards, candidate.budget);
    candidates.sort_by(|one, other| {
        one.cost
            .flops
            .total_cmp(&other.cost.flops)
            .then(other.benefit.total_cmp(&one.benefit))
            .then(key(one).cmp(&key(other)))
    });
    let mut front: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let better = front.last().is_none_or(|last| candidate.benefit > last.benefit * (1.0 + 1e-12));
        if better {
            front.push(candidate);
        }
    }
    front
}

fn nothing_fits(task: &Task<'_>, searched: usize) -> CoreError {
    for (field, value) in [("shards", u64::from(task.limits.shards)), ("budget", task.limits.budget as u64)] {
        if value == 0 {
            return CoreError::field(field, "is limited to 0; allow at least 1");
        }
    }
    if task.model.blocks < task.limits.slice_blocks {
        let problem = format!(
            "is {}, but the model has {} blocks; use at most that",
            task.limits.slice_blocks, task.model.blocks
        );
        return CoreError::field("slice_blocks", problem);
    }
    if searched == 0 {
        let problem = format!("of {} leaves no slice of {} records", task.limits.slice_records, task.records);
        return CoreError::field("slice_records", problem);
    }
    let problem = format!(
        "are too tight: none of {searched} shapes has at most {:e} FLOPs and {} bytes",
        task.limits.flops, task.limits.bytes
    );
    CoreError::field("limits", problem)
}

/// The index of the knee of the front, and why it is recommended.
fn knee(front: &[Candidate]) -> (usize, String) {
    // The knee: the point furthest above the chord from the cheapest to the best, cost on a log scale.
    let (first, last) = (&front[0], &front[front.len() - 1]);
    let part = |value: f64, low: f64, high: f64| if high > low { (value - low) / (high - low) } else { 0.0 };
    let above = |candidate: &Candidate| {
        let finite = |benefit: f64| benefit.min(f64::MAX);
        part(finite(candidate.benefit), finite(first.benefit), finite(last.benefit))
            - part(candidate.cost.flops.ln(), first.cost.flops.ln(), last.cost.flops.ln())
    };
    let knee = (0..front.len()).max_by(|one, other| above(&front[*one]).total_cmp(&above(&front[*other]))).unwrap_or(0);
    (
        knee,
        "the knee of the front: beyond it, benefit costs more than before; name the requests wanted to choose by need"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deletion::deletion_rate;
    use crate::depth::DepthLaw;
    use crate::sequence::Cyclic;

    fn task(prior: &Prior, goal: Goal) -> Task<'_> {
        Task {
            records: 50_000,
            model: ModelShape::transformer(12, 768, 3072, 197, 16, 10),
            epochs: 15,
            prior,
            goal,
            wanted_deletions: None,
            limits: Limits::default(),
            fixed: Fixed::default(),
            seed: 0,
        }
    }

    #[test]
    fn nothing_on_the_front_is_beaten_and_costs_are_those_of_the_plan() {
        let task = task(&Prior::Uniform, Goal::Deletions);
        let advice = Advice::search(&task, &[&Cyclic {}]).unwrap();
        for pair in advice.front.windows(2) {
            assert!(pair[0].cost.flops < pair[1].cost.flops && pair[0].benefit < pair[1].benefit);
        }
        for candidate in &advice.front {
            let (shards, slices) = (u64::from(candidate.shape.shards), u64::from(candidate.shape.slices));
            let rate = deletion_rate(shards, slices, candidate.budget as u64);
            assert!((candidate.benefit - rate).abs() < 1e-9 * rate);
            assert!(slices as usize * candidate.blocks_per_slice <= 12 && candidate.blocks_per_slice >= 2);
        }
    }

    #[test]
    fn a_wish_is_met_as_cheaply_as_possible_or_said_to_be_out_of_reach() {
        let mut task = task(&Prior::Uniform, Goal::Deletions);
        task.wanted_deletions = Some(200.0);
        let advice = Advice::search(&task, &[&Cyclic {}]).unwrap();
        assert!(advice.best().lifetime.all_dead >= 200.0);
        // No shape of the whole search is cheaper and lasts as long.
        let all = Advice::search(&Task { wanted_deletions: None, ..task }, &[&Cyclic {}]).unwrap();
        let cheaper = all.front.iter().filter(|other| other.cost.flops < advice.best().cost.flops);
        assert!(cheaper.into_iter().all(|other| other.lifetime.all_dead < 200.0));
        // With depth as the goal too.
        task.goal = Goal::Depth { requests: 10 };
        let deep = Advice::search(&task, &[&Cyclic {}]).unwrap();
        assert_eq!(deep.best().cost, advice.best().cost);
        task.wanted_deletions = Some(1e12);
        assert!(Advice::search(&task, &[&Cyclic {}]).unwrap().reason.contains("nothing within the limits"));
    }

    #[test]
    fn depth_as_the_goal_agrees_with_the_exact_law() {
        let prior = Prior::PerSlice(vec![0.5, 0.2, 0.2, 0.1]);
        for prior in [&Prior::Uniform, &prior] {
            let advice = Advice::search(&task(prior, Goal::Depth { requests: 40 }), &[&Cyclic {}]).unwrap();
            let best = advice.best();
            let request =
                SequenceRequest { shard: ShardId(0), slices: best.shape.slices, budget: best.budget, prior, seed: 0 };
            let rates: Vec<f64> = prior
                .probabilities(best.shape.slices)
                .iter()
                .map(|probability| probability / f64::from(best.shape.shards))
                .collect();
            let law = DepthLaw::new(&plan_sequences(&Cyclic {}, &request).unwrap(), &rates).unwrap();
            let expected = law.expected_depth(40) * best.blocks_per_slice as f64;
            assert!((best.benefit - expected).abs() < 1e-9, "{} {expected}", best.benefit);
        }
    }

    #[track_caller]
    fn check(task: &Task<'_>, word: &str) {
        let message = Advice::search(task, &[&Cyclic {}]).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }

    #[test]
    fn limits_are_kept_and_impossible_ones_named() {
        let mut task = task(&Prior::Uniform, Goal::Deletions);
        task.limits.bytes = 20_000_000;
        let advice = Advice::search(&task, &[&Cyclic {}]).unwrap();
        assert!(advice.front.iter().all(|candidate| candidate.cost.bytes <= 20_000_000));
        let mut tight = task;
        tight.limits.flops = 1.0;
        check(&tight, "too tight");
        let mut few = task;
        few.records = 50;
        check(&few, "leaves no slice");
        let mut large = task;
        large.limits.slice_blocks = 20;
        check(&large, "12 blocks");
        let prior = Prior::PerSlice(vec![0.1; 9]);
        let mut many = task;
        many.prior = &prior;
        check(&many, "allow 1 to 6");
    }

    #[test]
    fn what_is_given_is_not_searched() {
        let mut task = task(&Prior::Uniform, Goal::Deletions);
        task.fixed = Fixed { shards: Some(7), slices: Some(4), budget: Some(3), blocks_per_slice: Some(2) };
        let advice = Advice::search(&task, &[&Cyclic {}]).unwrap();
        let best = advice.best();
        assert_eq!((best.shape.shards, best.shape.slices, best.budget, best.blocks_per_slice), (7, 4, 3, 2));
        assert_eq!(advice.front.len(), 1);
        task.fixed.slices = Some(9);
        check(&task, "allow 1 to 6");
    }

    #[test]
    fn one_block_a_slice_is_warned_of() {
        let mut task = task(&Prior::Uniform, Goal::Deletions);
        task.limits.slice_blocks = 1;
        task.wanted_deletions = Some(1e12);
        let advice = Advice::search(&task, &[&Cyclic {}]).unwrap();
        assert!(advice.best().blocks_per_slice == 1 && advice.warnings[0].contains("collapse"));
    }
}
