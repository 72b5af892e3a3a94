//! The cell law: every column of every table of the catalogue, changed to another value of its type, is noticed when the store is
//! opened or checked; and a changed mark neither erases nor saves a record.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{create, record, train};
use rusqlite::Connection;
use rusqlite::types::Value;
use s3t_store::{DeletionRequest, Place, Store, StoreError};

fn request(number: u64) -> DeletionRequest {
    DeletionRequest { id: Some(format!("request {number}")), records: vec![record(number).id], subjects: vec![] }
}

/// A trained store with an erased deletion, one that waits, and an export.
fn world(folder: &Path) -> Place {
    let place = Place::new(folder.join("store"));
    let store = create(&place).unwrap();
    train(&store, usize::MAX).unwrap();
    store.accept(&request(3)).unwrap();
    store.erase().unwrap();
    train(&store, usize::MAX).unwrap();
    let stages: Vec<_> = store.snapshot().unwrap().stages().iter().copied().collect();
    let adapters = [("shard-0".to_owned(), stages)];
    let export = store.begin_export(&folder.join("export"), &adapters).unwrap();
    fs::write(export.path().join("shard-0/adapter.safetensors"), "tensors").unwrap();
    assert!(export.finish().unwrap());
    store.accept(&request(5)).unwrap();
    place
}

fn complaints(place: &Place) -> Vec<String> {
    match Store::open_read_only(place).and_then(|store| store.check()) {
        Ok(check) => check.findings.into_iter().map(|finding| finding.problem).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Other values of a cell's type, and null.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![Value::Integer(0), Value::Integer(1), Value::Integer(7)],
        Value::Integer(number) => [number + 1, number - 1, 0, 1, -5, i64::MAX]
            .into_iter()
            .filter(|other| other != number)
            .map(Value::Integer)
            .chain([Value::Null])
            .collect(),
        Value::Real(number) => vec![Value::Real(number + 1.0), Value::Null],
        Value::Text(text) => vec![Value::Text(format!("{text} ")), Value::Text(String::new()), Value::Null],
        Value::Blob(bytes) => {
            let mut flipped = bytes.clone();
            flipped.iter_mut().take(1).for_each(|byte| *byte ^= 1);
            let shorter = bytes[..bytes.len().saturating_sub(1)].to_vec();
            [flipped, shorter]
                .into_iter()
                .filter(|other| other != bytes)
                .map(Value::Blob)
                .chain([Value::Null])
                .collect()
        }
    }
}

#[test]
fn every_changed_cell_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let place = world(folder.path());
    assert_eq!(complaints(&place), [""; 0]);
    let path = place.path.join("catalogue.db");
    let connection = Connection::open(&path).unwrap();
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (mut changes, mut columns_seen) = (0, BTreeSet::new());
    for table in tables {
        let columns: Vec<String> = connection
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let rows: Vec<Vec<Value>> = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap()
            .query_map([], |row| (0..columns.len()).map(|column| row.get(column)).collect())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(!rows.is_empty(), "{table} is empty, so that nothing is shown about it");
        let matching: Vec<String> = columns.iter().map(|column| format!("{column} IS ?")).collect();
        let matching = matching.join(" AND ");
        // A few rows of each table: the first, the last, and those in between that differ in kind.
        let step = (rows.len() / 4).max(1);
        let chosen = rows.iter().enumerate().filter(|(at, _)| at % step == 0 || at + 1 == rows.len());
        for (_, row) in chosen {
            for (at, column) in columns.iter().enumerate() {
                for other in others(&row[at]) {
                    connection.execute_batch("SAVEPOINT change").unwrap();
                    let mut values = row.clone();
                    values.insert(0, other.clone());
                    let statement = format!("UPDATE {table} SET {column} = ? WHERE {matching}");
                    // What the table's own rules forbid cannot be changed so.
                    let changed = connection.execute(&statement, rusqlite::params_from_iter(values));
                    connection.execute_batch("RELEASE change").unwrap();
                    if changed.is_ok_and(|changed| changed == 1) {
                        assert_ne!(complaints(&place), [""; 0], "{table}.{column}: {:?} to {other:?}", row[at]);
                        changes += 1;
                        columns_seen.insert(format!("{table}.{column}"));
                        let mut back = row.clone();
                        back[at] = other;
                        back.insert(0, row[at].clone());
                        let restored = connection.execute(&statement, rusqlite::params_from_iter(back)).unwrap();
                        assert_eq!(restored, 1, "{table}.{column}");
                    }
                }
            }
            // A row that goes is noticed too.
            let values = rusqlite::params_from_iter(row.clone());
            let removed = connection.execute(&format!("DELETE FROM {table} WHERE {matching}"), values).unwrap();
            assert_eq!(removed, 1, "{table}: {row:?}");
            assert_ne!(complaints(&place), [""; 0], "{table}: a row without which nothing is said");
            let marks = vec!["?"; columns.len()].join(", ");
            let names = columns.join(", ");
            let values = rusqlite::params_from_iter(row.clone());
            connection.execute(&format!("INSERT INTO {table} ({names}) VALUES ({marks})"), values).unwrap();
        }
    }
    assert_eq!(complaints(&place), [""; 0]);
    assert!(changes > 300, "only {changes} changes");
    for column in
        ["records.dead", "records.slice", "requests.waiting", "requests.erased", "exports.files", "store.value"]
    {
        assert!(columns_seen.contains(column), "{column} was not changed: {columns_seen:?}");
    }
}

#[test]
fn a_changed_mark_neither_erases_a_record_nor_saves_one() {
    for (change, number) in [
        // The mark of a deletion that waits is taken back, given to another deletion, or set where there is none.
        ("UPDATE records SET dead = NULL WHERE dead IS NOT NULL", 5),
        ("UPDATE records SET dead = 1 WHERE dead IS NOT NULL", 5),
        ("UPDATE records SET dead = 2 WHERE id = (SELECT min(id) FROM records WHERE dead IS NULL)", 5),
        ("UPDATE records SET dead = 0 WHERE id = (SELECT min(id) FROM records WHERE dead IS NULL)", 7),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let place = world(folder.path());
        let before = Store::open_read_only(&place).unwrap().snapshot().unwrap().records();
        Connection::open(place.path.join("catalogue.db")).unwrap().execute(change, []).unwrap();
        let store = Store::open(&place).unwrap();
        let asked = store.accept(&request(number)).and_then(|_| store.erase());
        assert!(matches!(asked, Err(StoreError::Damaged { .. })), "{change}: {asked:?}");
        // Nothing was taken for erased, and every other record is in its slice.
        let erased = store.receipt("request 5", None).unwrap().erased;
        assert_eq!(erased, None, "{change}");
        let slices = store.settings().shape.addresses();
        let hit = |address| store.snapshot().unwrap().is_hit(address);
        let kept: usize =
            slices.filter(|address| !hit(*address)).map(|address| store.records(address).unwrap().len()).sum();
        assert!(kept > 0 && kept as u64 <= before, "{change}");
        assert!(!complaints(&place).is_empty(), "{change}");
    }
}
