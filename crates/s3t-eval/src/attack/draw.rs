//! Draws that depend on a seed and a name only: the same for the same name, whatever other names there are.

use s3t_core::Record;
use s3t_core::digest::DigestBuilder;

/// A number for a name, uniform over all 64-bit numbers.
pub(crate) fn number(purpose: &str, seed: u64, name: &str) -> u64 {
    let digest = DigestBuilder::new("attack").bytes(purpose.as_bytes()).number(seed).bytes(name.as_bytes()).finish();
    digest.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The name by which a record is drawn: its subject's, so that records of a subject go together, or its own.
pub(crate) fn group(record: &Record) -> String {
    match &record.subject {
        Some(subject) => format!("subject {}", subject.as_str()),
        None => format!("record {}", record.id.as_str()),
    }
}

/// At most `count` records, in a drawn order by group. A group that does not fit is left out, unless it is the first.
pub(crate) fn records(purpose: &str, seed: u64, records: Vec<Record>, count: usize) -> Vec<Record> {
    let mut drawn: Vec<(u64, String, Record)> = records
        .into_iter()
        .map(|record| {
            let group = group(&record);
            (number(purpose, seed, &group), group, record)
        })
        .collect();
    drawn.sort_by(|one, other| (one.0, &one.1, one.2.id.as_str()).cmp(&(other.0, &other.1, other.2.id.as_str())));
    let mut taken: Vec<Record> = Vec::new();
    for group in drawn.chunk_by(|one, other| one.1 == other.1) {
        if taken.is_empty() || taken.len() + group.len() <= count {
            taken.extend(group.iter().map(|(_, _, record)| record.clone()));
        }
    }
    taken
}
