//! The laws that every sequence strategy inherits.

use s3t_core::registry::plugin_from_json;
use s3t_core::sequence::{factorial, plan_sequences};
use s3t_core::{CoreError, PluginKind, Prior, Sequence, SequenceRequest, SequenceStrategy, ShardId, SliceId};

/// Checks a sequence strategy, given by its table, on every L up to 6, budgets up to L! (all of them up to L = 4), several
/// priors and seeds:
///
/// - it makes exactly B distinct permutations, or refuses with a message that names the budget or a field;
/// - the same request has the same result, and so has another shard's, unless the strategy says that it depends on the shard;
/// - no request makes it panic, priors with zeros, with equal entries and with one certain slice included;
/// - with `diverse`, no two of B <= L sequences have a slice at the same position;
/// - with `any_budget`, every budget from 1 to L! works.
///
/// Returns how many requests it granted.
///
/// # Panics
///
/// If a law is broken.
pub fn check_sequence_strategy(table: &serde_json::Value, diverse: bool, any_budget: bool) -> usize {
    let strategy: Box<dyn SequenceStrategy> =
        plugin_from_json(PluginKind::SequenceStrategy, table).expect("the row is a strategy");
    let mut granted = 0;
    for slices in 1u32..=6 {
        let all = factorial(slices).expect("small") as usize;
        let (n, last) = (slices as usize, 40.max(slices as usize + 3));
        let budgets = (1..=all).filter(|budget| all <= 24 || *budget <= last || budget % 97 == 0 || *budget == all);
        for budget in budgets.chain([all + 1]) {
            for (kind, prior) in priors(slices).iter().enumerate() {
                let request = SequenceRequest { shard: ShardId(2), slices, budget, prior, seed: 7 + kind as u64 };
                let context = format!("{table}, L = {slices}, B = {budget}, {prior:?}");
                match plan_sequences(&*strategy, &request) {
                    Ok(sequences) => {
                        granted += 1;
                        assert!(budget <= all, "more sequences than there are: {context}");
                        assert_eq!(sequences, plan_sequences(&*strategy, &request).expect("as before"), "{context}");
                        if !strategy.depends_on_shard(&request) {
                            let other = SequenceRequest { shard: ShardId(5), ..request };
                            assert_eq!(sequences, plan_sequences(&*strategy, &other).expect("as here"), "{context}");
                        }
                        if diverse && budget <= n {
                            check_diverse(&sequences, slices, &context);
                        }
                    }
                    Err(CoreError::BudgetOutOfRange { reason, .. }) => {
                        assert!(!any_budget || budget > all, "refused: {reason}: {context}");
                    }
                    Err(error) => panic!("{error}: {context}"),
                }
            }
        }
    }
    assert!(granted > 0, "{table} made no sequences at all");
    granted
}

fn check_diverse(sequences: &[Sequence], slices: u32, context: &str) {
    for (index, one) in sequences.iter().enumerate() {
        for other in &sequences[index + 1..] {
            assert_eq!(one.distance(other), slices as usize, "{one} and {other}: {context}");
        }
    }
    if sequences.len() == slices as usize {
        for position in 0..slices as usize {
            let mut there: Vec<SliceId> = sequences.iter().map(|sequence| sequence.slices()[position]).collect();
            there.sort_unstable();
            let every: Vec<SliceId> = (0..slices).map(SliceId).collect();
            assert_eq!(there, every, "position {position}: {context}");
        }
    }
}

fn priors(slices: u32) -> [Prior; 5] {
    let n = slices as usize;
    let mut certain = vec![0.0; n];
    certain[n / 2] = 1.0;
    let rising: Vec<f64> = (1..=n).map(|slice| slice as f64 / (n * (n + 1)) as f64).collect();
    [
        Prior::Uniform,
        Prior::PerSlice(vec![0.0; n]),
        Prior::PerSlice(vec![1.0 / n as f64; n]),
        Prior::PerSlice(certain),
        Prior::PerSlice(rising),
    ]
}
