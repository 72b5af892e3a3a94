//! The search for a shape: shards m, slices L, budget B, strategy and blocks per slice.
//!
//! # Proof note
//!
//! *Before*: a request, and strategies to choose from. *After*: the front holds every shape of the search grid that no other
//! shape of the grid beats in both cost and benefit, within the limits, and nothing else. *Why*: all shapes of the grid are
//! valued, exactly up to 16 shards with sequences of their own, sorted by cost, and kept while the benefit rises. The grid is
//! every L that the blocks allow, all small and geometrically spaced large m and B, so it can miss a better shape between two
//! points of it.

mod candidate;
mod front;
mod grid;
mod request;
mod value;

use serde::Serialize;

use crate::budget::depth::MAX_EXACT_SLICES;
use crate::{CoreError, SequenceStrategy};

pub use candidate::Candidate;
pub use request::{Fixed, Goal, SearchLimits, SearchRequest};

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// The shapes that no other beats in both cost and benefit, cheapest first.
    pub front: Vec<Candidate>,
    /// The index of the recommended shape.
    pub recommended: usize,
    /// The reason for the recommendation.
    pub reason: String,
    /// Cautions.
    pub warnings: Vec<String>,
    /// The number of shapes valued.
    pub searched: usize,
    /// The strategies tried, the cheapest first.
    pub strategies: Vec<String>,
}

impl Advice {
    /// Searches for the best shapes. Among shapes with equal figures, the strategy with the fewest
    /// [steps](SequenceStrategy::steps) is named, steps of the valuation included.
    ///
    /// ```
    /// use s3t_core::Prior;
    /// use s3t_core::budget::cost::ModelShape;
    /// use s3t_core::budget::search::{Advice, Fixed, Goal, SearchLimits, SearchRequest};
    /// use s3t_core::sequence::Cyclic;
    ///
    /// // ViT-Base on 50,000 images, meant to last 200 requests.
    /// let request = SearchRequest {
    ///     records: 50_000,
    ///     model: ModelShape::transformer(12, 768, 3072, 197, 16, 10),
    ///     epochs: 15,
    ///     prior: &Prior::Uniform,
    ///     goal: Goal::Deletions,
    ///     wanted_deletions: Some(200.0),
    ///     limits: SearchLimits::default(),
    ///     fixed: Fixed::default(),
    ///     seed: 0,
    /// };
    /// let advice = Advice::search(&request, &[&Cyclic {}])?;
    /// assert!(advice.best().lifetime.all_dead >= 200.0);
    /// # Ok::<(), s3t_core::CoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] for an invalid prior, or if no shape is within the limits, naming the limit that leaves
    /// none, or the given part that no shape can have. A strategy that cannot make a budget is passed over, and
    /// [`CoreError::BudgetOutOfRange`] if none can make the one that is given; [`CoreError::BrokenStrategy`] is not.
    pub fn search(request: &SearchRequest<'_>, strategies: &[&dyn SequenceStrategy]) -> Result<Self, CoreError> {
        check_given(request)?;
        let counts = grid::slice_counts(request)?;
        let among_others = strategies.len() > 1;
        let (strategies, left_out) = grid::affordable(request, &counts, strategies)?;
        let (mut candidates, mut refused) = (Vec::new(), None);
        for &slices in &counts {
            for budget in grid::budgets(request, slices) {
                let of_shard = grid::of_shard(request, slices, budget, 0);
                for strategy in strategies.iter().filter(|strategy| !(among_others && strategy.is_baseline(&of_shard)))
                {
                    match value::shapes(request, slices, budget, *strategy) {
                        Ok(shapes) => candidates.extend(shapes),
                        Err(error @ CoreError::BudgetOutOfRange { .. }) => refused = Some(error),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let searched = candidates.len();
        candidates.retain(|candidate: &Candidate| {
            candidate.cost.flops <= request.limits.flops && candidate.cost.bytes <= request.limits.bytes
        });
        if candidates.is_empty() {
            return Err(nothing_fits(request, &counts, searched, refused));
        }
        let (front, recommended, reason) = match request.wanted_deletions {
            Some(wanted) => {
                // Shapes that do not last long enough leave before the front is made, so that the cheapest of the rest is on it.
                let lasts = |candidate: &Candidate| candidate.lifetime.all_dead;
                let longest = candidates.iter().map(lasts).fold(0.0, f64::max);
                candidates.retain(|candidate| lasts(candidate) >= wanted.min(longest));
                let reason = if longest >= wanted {
                    format!("the cheapest that lasts the {wanted:.0} requests wanted")
                } else {
                    format!("nothing within the limits lasts {wanted:.0} requests; this lasts longest")
                };
                (front::front(candidates), 0, reason)
            }
            None => {
                let front = front::front(candidates);
                let (knee, reason) = front::knee(&front);
                (front, knee, reason)
            }
        };
        let strategies = strategies.iter().map(|strategy| strategy.typetag_name().to_owned()).collect();
        let warnings = warnings(request, &front[recommended], &left_out);
        Ok(Self { front, recommended, reason, warnings, searched, strategies })
    }

    /// The recommended shape.
    pub fn best(&self) -> &Candidate {
        &self.front[self.recommended]
    }
}

/// Cautions about a recommended shape, and about strategies that were left out.
fn warnings(request: &SearchRequest<'_>, best: &Candidate, left_out: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    if best.blocks_per_slice < 2 {
        warnings.push("one block a slice: training is known to collapse below two".to_owned());
    }
    if matches!(request.goal, Goal::Depth { .. }) && grid::max_slices(request) > MAX_EXACT_SLICES as usize {
        warnings.push(format!("more than {MAX_EXACT_SLICES} slices were left out: depths are exact up to there"));
    }
    if best.shape.shards > 10 {
        warnings.push(
            "many shards: each model sees a small part of the records, so measure the accuracy before you commit"
                .into(),
        );
    }
    if !left_out.is_empty() {
        warnings.push(format!(
            "not tried, because the search would take too long: {}; give `strategy`, `slices` or `budget` to try it",
            left_out.join(", ")
        ));
    }
    warnings
}

/// Checks what is given and limited, each by itself.
fn check_given(request: &SearchRequest<'_>) -> Result<(), CoreError> {
    let SearchRequest { fixed, limits, model, .. } = request;
    let given = [
        ("fixed.shards", fixed.shards.map(u64::from)),
        ("fixed.budget", fixed.budget.map(|budget| budget as u64)),
        ("fixed.blocks_per_slice", fixed.blocks_per_slice.map(|blocks| blocks as u64)),
    ];
    if let Some((field, _)) = given.into_iter().find(|(_, value)| *value == Some(0)) {
        return Err(CoreError::field(field, "is 0; use at least 1"));
    }
    if fixed.shards.is_none() && limits.shards == 0 {
        return Err(CoreError::field("shards", "is limited to 0; allow at least 1"));
    }
    if fixed.budget.is_none() && limits.budget == 0 {
        return Err(CoreError::field("budget", "is limited to 0; allow at least 1"));
    }
    let (field, wanted) = match fixed.blocks_per_slice {
        Some(wanted) => ("fixed.blocks_per_slice", wanted),
        None => ("slice_blocks", limits.slice_blocks),
    };
    if wanted > model.blocks {
        let problem = format!("is {wanted}, but the model has {} blocks; use at most that", model.blocks);
        return Err(CoreError::field(field, problem));
    }
    Ok(())
}

/// The reason why no shape is left: of those of the grid, so many were valued, and `refused` is a strategy's refusal of a budget.
fn nothing_fits(request: &SearchRequest<'_>, counts: &[u32], searched: usize, refused: Option<CoreError>) -> CoreError {
    if counts.iter().all(|slices| grid::shard_counts(request, *slices).is_empty()) {
        let (records, fewest) = (request.records, counts.iter().copied().min().unwrap_or(1));
        let most = records / u64::from(fewest);
        return match (request.fixed.shards, request.limits.slice_records) {
            (Some(shards), _) if most > 0 => {
                let problem = format!(
                    "is {shards}, but {records} records are enough for {most} at most, with {fewest} to a shard"
                );
                CoreError::field("fixed.shards", problem)
            }
            (_, wanted) if fewest == 1 => {
                CoreError::field("slice_records", format!("of {wanted} leaves no slice of {records} records"))
            }
            (_, wanted) => {
                let problem = format!("of {wanted} leaves no {fewest} slices of {records} records; use fewer slices");
                CoreError::field("slice_records", problem)
            }
        };
    }
    if let (0, Some(refused)) = (searched, refused) {
        return refused;
    }
    let problem = format!(
        "are too tight: none of {searched} shapes has at most {:e} FLOPs and {} bytes",
        request.limits.flops, request.limits.bytes
    );
    CoreError::field("limits", problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::cost::ModelShape;
    use crate::budget::depth::DepthLaw;
    use crate::budget::lifetime::deletion_rate;
    use crate::sequence::{Cyclic, SequenceRequest, Single, plan_sequences};
    use crate::{CoreError, Prior, Sequence, ShardId};

    fn request(prior: &Prior, goal: Goal) -> SearchRequest<'_> {
        SearchRequest {
            records: 50_000,
            model: ModelShape::transformer(12, 768, 3072, 197, 16, 10),
            epochs: 15,
            prior,
            goal,
            wanted_deletions: None,
            limits: SearchLimits::default(),
            fixed: Fixed::default(),
            seed: 0,
        }
    }

    #[test]
    fn nothing_on_the_front_is_beaten_and_costs_are_those_of_the_plan() {
        let request = request(&Prior::Uniform, Goal::Deletions);
        let advice = Advice::search(&request, &[&Cyclic {}]).unwrap();
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
        let mut request = request(&Prior::Uniform, Goal::Deletions);
        request.wanted_deletions = Some(200.0);
        let advice = Advice::search(&request, &[&Cyclic {}]).unwrap();
        assert!(advice.best().lifetime.all_dead >= 200.0);
        // No shape of the whole search is cheaper and lasts as long.
        let all = Advice::search(&SearchRequest { wanted_deletions: None, ..request }, &[&Cyclic {}]).unwrap();
        let cheaper = all.front.iter().filter(|other| other.cost.flops < advice.best().cost.flops);
        assert!(cheaper.into_iter().all(|other| other.lifetime.all_dead < 200.0));
        // With depth as the goal too.
        request.goal = Goal::Depth { requests: 10 };
        let deep = Advice::search(&request, &[&Cyclic {}]).unwrap();
        assert_eq!(deep.best().cost, advice.best().cost);
        request.wanted_deletions = Some(1e12);
        assert!(Advice::search(&request, &[&Cyclic {}]).unwrap().reason.contains("nothing within the limits"));
    }

    #[test]
    fn depth_as_the_goal_agrees_with_the_exact_law() {
        let prior = Prior::PerSlice(vec![0.5, 0.2, 0.2, 0.1]);
        for prior in [&Prior::Uniform, &prior] {
            let advice = Advice::search(&request(prior, Goal::Depth { requests: 40 }), &[&Cyclic {}]).unwrap();
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
    fn check(request: &SearchRequest<'_>, word: &str) {
        let message = Advice::search(request, &[&Cyclic {}]).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }

    #[test]
    fn limits_are_kept_and_impossible_ones_named() {
        let mut request = request(&Prior::Uniform, Goal::Deletions);
        request.limits.bytes = 20_000_000;
        let advice = Advice::search(&request, &[&Cyclic {}]).unwrap();
        assert!(advice.front.iter().all(|candidate| candidate.cost.bytes <= 20_000_000));
        let mut tight = request;
        tight.limits.flops = 1.0;
        check(&tight, "too tight");
        let mut few = request;
        few.records = 50;
        check(&few, "leaves no slice");
        let mut large = request;
        large.limits.slice_blocks = 20;
        check(&large, "`slice_blocks` is 20, but the model has 12 blocks");
        large.fixed.blocks_per_slice = Some(13);
        check(&large, "`fixed.blocks_per_slice` is 13, but the model has 12 blocks");
        let mut given = request;
        given.fixed.shards = Some(50_001);
        check(&given, "fixed.shards` is 50001, but 50000 records");
        given.fixed = Fixed { slices: Some(3), budget: Some(7), ..Fixed::default() };
        check(&given, "cannot make 7 distinct sequences of 3 slices");
        // Not that of one slice, which can make one.
        given.fixed = Fixed { budget: Some(800), ..Fixed::default() };
        check(&given, "cannot make 800 distinct sequences of 6 slices");
        for zero in [
            Fixed { shards: Some(0), ..Fixed::default() },
            Fixed { budget: Some(0), ..Fixed::default() },
            Fixed { blocks_per_slice: Some(0), ..Fixed::default() },
        ] {
            given.fixed = zero;
            check(&given, "is 0; use at least 1");
        }
        // What is given has no limit.
        given.fixed = Fixed { shards: Some(2), slices: Some(3), budget: Some(3), ..Fixed::default() };
        (given.limits.shards, given.limits.budget) = (0, 0);
        assert_eq!(Advice::search(&given, &[&Cyclic {}]).unwrap().searched, 3);
        given.fixed.shards = None;
        check(&given, "`shards` is limited to 0");
        let mut large = request;
        (large.fixed.slices, large.limits.slice_blocks) = (Some(2), 20);
        check(&large, "`slice_blocks` is 20, but the model has 12 blocks");
        let mut few = request;
        (few.fixed.slices, few.records) = (Some(6), 500);
        check(&few, "`slice_records` of 100 leaves no 6 slices of 500 records");
        let mut deep = super::tests::request(&Prior::Uniform, Goal::Depth { requests: 9 });
        deep.model.blocks = 100;
        deep.fixed.slices = Some(40);
        check(&deep, "is 40; depths are exact for 1 to 20 slices");
        let prior = Prior::PerSlice(vec![0.1; 9]);
        let mut many = request;
        many.prior = &prior;
        check(&many, "gives 9 slices; 12 blocks with at least 2 to a slice are enough for 1 to 6");
    }

    #[test]
    fn what_is_given_is_not_searched() {
        let mut request = request(&Prior::Uniform, Goal::Deletions);
        request.fixed = Fixed { shards: Some(7), slices: Some(4), budget: Some(3), blocks_per_slice: Some(2) };
        let advice = Advice::search(&request, &[&Cyclic {}]).unwrap();
        let best = advice.best();
        assert_eq!((best.shape.shards, best.shape.slices, best.budget, best.blocks_per_slice), (7, 4, 3, 2));
        assert_eq!(advice.front.len(), 1);
        request.fixed.slices = Some(9);
        check(&request, "is 9; 12 blocks with 2 to a slice are enough for 1 to 6");
    }

    #[test]
    fn one_block_a_slice_is_warned_of() {
        let mut request = request(&Prior::Uniform, Goal::Deletions);
        request.limits.slice_blocks = 1;
        request.wanted_deletions = Some(1e12);
        let advice = Advice::search(&request, &[&Cyclic {}]).unwrap();
        assert!(advice.best().blocks_per_slice == 1 && advice.warnings[0].contains("collapse"));
    }

    /// Slices in reverse, for every budget of one.
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Reversed {
        steps: f64,
        own: bool,
    }

    #[typetag::serde(name = "reversed-for-test")]
    impl SequenceStrategy for Reversed {
        fn steps(&self, _request: &SequenceRequest<'_>) -> f64 {
            self.steps
        }

        fn depends_on_shard(&self, _request: &SequenceRequest<'_>) -> bool {
            self.own
        }

        fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
            let order = (0..request.slices).rev().map(crate::SliceId).collect();
            Ok(vec![Sequence::new(order, request.slices)?; request.budget.min(1)])
        }
    }

    #[test]
    fn every_strategy_is_tried_and_the_cheapest_is_named() {
        let mut request = request(&Prior::Uniform, Goal::Deletions);
        request.fixed.budget = Some(1);
        let reversed = |steps, own| Reversed { steps, own };
        let (cheap, dear, endless) = (reversed(0.0, false), reversed(1e4, true), reversed(1e9, false));
        let search = |strategies: &[&dyn SequenceStrategy]| Advice::search(&request, strategies).unwrap();
        // Equal figures: one first slice in every shard.
        let named = |advice: &Advice| advice.front.iter().map(|shape| shape.strategy.clone()).collect::<Vec<_>>();
        let advice = search(&[&dear, &Single {}]);
        assert_eq!(advice.strategies, ["single", "reversed-for-test"]);
        assert!(named(&advice).iter().all(|name| name == "single"));
        let advice = search(&[&Single {}, &cheap]);
        assert!(named(&advice).iter().all(|name| name == "reversed-for-test"));
        // Shards with sequences of their own are valued one by one: here all have the same.
        assert_eq!(search(&[&dear]).best().lifetime, search(&[&cheap]).best().lifetime);
        let advice = search(&[&Single {}, &endless]);
        assert_eq!(advice.strategies, ["single"]);
        assert!(advice.warnings.iter().any(|warning| warning.contains("reversed-for-test")), "{:?}", advice.warnings);
    }
}
