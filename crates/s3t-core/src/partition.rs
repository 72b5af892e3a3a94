//! Partition of the records into shards and slices.
//!
//! # Proof note
//!
//! *Before*: a partitioner gets one group at a time (a subject, or a record without a subject), the shape, and the
//! store's secret. *After*: the place of a group is a function of these alone. *Why it matters*: a deleted record was
//! never an argument of the place of any other subject's records, so removing it moves nobody. All records of a subject
//! are one group, so they land in one slice and one deletion cuts every sequence once.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::DigestBuilder;
use crate::{CoreError, PartitionShape, RecordId, SliceAddress, StoreSecret, SubjectId};

/// Records that are placed together: a subject with all its records, or a record without a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group<'a> {
    /// All records of a subject.
    Subject(&'a SubjectId),
    /// A record that belongs to nobody named.
    Record(&'a RecordId),
}

impl Group<'_> {
    /// The keyed digest that names this group in the store's secret order.
    fn keyed_number(&self, secret: &StoreSecret) -> u64 {
        let mut builder = DigestBuilder::keyed(secret, "partition");
        match self {
            Self::Subject(subject) => builder.number(1).bytes(subject.as_str().as_bytes()),
            Self::Record(record) => builder.number(0).bytes(record.as_str().as_bytes()),
        };
        let digest = builder.finish();
        u64::from_le_bytes(std::array::from_fn(|byte| digest.as_bytes()[byte]))
    }
}

/// The slice with this number, counted through all shards.
fn address(shape: PartitionShape, number: u64) -> SliceAddress {
    let slices = u64::from(shape.slices);
    SliceAddress::new((number / slices) as u32, (number % slices) as u32)
}

/// A way to spread groups over shards and slices.
#[typetag::serde(tag = "type")]
pub trait Partitioner: Debug + Send + Sync {
    /// Checks the fields against the shape.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] naming the field.
    fn check(&self, _shape: PartitionShape) -> Result<(), CoreError> {
        Ok(())
    }

    /// `true` if places depend on `ordinal`, so that a subject has no place before its records are read.
    fn uses_order(&self) -> bool {
        false
    }

    /// The slice of one group. `ordinal` is the smallest row number of the group's records in the source.
    fn place(&self, group: Group<'_>, ordinal: u64, shape: PartitionShape, secret: &StoreSecret) -> SliceAddress;
}

/// Keyed hash of the subject, else of the record id: secret, balanced within a few percent, and the same whatever other
/// records there are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyedHash {}

#[typetag::serde(name = "keyed-hash")]
impl Partitioner for KeyedHash {
    fn place(&self, group: Group<'_>, _ordinal: u64, shape: PartitionShape, secret: &StoreSecret) -> SliceAddress {
        // Multiply and shift maps a uniform 64-bit number to 0..count with a bias below count / 2^64.
        let number = (u128::from(group.keyed_number(secret)) * u128::from(shape.count())) >> 64;
        address(shape, number as u64)
    }
}

crate::plugin!(Partitioner, "keyed-hash", KeyedHash);

/// Equal runs of rows, in source order: for experiments that must match a published split.
///
/// The row numbers are inputs: where a record stands in its file is fixed when it comes in and is not changed by
/// deletions, but a file made without a record would number the later rows differently. Use `keyed-hash` for a promise
/// to users.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contiguous {
    /// The number of rows the runs are cut from. A constant of the pipeline, so that no other record decides where one
    /// record goes; later rows go to the last slice.
    pub capacity: Option<u64>,
}

#[typetag::serde(name = "contiguous")]
impl Partitioner for Contiguous {
    fn check(&self, shape: PartitionShape) -> Result<(), CoreError> {
        match self.capacity {
            None => {
                Err(CoreError::field("capacity", "is missing; give the number of rows that are cut into equal runs"))
            }
            Some(capacity) if capacity < shape.count() => Err(CoreError::field(
                "capacity",
                format!("is {capacity}, less than the {} slices in all; use at least one row a slice", shape.count()),
            )),
            Some(_) => Ok(()),
        }
    }

    fn uses_order(&self) -> bool {
        true
    }

    fn place(&self, _group: Group<'_>, ordinal: u64, shape: PartitionShape, _secret: &StoreSecret) -> SliceAddress {
        let capacity = self.capacity.unwrap_or(1).max(1);
        let number = u128::from(ordinal) * u128::from(shape.count()) / u128::from(capacity);
        address(shape, (number as u64).min(shape.count() - 1))
    }
}

crate::plugin!(Partitioner, "contiguous", Contiguous);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place_all(records: u32, shape: PartitionShape, secret: &StoreSecret) -> Vec<u32> {
        let mut counts = vec![0; (shape.shards * shape.slices) as usize];
        for record in 0..records {
            let id = RecordId::new(format!("record-{record}")).unwrap();
            let address = KeyedHash {}.place(Group::Record(&id), 0, shape, secret);
            counts[(address.shard.0 * shape.slices + address.slice.0) as usize] += 1;
        }
        counts
    }

    #[test]
    fn keyed_hash_is_balanced_within_a_few_percent() {
        let shape = PartitionShape { shards: 4, slices: 5 };
        let counts = place_all(100_000, shape, &StoreSecret::from_bytes([3; 32]));
        for count in counts {
            // 5,000 expected; the standard deviation of a multinomial count is 69. Five of them: one failure in 10^5 keys.
            assert!((4_655..=5_345).contains(&count), "{count}");
        }
    }

    #[test]
    fn keyed_hash_is_secret() {
        let shape = PartitionShape { shards: 4, slices: 5 };
        let one = place_all(1_000, shape, &StoreSecret::from_bytes([3; 32]));
        let other = place_all(1_000, shape, &StoreSecret::from_bytes([4; 32]));
        assert_ne!(one, other);
    }

    #[test]
    fn a_subject_and_a_record_of_the_same_name_are_different_groups() {
        let secret = StoreSecret::from_bytes([3; 32]);
        let (subject, record) = (SubjectId::new("a").unwrap(), RecordId::new("a").unwrap());
        assert_ne!(Group::Subject(&subject).keyed_number(&secret), Group::Record(&record).keyed_number(&secret));
    }

    #[test]
    fn contiguous_cuts_equal_runs_and_needs_its_capacity() {
        let shape = PartitionShape { shards: 2, slices: 2 };
        let secret = StoreSecret::from_bytes([0; 32]);
        let id = RecordId::new("x").unwrap();
        let contiguous = Contiguous { capacity: Some(8) };
        contiguous.check(shape).unwrap();
        let places: Vec<_> =
            (0..10).map(|ordinal| contiguous.place(Group::Record(&id), ordinal, shape, &secret)).collect();
        let expected = [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1), (1, 1), (1, 1)];
        assert_eq!(places, expected.map(|(shard, slice)| SliceAddress::new(shard, slice)));
        assert!(Contiguous { capacity: None }.check(shape).is_err());
        assert!(Contiguous { capacity: Some(3) }.check(shape).is_err());
    }

    proptest! {
        #[test]
        fn every_place_is_inside_the_shape(
            shards in 1u32..50, slices in 1u32..50, id in "[a-z]{1,8}", ordinal: u64, key: [u8; 32], capacity in 1u64..,
        ) {
            let shape = PartitionShape { shards, slices };
            let secret = StoreSecret::from_bytes(key);
            let id = SubjectId::new(id).unwrap();
            for partitioner in [&KeyedHash {} as &dyn Partitioner, &Contiguous { capacity: Some(capacity) }] {
                let place = partitioner.place(Group::Subject(&id), ordinal, shape, &secret);
                prop_assert!(place.shard.0 < shards && place.slice.0 < slices);
            }
        }
    }
}
