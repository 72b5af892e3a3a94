//! The laws that every partitioner inherits.

use s3t_core::partition::Group;
use s3t_core::registry::{plugin_from_json, plugins};
use s3t_core::{PartitionShape, Partitioner, PluginKind, RecordId, SliceAddress, StoreSecret, SubjectId};
use serde_json::Value;

/// Groups that are placed.
const GROUPS: u64 = 6000;

/// Checks a partitioner, given by its table, on several shapes and secrets, with 6,000 subjects and records in rows 0 to 5,999:
///
/// - every place is inside the shape, for the largest row number too;
/// - a group's place is a function of the group, its row, the shape and the secret: groups placed before change nothing, so that a
///   record that is gone moves nobody;
/// - unless [`uses_order`](Partitioner::uses_order), the row changes nothing, and another secret gives another partition;
/// - every slice has between a half and twice its share of the groups.
///
/// Fields without a default are given the number of groups. Returns how many shapes the partitioner granted.
///
/// # Panics
///
/// If a law is broken, or if no shape is granted.
pub fn check_partitioner(table: &Value) -> usize {
    let table = with_missing_fields(table);
    let partitioner: Box<dyn Partitioner> =
        plugin_from_json(PluginKind::Partitioner, &table).unwrap_or_else(|error| panic!("{table}: {error}"));
    let mut granted = 0;
    for (shards, slices) in [(1, 1), (1, 4), (3, 2), (5, 6)] {
        let shape = PartitionShape { shards, slices };
        if partitioner.check(shape).is_ok() {
            granted += 1;
            check_shape(&*partitioner, shape, &format!("{table}, {shards} x {slices}"));
        }
    }
    assert!(granted > 0, "{table} refuses every shape");
    granted
}

fn check_shape(partitioner: &dyn Partitioner, shape: PartitionShape, context: &str) {
    let (secret, other) = (StoreSecret::from_bytes([3; 32]), StoreSecret::from_bytes([4; 32]));
    let subjects: Vec<SubjectId> =
        (0..GROUPS).map(|row| SubjectId::new(format!("s{row}")).expect("well formed")).collect();
    let record = RecordId::new("a-record").expect("well formed");
    let place = |subject: usize, row: u64, secret: &StoreSecret| {
        partitioner.place(Group::Subject(&subjects[subject]), row, shape, secret)
    };
    let all = |secret: &StoreSecret| -> Vec<SliceAddress> {
        (0..subjects.len()).map(|subject| place(subject, subject as u64, secret)).collect()
    };
    let places = all(&secret);
    let last = partitioner.place(Group::Record(&record), u64::MAX, shape, &secret);
    for place in places.iter().chain([&last]) {
        let inside = place.shard.0 < shape.shards && place.slice.0 < shape.slices;
        assert!(inside, "{place} is outside the shape: {context}");
    }
    // Every third subject, in reverse: the others were never there.
    for subject in (0..subjects.len()).rev().step_by(3) {
        let alone = place(subject, subject as u64, &secret);
        assert_eq!(alone, places[subject], "the place of a subject depends on others: {context}");
    }
    if !partitioner.uses_order() {
        for subject in [0, 7, 4000] {
            assert_eq!(place(subject, 99, &secret), places[subject], "the row changes the place: {context}");
        }
        assert!(shape.count() == 1 || all(&other) != places, "another secret gives the same partition: {context}");
    }
    for address in shape.addresses() {
        let (share, count) = (GROUPS / shape.count(), places.iter().filter(|place| **place == address).count() as u64);
        assert!((share / 2..=2 * share).contains(&count), "{address} has {count} of {GROUPS} groups: {context}");
    }
}

/// The table with the number of groups for every whole number that has no default.
fn with_missing_fields(table: &Value) -> Value {
    let mut table = table.clone();
    let named = |name: &str| {
        plugins().into_iter().find(|plugin| plugin.kind() == PluginKind::Partitioner && plugin.name() == name)
    };
    let fields = table["type"].as_str().and_then(named).map(|plugin| plugin.fields()).unwrap_or_default();
    for field in fields {
        if field.default.is_null() && field.types.iter().any(|of| of == "integer") && table.get(&field.name).is_none() {
            table[&field.name] = GROUPS.into();
        }
    }
    table
}
