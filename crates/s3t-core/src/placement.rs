//! The place of each record: a subject's records together, and nobody's place by anybody else's records.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::partition::Group;
use crate::spelling::Spellings;
use crate::{CoreError, PartitionShape, Partitioner, PerShard, Record, SliceAddress, StoreSecret, SubjectId};

/// Places every record: the slice of its subject, or its own if it has none.
///
/// # Errors
///
/// [`CoreError::DuplicateRecord`]; [`CoreError::ConfusableIds`] for two records, or two subjects, whose ids a person cannot tell
/// apart; or the partitioner's refusal of its fields.
pub fn place_records(
    records: &[Record],
    partitioner: &dyn Partitioner,
    shape: PartitionShape,
    secret: &StoreSecret,
) -> Result<Vec<SliceAddress>, CoreError> {
    partitioner.check(shape)?;
    let mut first_ordinals: HashMap<&SubjectId, u64> = HashMap::new();
    let (mut ids, mut subjects) = (Spellings::new("record"), Spellings::new("subject"));
    for record in records {
        if ids.add(record.id.as_str(), ())?.is_some() {
            return Err(CoreError::DuplicateRecord(record.id.to_string()));
        }
        if let Some(subject) = &record.subject {
            match first_ordinals.entry(subject) {
                Entry::Occupied(mut first) => *first.get_mut() = record.ordinal.min(*first.get()),
                Entry::Vacant(first) => {
                    subjects.add(subject.as_str(), ())?;
                    first.insert(record.ordinal);
                }
            }
        }
    }
    let place = |record: &Record| match &record.subject {
        Some(subject) => partitioner.place(Group::Subject(subject), first_ordinals[subject], shape, secret),
        None => partitioner.place(Group::Record(&record.id), record.ordinal, shape, secret),
    };
    Ok(records.iter().map(place).collect())
}

/// The probability that a request hits each slice, `[shard][slice]`, from how likely each subject is to ask: a request is
/// a subject's in proportion to its number, and hits the slice where the partition puts that subject.
///
/// # Proof note
///
/// *Before*: one number for each subject, given by the operator and not read from records, and a partition that places a
/// subject by itself. *After*: rates that sum to 1, a function of the numbers, the shape and the secret. *Why it matters*:
/// which records there are is no argument, so sequences chosen from these rates are the same whether a record was ever
/// there or not.
///
/// # Errors
///
/// [`CoreError::InvalidField`] for a number that is negative, not finite or above 1, for numbers that are all 0, and for a
/// partitioner that places by order.
pub fn rates_of_subjects(
    subjects: &[(SubjectId, f64)],
    partitioner: &dyn Partitioner,
    shape: PartitionShape,
    secret: &StoreSecret,
) -> Result<PerShard<Vec<f64>>, CoreError> {
    if partitioner.uses_order() {
        let problem = format!(
            "comes from subjects, but `{}` places records by their order; use `keyed-hash`",
            partitioner.typetag_name()
        );
        return Err(CoreError::field("prior", problem));
    }
    let mut rates = vec![vec![0.0; shape.slices as usize]; shape.shards as usize];
    for (subject, probability) in subjects {
        if !(0.0..=1.0).contains(probability) {
            let problem = format!("gives {probability} for subject `{subject}`; probabilities are from 0 to 1");
            return Err(CoreError::field("prior", problem));
        }
        let place = partitioner.place(Group::Subject(subject), 0, shape, secret);
        rates[place.shard.index()][place.slice.index()] += probability;
    }
    let total: f64 = rates.iter().flatten().sum();
    if total <= 0.0 {
        return Err(CoreError::field("prior", "gives no subject a probability above 0"));
    }
    rates.iter_mut().flatten().for_each(|rate| *rate /= total);
    PerShard::each(rates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{Contiguous, KeyedHash};
    use crate::{Payload, Prior, RecordId, Target};

    fn id(text: &str) -> RecordId {
        RecordId::new(text).unwrap()
    }

    #[test]
    fn ids_that_cannot_be_told_apart_are_refused() {
        let shape = PartitionShape { shards: 1, slices: 1 };
        let record = |record: &str, subject: &str| Record {
            id: id(record),
            subject: Some(SubjectId::new(subject).unwrap()),
            target: Target::Class(0),
            ordinal: 0,
            payload: Payload::Text(String::new()),
        };
        let place = |records: &[Record]| {
            place_records(records, &KeyedHash {}, shape, &StoreSecret::from_bytes([5; 32])).map_err(|e| e.to_string())
        };
        // A record and a subject may have one id.
        assert!(place(&[record("a", "a"), record("b", "a")]).is_ok());
        let message = place(&[record("a", "x"), record("a ", "x")]).unwrap_err();
        assert!(message.contains("record id `a\\u{20}` cannot be told apart from `a`:"), "{message}");
        let message = place(&[record("a", "x"), record("b", "x\u{200b}")]).unwrap_err();
        assert!(message.contains("subject id `") && message.contains("`x\\u{200b}`"), "{message}");
        let message = place(&[record("a", "\u{a0}")]).unwrap_err();
        assert!(message.contains("subject id `\\u{a0}` shows nothing"), "{message}");
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

    #[test]
    fn rates_follow_the_subjects_to_their_slices() {
        let shape = PartitionShape { shards: 2, slices: 3 };
        let secret = StoreSecret::from_bytes([7; 32]);
        let subject = |name: &str, probability| (SubjectId::new(name).unwrap(), probability);
        let subjects = [subject("ann", 0.5), subject("bob", 0.25), subject("cleo", 0.0), subject("dan", 0.25)];
        let rates = rates_of_subjects(&subjects, &KeyedHash {}, shape, &secret).unwrap();
        assert!((rates.entries().iter().flatten().sum::<f64>() - 1.0).abs() < 1e-12);
        let ann = KeyedHash {}.place(Group::Subject(&subjects[0].0), 0, shape, &secret);
        assert!(rates.get(ann.shard.index())[ann.slice.index()] >= 0.5);
        for shard in rates.entries() {
            Prior::of_rates(shard).check(3).unwrap();
        }
        assert_eq!(Prior::of_rates(&[0.0, 0.0]), Prior::Uniform);
        for (subjects, word) in [
            (vec![subject("ann", 1.5)], "`ann`"),
            (vec![subject("ann", f64::NAN)], "NaN"),
            (vec![subject("ann", 0.0)], "no subject"),
        ] {
            let message = rates_of_subjects(&subjects, &KeyedHash {}, shape, &secret).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let contiguous = Contiguous { capacity: Some(10) };
        let message = rates_of_subjects(&subjects, &contiguous, shape, &secret).unwrap_err().to_string();
        assert!(message.contains("`contiguous` places records by their order"), "{message}");
    }
}
