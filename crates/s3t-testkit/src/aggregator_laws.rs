//! The laws that every aggregator inherits.

use s3t_core::aggregate::argmax;
use s3t_core::registry::plugin_from_json;
use s3t_core::{Aggregator, MemberInfo, PluginKind, ShardId};

/// The largest difference that rounding explains, as a share of the largest number at hand.
const ROUNDING: f32 = 1e-5;

/// Distances of a question from the members' records: without any, all 0, far from some, and not known of the last members.
const DISTANCES: [fn(usize) -> Option<f32>; 4] = [
    |_| None,
    |_| Some(0.0),
    |member| Some(10.0_f32.powi(3 * member as i32 - 9)),
    |member| (member < 3).then_some(member as f32),
];

/// Checks an aggregator, given by its table, on one to seven members of the same and of other depths, at any distances, and one to six
/// classes:
///
/// - the result has a number for each class, and finite rows give finite numbers, large ones included;
/// - the same rows give the same bits, whatever was combined before, and whatever the distances unless the aggregator is
///   [routed](Aggregator::is_routed): others are not given any;
/// - one member, and members that agree, keep their prediction: the largest entry, the first of several;
/// - no class is favoured: rows with classes in another order give the result in that order;
/// - with [`keeps_scale`](Aggregator::keeps_scale), every entry lies between the members', and rows that are multiplied by a number
///   give a multiplied result.
///
/// # Panics
///
/// If a law is broken.
pub fn check_aggregator(table: &serde_json::Value) {
    let aggregator: Box<dyn Aggregator> =
        plugin_from_json(PluginKind::Aggregator, table).unwrap_or_else(|error| panic!("{table}: {error}"));
    for members in 1..=7 {
        for classes in 1..=6 {
            for kind in 0..4 {
                for depths in [|_| 1, |member| member % 3, |member| 9 - member] {
                    for distance in DISTANCES {
                        let shard = |member| ShardId(member as u32 / 2);
                        let place = |member| MemberInfo {
                            shard: shard(member),
                            depth: depths(member),
                            distance: distance(member),
                        };
                        let places: Vec<MemberInfo> = (0..members).map(place).collect();
                        let context = format!("{table}, {members} x {classes}, {places:?}");
                        check_rows(&*aggregator, &rows(members, classes, kind), &places, &context);
                    }
                }
            }
        }
    }
}

fn check_rows(aggregator: &dyn Aggregator, rows: &[Vec<f32>], places: &[MemberInfo], context: &str) {
    let combine = |rows: &[Vec<f32>]| {
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        aggregator.combine_placed(&slices, &places[..rows.len()])
    };
    let (result, classes) = (combine(rows), rows[0].len());
    let size = |rows: &[Vec<f32>]| rows.iter().flatten().fold(1.0f32, |most, value| most.max(value.abs()));
    let close = |one: f32, other: f32, size: f32| (one - other).abs() <= ROUNDING * size;
    assert_eq!(result.len(), classes, "the result has another length than the rows: {context}");
    assert!(result.iter().all(|score| score.is_finite()), "finite rows give {result:?}: {context}");
    // Another call in between must leave no trace.
    combine(&[vec![9.0; classes]]);
    let again = combine(rows);
    let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&result), bits(&again), "the same rows give other bits: {context}");
    if !aggregator.is_routed() {
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let without: Vec<MemberInfo> = places.iter().map(|place| MemberInfo { distance: None, ..*place }).collect();
        let unrouted = aggregator.combine_placed(&slices, &without);
        assert_eq!(bits(&result), bits(&unrouted), "distances count, but `is_routed` is false: {context}");
    }

    for same in [vec![rows[0].clone()], vec![rows[0].clone(); rows.len()]] {
        let kept = combine(&same);
        let (found, expected) = (argmax(&kept), argmax(&rows[0]));
        // Entries that differ by rounding only are one prediction.
        let tied = rows[0][expected] - rows[0][found] <= ROUNDING * size(&same);
        assert!(found == expected || tied, "members that agree on {expected} are answered by {found}: {context}");
    }

    let turned: Vec<Vec<f32>> = rows.iter().map(|row| turn(row)).collect();
    let tied = rows.iter().any(|row| row.iter().filter(|value| **value == row[argmax(row)]).count() > 1);
    let fair = combine(&turned).iter().zip(turn(&result)).all(|(one, other)| close(*one, other, size(rows)));
    assert!(fair || tied, "classes in another order give another result: {context}");

    if aggregator.keeps_scale() {
        for (class, score) in result.iter().enumerate() {
            let of_members = || rows.iter().map(|row| row[class]);
            let (low, high) = (of_members().fold(f32::MAX, f32::min), of_members().fold(f32::MIN, f32::max));
            let slack = ROUNDING * size(rows);
            assert!((low - slack..=high + slack).contains(score), "{score} is not between {low} and {high}: {context}");
        }
        let doubled: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| 2.0 * value).collect()).collect();
        let linear = combine(&doubled).iter().zip(&result).all(|(two, one)| close(*two, 2.0 * one, size(&doubled)));
        assert!(linear, "rows that are doubled do not double the result: {context}");
    }
}

/// The row with its classes moved by one.
fn turn(row: &[f32]) -> Vec<f32> {
    let mut turned = row.to_vec();
    turned.rotate_left(1);
    turned
}

/// Rows of small, large, equal and alternating numbers.
fn rows(members: usize, classes: usize, kind: usize) -> Vec<Vec<f32>> {
    let value = |member: usize, class: usize| {
        let wave = ((3 * member + 5 * class) as f32).sin();
        match kind {
            0 => wave,
            1 => 1e30 * wave,
            2 => 1.0,
            _ => {
                if (member + class).is_multiple_of(2) {
                    40.0
                } else {
                    -40.0
                }
            }
        }
    };
    (0..members).map(|member| (0..classes).map(|class| value(member, class)).collect()).collect()
}
