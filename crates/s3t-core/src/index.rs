//! Which records there are and where: the look-up behind every deletion.

use std::collections::{HashMap, HashSet};

use crate::partition::Group;
use crate::{CoreError, PartitionShape, Partitioner, Record, RecordId, SliceAddress, StoreSecret, SubjectId};

/// Records by id and by subject. Look-ups are O(1) in the number of records.
#[derive(Debug, Clone, Default)]
pub struct RecordIndex {
    records: HashMap<RecordId, (SliceAddress, Option<SubjectId>)>,
    subjects: HashMap<SubjectId, Vec<RecordId>>,
}

impl RecordIndex {
    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`CoreError::DuplicateRecord`] if the id is there already; nothing is changed then.
    pub fn insert(&mut self, id: RecordId, subject: Option<SubjectId>, address: SliceAddress) -> Result<(), CoreError> {
        if self.records.contains_key(&id) {
            return Err(CoreError::DuplicateRecord(id));
        }
        if let Some(subject) = &subject {
            self.subjects.entry(subject.clone()).or_default().push(id.clone());
        }
        self.records.insert(id, (address, subject));
        Ok(())
    }

    /// Where a record is.
    pub fn address(&self, id: &str) -> Option<SliceAddress> {
        self.records.get(id).map(|(address, _)| *address)
    }

    /// The subject of a record, if it has one.
    pub fn subject(&self, id: &str) -> Option<&SubjectId> {
        self.records.get(id).and_then(|(_, subject)| subject.as_ref())
    }

    /// The records of a subject, in the order they were added; empty if nobody of that name is there.
    pub fn of_subject(&self, subject: &str) -> &[RecordId] {
        self.subjects.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Removes records, each subject's at once. Ids that are not there are passed over; the last record of a subject takes
    /// the subject along.
    pub fn remove_all(&mut self, ids: &[RecordId]) {
        let mut touched: HashSet<SubjectId> = HashSet::new();
        for id in ids {
            touched.extend(self.records.remove(id).and_then(|(_, subject)| subject));
        }
        for subject in touched {
            let Some(records) = self.subjects.get_mut(&subject) else { continue };
            records.retain(|record| self.records.contains_key(record));
            if records.is_empty() {
                self.subjects.remove(&subject);
            }
        }
    }

    /// The slice of every record, in no order.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = SliceAddress> + '_ {
        self.records.values().map(|(address, _)| *address)
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The subjects, in no order.
    pub fn subjects(&self) -> impl ExactSizeIterator<Item = &SubjectId> {
        self.subjects.keys()
    }
}

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
    let mut seen = std::collections::HashSet::with_capacity(records.len());
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
    use crate::{Payload, Target};

    fn id(text: &str) -> RecordId {
        RecordId::new(text).unwrap()
    }

    #[test]
    fn records_come_and_go_with_their_subjects() {
        let mut index = RecordIndex::default();
        let subject = SubjectId::new("s").unwrap();
        let address = SliceAddress::new(1, 2);
        index.insert(id("a"), Some(subject.clone()), address).unwrap();
        index.insert(id("b"), Some(subject.clone()), address).unwrap();
        index.insert(id("c"), None, SliceAddress::new(0, 0)).unwrap();
        assert_eq!(index.insert(id("a"), None, address), Err(CoreError::DuplicateRecord(id("a"))));
        assert_eq!(index.of_subject("s"), [id("a"), id("b")]);
        index.remove_all(&[id("a")]);
        assert_eq!((index.address("b"), index.address("a")), (Some(address), None));
        index.remove_all(&[id("b"), id("nobody")]);
        assert_eq!((index.of_subject("s"), index.subjects().len(), index.len()), (&[] as &[_], 0, 1));
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
