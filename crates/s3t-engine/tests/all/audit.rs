//! The audit notices every way in which history can be changed.

use std::fs;

use crate::world::{Case, World, honest};
use rusqlite::{Connection, params};
use s3t_core::Record;
use s3t_engine::{AuditReport, AuditRequest, Quiet, System, VerifyScope};
use s3t_ledger::{Receipt, SigningKey};
use s3t_testkit::{copy_folder, toy_records};

fn case() -> Case {
    Case { shards: 1, slices: 2, budget: 2, ..Case::cyclic() }
}

/// A store with two deletions, and what its operator gave out.
struct Story {
    world: World,
    records: Vec<Record>,
    receipt: Receipt,
    checkpoint: String,
}

fn story() -> Story {
    let records = toy_records(30, 5, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let receipt = world.system.delete(std::slice::from_ref(&records[3].id), &[]).unwrap().receipt;
    world.system.train(&Quiet).unwrap();
    let checkpoint = fs::read_to_string(world.store().join("ledger/checkpoint")).unwrap();
    world.system.delete(std::slice::from_ref(&records[4].id), &[]).unwrap();
    Story { world, records, receipt, checkpoint }
}

fn audit(system: &System, story: &Story) -> AuditReport {
    let request = AuditRequest {
        key: Some(system.store().verifying_key()),
        checkpoints: vec![story.checkpoint.clone()],
        receipts: vec![story.receipt.clone()],
        absent_records: vec![story.records[3].id.clone(), story.records[4].id.clone()],
        absent_subjects: vec![],
        scope: VerifyScope::All,
    };
    system.audit(&request, &Quiet).unwrap()
}

fn problems(report: &AuditReport) -> String {
    report.checks.iter().flat_map(|check| check.problems.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn an_honest_store_passes_every_check() {
    let story = story();
    let report = audit(&story.world.open_read_only(), &story);
    assert!(report.passed(), "{}", problems(&report));
    assert!(report.checks.iter().all(|check| check.passed == Some(true)), "{:?}", report.checks);
    assert!(!report.stages.is_empty());
    // What was not asked for is said to be unchecked.
    let nothing =
        story.world.system.audit(&AuditRequest { scope: VerifyScope::Lineages, ..AuditRequest::default() }, &Quiet);
    let unchecked = nothing.unwrap().checks.iter().filter(|check| check.passed.is_none()).count();
    assert_eq!(unchecked, 3);
}

/// Changes the catalogue behind the store's back: what the audit says, or the error with which the store does not open.
#[track_caller]
fn noticed(change: impl FnOnce(&Connection), expected: &str) {
    let story = story();
    let path = story.world.store().join("catalogue.db");
    let connection = Connection::open(&path).unwrap();
    change(&connection);
    drop(connection);
    let told = match story.world.try_open_read_only() {
        Ok(system) => {
            let report = audit(&system, &story);
            assert!(!report.passed());
            problems(&report)
        }
        Err(error) => error.to_string(),
    };
    assert!(told.contains(expected), "{told}");
}

const SWAP: &str = "UPDATE entries SET number = -1 WHERE number = ?1;";

#[test]
fn a_changed_ledger_entry() {
    let change = |connection: &Connection| {
        let sql = "UPDATE entries SET entry = CAST(replace(entry, '\"records\":1', '\"records\":2') AS BLOB) WHERE entry LIKE '%accepted%'";
        assert_eq!(connection.execute(sql, []).unwrap(), 2);
    };
    noticed(change, "an entry of the ledger is not what was signed");
}

#[test]
fn a_dropped_ledger_entry() {
    let change = |connection: &Connection| {
        connection.execute("DELETE FROM entries WHERE number = 5", []).unwrap();
        for number in 6..40 {
            connection.execute("UPDATE entries SET number = ?1 - 1 WHERE number = ?1", params![number]).unwrap();
        }
    };
    noticed(change, "but");
}

#[test]
fn reordered_ledger_entries() {
    let change = |connection: &Connection| {
        connection.execute(SWAP, params![4]).unwrap();
        connection.execute("UPDATE entries SET number = 4 WHERE number = 5", []).unwrap();
        connection.execute("UPDATE entries SET number = 5 WHERE number = -1", []).unwrap();
    };
    noticed(change, "an entry of the ledger is not what was signed");
}

#[test]
fn a_truncated_ledger() {
    let change = |connection: &Connection| {
        connection.execute("DELETE FROM entries WHERE number >= (SELECT max(number) - 2 FROM entries)", []).unwrap();
    };
    noticed(change, "was rolled back");
}

#[test]
fn a_deletion_that_was_taken_back() {
    let change = |connection: &Connection| {
        connection.execute("DELETE FROM requests WHERE epoch = 2", []).unwrap();
    };
    noticed(change, "its rows are not those that were written");
}

#[test]
fn a_forged_receipt() {
    let mut story = story();
    story.receipt.effect.cut.clear();
    let report = audit(&story.world.system, &story);
    assert!(problems(&report).contains("what it says was done is not what the ledger says"), "{}", problems(&report));
}

#[test]
fn another_key() {
    let story = story();
    let request = AuditRequest {
        key: Some(SigningKey::new("s3t/other", &[1; 32]).unwrap().verifying_key()),
        scope: VerifyScope::Lineages,
        ..AuditRequest::default()
    };
    let report = story.world.system.audit(&request, &Quiet).unwrap();
    assert!(problems(&report).contains("not with s3t/other"), "{}", problems(&report));
}

#[test]
fn a_store_that_was_rolled_back_with_its_keys() {
    let records = toy_records(30, 5, 3);
    let world = World::trained(&case(), &records, &honest).unwrap();
    let folders = ["store", "store.keys"];
    for name in folders {
        copy_folder(&world.folder().join(name), &world.folder().join(format!("{name}.backup"))).unwrap();
    }
    let receipt = world.system.delete(std::slice::from_ref(&records[3].id), &[]).unwrap().receipt;
    let checkpoint = receipt.checkpoint.clone();
    let folder = world.close();
    for name in folders {
        fs::remove_dir_all(folder.path().join(name)).unwrap();
        fs::rename(folder.path().join(format!("{name}.backup")), folder.path().join(name)).unwrap();
    }
    // By itself such a store is sound; whoever kept a receipt can tell.
    let world = World::open(folder, &case());
    let story = Story { world, records, receipt, checkpoint };
    let report = audit(&story.world.system, &story);
    assert!(!report.passed());
    let told = problems(&report);
    assert!(told.contains("was rolled back") && told.contains("is in the catalogue"), "{told}");
}
