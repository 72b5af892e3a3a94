//! The laws that every choice of members inherits.

use std::path::Path;

use s3t_core::members::LivePrefix;
use s3t_core::registry::plugin_from_json;
use s3t_core::{Members, PartitionShape, Payload, PluginKind, Record, Serving, SliceId, StoreSecret, SubjectId};
use s3t_engine::{Answer, Quiet, System};

use crate::{tiny_pipeline, toy_records, write_tiny_model};

/// The sequences of the shards that a choice is tried on: cyclic ones, and ones that share beginnings.
const SHARDS: [&[&[u32]]; 4] = [
    &[&[0]],
    &[&[0, 1, 2], &[1, 2, 0], &[2, 0, 1]],
    &[&[0, 1, 2, 3], &[0, 2, 1, 3], &[3, 1, 2, 0], &[2, 3, 0, 1], &[1, 0, 3, 2]],
    &[&[4, 0, 1, 2, 3], &[3, 4, 0, 1, 2], &[2, 3, 4, 0, 1], &[1, 2, 3, 4, 0], &[0, 1, 2, 3, 4]],
];

/// Checks a choice of members, given by its table:
///
/// - it chooses at least one of the live prefixes, in their order, each once, whatever was deleted;
/// - the same live prefixes give the same choice, whatever was chosen before;
/// - *non-interference*: after a deletion, a system answers bit for bit as one in which the deleted records, and those that no member has
///   seen, had another content; after a repair, as one in which the deleted records have never been.
///
/// # Panics
///
/// If a law is broken.
pub fn check_members(table: &serde_json::Value) {
    let made = || -> Box<dyn Members> {
        plugin_from_json(PluginKind::Members, table).unwrap_or_else(|error| panic!("{table}: {error}"))
    };
    let members = made();
    // Shallow states first: a choice that remembers a deeper one later gives itself away the second time.
    let mut states = states();
    states.sort_by_key(|orders| orders.iter().map(Vec::len).max());
    let choose = |orders: &Vec<Vec<SliceId>>| {
        let context = format!("{table}, live {orders:?}");
        (members.choose(&live(orders)), context)
    };
    let first: Vec<Vec<usize>> = states
        .iter()
        .map(|orders| {
            let (chosen, context) = choose(orders);
            check_choice(&chosen, live(orders).len(), &context);
            chosen
        })
        .collect();
    for (orders, first) in states.iter().zip(first) {
        let (again, context) = choose(orders);
        assert_eq!(first, again, "the same live prefixes give another choice: {context}");
    }
    check_answers(&made, &table.to_string());
}

/// The distinct live prefixes.
fn live(orders: &[Vec<SliceId>]) -> Vec<LivePrefix<'_>> {
    let prefix = |(sequence, slices): (usize, &'_ Vec<SliceId>)| (sequence, slices.len());
    let is_new = |(sequence, depth): &(usize, usize)| *depth > 0 && !orders[..*sequence].contains(&orders[*sequence]);
    let distinct = orders.iter().enumerate().map(prefix).filter(is_new);
    distinct
        .map(|(sequence, depth)| LivePrefix { serving: Serving { sequence, depth }, slices: &orders[sequence] })
        .collect()
}

/// The live part of each sequence, for every set of slices of each shard that was hit, unless no sequence is left.
fn states() -> Vec<Vec<Vec<SliceId>>> {
    let of_shard = |orders: &&[&[u32]]| {
        let orders: Vec<Vec<u32>> = orders.iter().map(|order| order.to_vec()).collect();
        let slices = orders[0].len();
        (0u32..1 << slices).map(move |hit| {
            let is_live = |slice: &&u32| hit >> **slice & 1 == 0;
            let live = |order: &Vec<u32>| order.iter().take_while(is_live).copied().map(SliceId).collect();
            orders.iter().map(live).collect::<Vec<Vec<SliceId>>>()
        })
    };
    SHARDS.iter().flat_map(of_shard).filter(|orders| orders.iter().any(|order| !order.is_empty())).collect()
}

fn check_choice(chosen: &[usize], live: usize, context: &str) {
    assert!(!chosen.is_empty(), "no member is chosen of {live} live prefixes: {context}");
    assert!(chosen.iter().all(|index| *index < live), "{chosen:?} are not all live prefixes: {context}");
    assert!(chosen.is_sorted_by(|one, other| one < other), "{chosen:?} are not in order, each once: {context}");
}

/// One subject's records are deleted from systems that differ in what the choice must not see.
fn check_answers(members: &dyn Fn() -> Box<dyn Members>, context: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    write_tiny_model(&model, 3).expect("the tiny model is written");
    let records = toy_records(48, 12, 1);
    let subject = SubjectId::new("subject-1").expect("a well-formed id");
    let gone = |record: &Record| record.subject.as_ref() == Some(&subject);
    let trained = |name: &str, records: &[Record]| trained(&model, &folder.path().join(name), members(), records);
    let delete =
        |system: &System| drop(system.delete(&[], std::slice::from_ref(&subject)).expect("the deletion is done"));
    let answer = |system: &System| system.answer(&toy_records(6, 0, 9)).expect("the system answers");

    let with = trained("with", &records);
    let store = with.store();
    let address = |record: &Record| store.address(&record.id).expect("the catalogue is read").expect("a record of it");
    let places: Vec<_> = records.iter().map(address).collect();
    let hit: Vec<_> = records.iter().zip(&places).filter(|(record, _)| gone(record)).map(|(_, at)| *at).collect();
    delete(&with);
    // After the cut no live prefix has seen a slice that was hit: nor what is left there.
    let other: Vec<Record> = records
        .iter()
        .zip(&places)
        .map(|(record, at)| if hit.contains(at) { with_other_content(record) } else { record.clone() })
        .collect();
    assert_ne!(other, records, "nothing differs: {context}");
    let other = trained("other", &other);
    delete(&other);
    assert_same(&answer(&with), &answer(&other), "an answer depends on records that no member has seen", context);

    with.train(&Quiet).expect("the repair is done");
    let left: Vec<Record> = records.iter().filter(|record| !gone(record)).cloned().collect();
    let never = trained("never", &left);
    assert_same(&answer(&with), &answer(&never), "a repaired system differs from one without the records", context);
}

fn trained(model: &Path, store: &Path, members: Box<dyn Members>, records: &[Record]) -> System {
    let mut pipeline = tiny_pipeline(model, store);
    pipeline.shape = PartitionShape { shards: 2, slices: 3 };
    pipeline.budget = 3;
    pipeline.serving.members = members;
    let system = System::create(pipeline, records, Some(StoreSecret::from_bytes([1; 32]))).expect("a store");
    system.train(&Quiet).expect("a trained system");
    system
}

fn with_other_content(record: &Record) -> Record {
    let payload = match &record.payload {
        Payload::Features(features) => Payload::Features(features.iter().map(|value| 0.7 - value).collect()),
        other => other.clone(),
    };
    Record { payload, ..record.clone() }
}

fn assert_same(one: &Answer, other: &Answer, law: &str, context: &str) {
    let bits = |answer: &Answer| -> Vec<Vec<u32>> {
        let of = |scores: &Vec<f32>| scores.iter().map(|score| score.to_bits()).collect();
        answer.predictions.iter().map(|prediction| of(&prediction.scores)).collect()
    };
    assert_eq!(one.stages, other.stages, "{law}, other stages answer: {context}");
    assert_eq!(bits(one), bits(other), "{law}: {context}");
}
