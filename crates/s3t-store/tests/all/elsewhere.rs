//! Records in the memory of other machines: no process calls a deletion erased before they have forgotten it.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use s3t_ledger::Epoch;
use s3t_store::{DeletionRequest, Place, Store, StoreError};

const HOUR: Duration = Duration::from_secs(3600);

/// A place of which nobody waits for anything.
fn place(folder: &tempfile::TempDir) -> Place {
    Place { patience: Duration::ZERO, ..Place::new(folder.path().join("store")) }
}

fn delete(store: &Store, number: u64) -> Epoch {
    let records = vec![crate::common::record(number).id];
    store.accept(&DeletionRequest { records, ..DeletionRequest::default() }).unwrap().effect.epoch
}

/// Erases what may be erased; gives the deletions that are not called erased.
fn erase(store: &Store) -> Vec<Epoch> {
    let erased = store.erase();
    let unerased = store.snapshot().unwrap().unerased().to_vec();
    match erased {
        Ok(_) => assert!(unerased.is_empty()),
        Err(StoreError::Elsewhere { left, .. }) => assert!(!unerased.is_empty() && !left.is_zero()),
        Err(error) => panic!("{error}"),
    }
    unerased
}

#[test]
fn a_hold_whose_process_is_gone_lasts_until_its_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (store, length) = (crate::common::create(&place(&folder)).unwrap(), Duration::from_millis(700));
    let start = Instant::now();
    // Nobody releases it: it ends as that of a process that was killed.
    drop(store.hold_elsewhere(Epoch(0), length).unwrap());
    let epoch = delete(&store, 3);
    let other = Store::open(&place(&folder)).unwrap();
    assert_eq!(store.snapshot().unwrap().unerased(), [epoch]);
    while !erase(&other).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() >= length, "called erased after {:?}", start.elapsed());
    // The records were gone from the store all the while, and the store is whole.
    let check = store.check().unwrap();
    assert!(check.findings.is_empty(), "{check:?}");
}

#[test]
fn an_erasure_waits_for_a_hold_that_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let patient = Place { patience: Duration::from_secs(60), ..place(&folder) };
    let store = crate::common::create(&patient).unwrap();
    let hold = store.hold_elsewhere(Epoch(0), HOUR).unwrap();
    delete(&store, 3);
    std::thread::scope(|scope| {
        let erasing = scope.spawn(|| Store::open(&patient).unwrap().erase().map(drop));
        while store.remembered_elsewhere().unwrap().is_none() {
            std::thread::yield_now();
        }
        hold.release().unwrap();
        erasing.join().unwrap().unwrap();
    });
    assert!(store.snapshot().unwrap().unerased().is_empty());
    assert_eq!(store.remembered_elsewhere().unwrap(), None);
}

#[test]
fn a_hold_lasts_for_less_than_its_length_and_for_nothing_once_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::common::create(&place(&folder)).unwrap();
    let mut hold = store.hold_elsewhere(Epoch(0), Duration::ZERO).unwrap();
    let lasts = hold.lasts();
    assert!(!lasts(Duration::ZERO));
    hold.renew(Epoch(0), HOUR).unwrap();
    assert!(lasts(HOUR / 2) && !lasts(HOUR));
}

#[derive(Debug, Clone)]
enum Act {
    Hold,
    Deal(usize),
    Release(usize),
    Kill(usize),
    Delete,
    Erase,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A deletion is called erased when each hold that is left has dealt with it, whatever happens in which order, and not before.
    #[test]
    fn a_deletion_is_called_erased_when_no_hold_is_from_before_it(
        acts in prop::collection::vec(prop_oneof![
            Just(Act::Hold), (0..3_usize).prop_map(Act::Deal), (0..3_usize).prop_map(Act::Release), (0..3_usize).prop_map(Act::Kill),
            Just(Act::Delete), Just(Act::Erase), Just(Act::Erase),
        ], 1..24),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (store, other) = (crate::common::create(&place(&folder)).unwrap(), Store::open(&place(&folder)).unwrap());
        let (mut holds, mut killed, mut unerased, mut deleted) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for act in acts {
            match act {
                Act::Hold if holds.len() < 3 => {
                    holds.push((store.hold_elsewhere(Epoch(deleted), HOUR).unwrap(), deleted));
                }
                Act::Deal(which) => {
                    if let Some((hold, epoch)) = holds.get_mut(which) {
                        hold.renew(Epoch(deleted), HOUR).unwrap();
                        *epoch = deleted;
                    }
                }
                Act::Release(which) if which < holds.len() => holds.remove(which).0.release().unwrap(),
                Act::Kill(which) if which < holds.len() => killed.push(holds.remove(which).1),
                Act::Delete if deleted < 12 => {
                    deleted += 1;
                    unerased.push(delete(&other, 2 * deleted));
                }
                Act::Erase => {
                    let oldest = holds.iter().map(|(_, epoch)| *epoch).chain(killed.iter().copied()).min();
                    unerased.retain(|epoch| oldest.is_some_and(|oldest| epoch.0 > oldest));
                    prop_assert_eq!(&erase(&other), &unerased);
                }
                _ => {}
            }
        }
        prop_assert!(store.check().unwrap().findings.is_empty());
    }
}
