//! The laws that every partitioner inherits.

use s3t_core::partition::Group;
use s3t_core::registry::plugin_from_json;
use s3t_core::{PartitionShape, Partitioner, PluginKind, RecordId, StoreSecret, SubjectId};

/// Checks a partitioner, given by its table, on shapes of 1 to 5 shards and 1 to 5 slices, subjects and records, and several
/// secrets. A shape that the partitioner refuses is passed over.
///
/// - Every place is inside the shape.
/// - The place of a group is a function of the group, its ordinal, the shape and the secret: asking again gives it again.
/// - A partitioner that does not say that it [uses the order](Partitioner::uses_order) gives a group the same place whatever
///   its ordinal is.
/// - Every slice gets some of a thousand groups, so that no slice of a larger store stays empty for certain.
///
/// Returns the number of shapes that were accepted.
///
/// # Panics
///
/// If a law is broken, with the law's name, or if no shape was accepted.
pub fn check_partitioner(table: &serde_json::Value) -> usize {
    let partitioner: Box<dyn Partitioner> =
        plugin_from_json(PluginKind::Partitioner, table).expect("the table is a partitioner's");
    let mut accepted = 0;
    let shapes = (1..=5).flat_map(|shards| (1..=5).map(move |slices| PartitionShape { shards, slices }));
    for shape in shapes.filter(|shape| partitioner.check(*shape).is_ok()) {
        accepted += 1;
        for secret in [[0; 32], [7; 32]].map(StoreSecret::from_bytes) {
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..1000u64 {
                let subject = SubjectId::new(format!("subject-{number}")).expect("a well-formed id");
                let record = RecordId::new(format!("record-{number}")).expect("a well-formed id");
                for group in [Group::Subject(&subject), Group::Record(&record)] {
                    let context = format!("{table}, {shape:?}, {group:?}");
                    let place = partitioner.place(group, number, shape, &secret);
                    assert!(
                        place.shard.0 < shape.shards && place.slice.0 < shape.slices,
                        "{place} is outside the shape: {context}"
                    );
                    let again = partitioner.place(group, number, shape, &secret);
                    assert_eq!(place, again, "asking again gives the same place: {context}");
                    if !partitioner.uses_order() {
                        let elsewhere = partitioner.place(group, 1000 - number, shape, &secret);
                        assert_eq!(place, elsewhere, "the place does not depend on the order: {context}");
                    }
                    seen.insert((place.shard, place.slice));
                }
            }
            let slices = (shape.shards * shape.slices) as usize;
            assert_eq!(seen.len(), slices, "every slice gets groups: {table}, {shape:?}");
        }
    }
    assert!(accepted > 0, "{table} refused every shape");
    accepted
}
