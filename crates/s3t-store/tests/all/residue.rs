//! The law of the catalogue's file: once records are erased, no piece of the digests of their names is in it, however rows were moved about.

use std::collections::HashSet;
use std::fs;

use crate::common::settings;
use s3t_core::digest::DigestBuilder;
use s3t_core::partition::KeyedHash;
use s3t_core::{Payload, Record, RecordId, StoreSecret, SubjectId, Target};
use s3t_store::{DeletionRequest, NewStore, Place, Store};

const RECORDS: u64 = 1200;

fn record(number: u64) -> Record {
    Record {
        id: RecordId::new(format!("record-{number}")).unwrap(),
        subject: Some(SubjectId::new(format!("subject-{}", number / 2)).unwrap()),
        target: Target::Class(0),
        ordinal: number,
        payload: Payload::Text(number.to_string()),
    }
}

/// The digest by which the catalogue knows a name.
fn digest(secret: &StoreSecret, kind: &str, name: &str) -> [u8; 16] {
    let digest = DigestBuilder::keyed(secret, kind).bytes(name.as_bytes()).finish();
    digest.as_bytes()[..16].try_into().unwrap()
}

#[test]
fn no_piece_of_an_erased_name_stays_in_the_catalogue() {
    for seed in 0..2u8 {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("store"));
        let secret = StoreSecret::from_bytes([seed; 32]);
        let records: Vec<Record> = (0..RECORDS).map(record).collect();
        let new = NewStore {
            settings: settings(),
            partitioner: &KeyedHash {},
            records: &records,
            copies: &[],
            secret: StoreSecret::from_bytes([seed; 32]),
            encrypt: false,
            taken_in_with: serde_json::json!({}),
        };
        let store = Store::create(&place, &new).unwrap();
        // Subjects in an order that has nothing to do with that of their digests, so that pages shrink and are joined at random.
        let mut pieces: HashSet<[u8; 8]> = HashSet::new();
        let order: Vec<u64> = (0..RECORDS / 2).map(|number| number * 271 % (RECORDS / 2)).collect();
        for subjects in order[..360].chunks(12) {
            let named: Vec<SubjectId> = subjects.iter().map(|number| record(2 * number).subject.unwrap()).collect();
            for number in subjects {
                let subject = record(2 * number).subject.unwrap();
                let digests = [
                    digest(&secret, "catalogue subject", subject.as_str()),
                    digest(&secret, "catalogue record", record(2 * number).id.as_str()),
                    digest(&secret, "catalogue record", record(2 * number + 1).id.as_str()),
                ];
                pieces.extend(
                    digests
                        .iter()
                        .flat_map(|digest| digest.windows(8))
                        .map(|piece| <[u8; 8]>::try_from(piece).unwrap()),
                );
            }
            let catalogue = place.path.join("catalogue.db");
            let holds = || {
                let bytes = fs::read(&catalogue).unwrap();
                bytes.windows(8).filter(|piece| pieces.contains(*piece)).count()
            };
            assert!(pieces.len() > 360 || holds() > 0, "what is there can be found");
            store.accept(&DeletionRequest { subjects: named, ..DeletionRequest::default() }).unwrap();
            assert_eq!(store.erase().unwrap().records.len(), 24);
            assert_eq!(holds(), 0, "after {} digests", pieces.len() / 9);
        }
        assert!(store.check().unwrap().findings.is_empty());
    }
}
