//! The laws that every aggregator inherits.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::aggregate::argmax;
use s3t_core::registry::plugin_from_json;
use s3t_core::{Aggregator, PluginKind};

/// Checks an aggregator, given by its table, on random outputs of 1 to 7 members with 2 to 5 classes:
///
/// - the result has one finite number a class;
/// - the same rows give the same bits;
/// - one member alone predicts what it predicts without the aggregator;
/// - members that all predict one class predict it together;
/// - the order of the members does not decide where one class leads by far;
/// - with [`Aggregator::keeps_scale`], equal rows give that row, within rounding.
///
/// # Panics
///
/// If a law is broken, with the law's name.
pub fn check_aggregator(table: &serde_json::Value) {
    let aggregator: Box<dyn Aggregator> =
        plugin_from_json(PluginKind::Aggregator, table).expect("the table is an aggregator's");
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for round in 0..500 {
        let (members, classes) = (rng.random_range(1..=7usize), rng.random_range(2..=5usize));
        let mut rows: Vec<Vec<f32>> =
            (0..members).map(|_| (0..classes).map(|_| rng.random_range(-3.0..3.0)).collect()).collect();
        let combine = |rows: &[Vec<f32>]| aggregator.combine(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let result = combine(&rows);
        let context = format!("{table}, round {round}: {rows:?} gave {result:?}");
        assert_eq!(result.len(), classes, "one number a class: {context}");
        assert!(result.iter().all(|score| score.is_finite()), "finite numbers: {context}");
        let bits = |row: &[f32]| row.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&result), bits(&combine(&rows)), "the same rows give the same bits: {context}");
        assert_eq!(argmax(&combine(&rows[..1])), argmax(&rows[0]), "one member is passed through: {context}");
        if aggregator.keeps_scale() {
            let equal = combine(&vec![rows[0].clone(); members]);
            let close = equal.iter().zip(&rows[0]).all(|(one, other)| (one - other).abs() < 1e-5);
            assert!(close, "equal rows give that row: {context}");
        }
        // One class leads in every member, by more than all others together can make up for.
        let leader = rng.random_range(0..classes);
        rows.iter_mut().for_each(|row| row[leader] += 100.0);
        assert_eq!(argmax(&combine(&rows)), leader, "agreement is kept: {context}");
        rows.reverse();
        assert_eq!(argmax(&combine(&rows)), leader, "the order does not decide: {context}");
    }
}
