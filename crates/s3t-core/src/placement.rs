//! Where records go: a subject's records together, and nobody's place by anybody else's records.

use std::collections::{HashMap, HashSet};

use crate::partition::Group;
use crate::{CoreError, PartitionShape, Partitioner, Record, SliceAddress, StoreSecret, SubjectId};

/// Places every record: the slice of its subject, or its own if it has none.
///
/// # Errors
///
/// [`CoreError::DuplicateRecord`], or the partitioner's refusal of its fields.
pub fn place_records(
    records: &[Record],
    partitioner: &dyn Partitioner,
    shape: PartitionShape,
    secret: &StoreSecret,
) -> Result<Vec<SliceAddress>, CoreError> {
    partitioner.check(shape)?;
    let mut first_ordinals: HashMap<&SubjectId, u64> = HashMap::new();
    let mut seen = HashSet::with_capacity(records.len());
    for record in records {
        if !seen.insert(&record.id) {
            return Err(CoreError::DuplicateRecord(record.id.clone()));
        }
        if let Some(subject) = &record.subject {
            let first = first_ordinals.entry(subject).or_insert(record.ordinal);
            *first = record.ordinal.min(*first);
        }
    }
    let place = |record: &Record| match &record.subject {
        Some(subject) => partitioner.place(Group::Subject(subject), first_ordinals[subject], shape, secret),
        None => partitioner.place(Group::Record(&record.id), record.ordinal, shape, secret),
    };
    Ok(records.iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::KeyedHash;
    use crate::{Payload, RecordId, Target};

    fn id(text: &str) -> RecordId {
        RecordId::new(text).unwrap()
    }

    #[test]
    fn all_records_of_a_subject_land_in_one_slice_and_removal_moves_nobody() {
        let shape = PartitionShape { shards: 3, slices: 4 };
        let secret = StoreSecret::from_bytes([5; 32]);
        let record = |number: u64| Record {
            id: id(&format!("r{number}")),
            subject: (!number.is_multiple_of(3)).then(|| SubjectId::new(format!("s{}", number % 10)).unwrap()),
            target: Target::Class(0),
            ordinal: number,
            payload: Payload::Text(String::new()),
        };
        let records: Vec<Record> = (0..100).map(record).collect();
        let places = place_records(&records, &KeyedHash {}, shape, &secret).unwrap();
        for (one, place) in records.iter().zip(&places) {
            for (other, other_place) in records.iter().zip(&places) {
                if one.subject.is_some() && one.subject == other.subject {
                    assert_eq!(place, other_place);
                }
            }
        }
        let fewer: Vec<Record> = records.iter().filter(|record| record.ordinal % 7 != 0).cloned().collect();
        let fewer_places = place_records(&fewer, &KeyedHash {}, shape, &secret).unwrap();
        for (record, place) in fewer.iter().zip(&fewer_places) {
            assert_eq!(*place, places[record.ordinal as usize]);
        }
    }
}
