//! A store of toy records, whose stages are functions of their keys.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;

use s3t_core::digest::DigestBuilder;
use s3t_core::partition::KeyedHash;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{
    LayerGroups, NumericEnvironment, PartitionShape, Payload, Recipe, Record, RecordId, Sequence, SliceId, StageKey,
    StoreSecret, SubjectId, Target, Task, lineage,
};
use s3t_store::{Disk, Folder, NewStore, Place, Store, StoreError, StoreSettings, SystemDisk};

pub const RECORDS: u64 = 24;

pub fn record(number: u64) -> Record {
    Record {
        id: RecordId::new(format!("record-{number}")).unwrap(),
        subject: (!number.is_multiple_of(3)).then(|| SubjectId::new(format!("subject-{}", number % 5)).unwrap()),
        target: Target::Class(0),
        ordinal: number,
        payload: Payload::Text(format!("the content of record {number}")),
    }
}

pub fn settings() -> StoreSettings {
    let sequence = |order: &[u32]| Sequence::new(order.iter().copied().map(SliceId).collect(), 3).unwrap();
    let environment = NumericEnvironment {
        backend: "none".into(),
        library: String::new(),
        architecture: String::new(),
        instructions: Vec::new(),
        precision: "f32".into(),
        probe: String::new(),
    };
    StoreSettings {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: DigestBuilder::new("base").finish(),
            peft: "none".into(),
            training: "none".into(),
            task: Task::Classification { classes: 2 },
            environment,
        },
        groups: LayerGroups::from_top(3, 3, None).unwrap(),
        shape: PartitionShape { shards: 2, slices: 3 },
        partitioner: "keyed-hash".into(),
        sequences: vec![vec![sequence(&[0, 1, 2]), sequence(&[1, 2, 0])]; 2],
        labels: vec!["a".into(), "b".into()],
    }
}

pub fn create(place: &Place) -> Result<Store, StoreError> {
    create_with_copies(place, &[])
}

pub fn create_with_copies(place: &Place, copies: &[Option<u32>]) -> Result<Store, StoreError> {
    let records: Vec<Record> = (0..RECORDS).map(record).collect();
    let secret = StoreSecret::from_bytes([9; 32]);
    let new = NewStore {
        settings: settings(),
        partitioner: &KeyedHash {},
        records: &records,
        copies,
        secret,
        encrypt: true,
        taken_in_with: serde_json::json!({}),
    };
    Store::create(place, &new)
}

/// Tensors in the place of trained ones: a function of the key.
pub fn tensors(key: &StageKey) -> StageTensors {
    let values = key.0.as_bytes().iter().map(|byte| f32::from(*byte)).collect();
    let mut tensors = StageTensors::default();
    tensors.insert_head("weight", HostTensor { shape: vec![32], values });
    tensors
}

pub fn train(store: &Store, most: usize) -> Result<(), StoreError> {
    let snapshot = store.snapshot()?;
    for key in snapshot.missing().into_iter().take(most) {
        let lineage = snapshot.plan().lineage(&key).unwrap();
        store.add_stage(&lineage, &tensors(&key))?;
    }
    Ok(())
}

/// Everything that can be seen of a store.
pub fn contents(store: &Store) -> (u64, BTreeMap<StageKey, StageTensors>, Vec<Vec<String>>, u64) {
    let snapshot = store.snapshot().unwrap();
    let stages = snapshot.stages().iter().map(|key| (*key, store.stage(key).unwrap().1)).collect();
    let ids = |address| store.records(address).unwrap().iter().map(|(_, record)| record.id.to_string()).collect();
    let slices = store.settings().shape.addresses().map(ids).collect();
    (snapshot.epoch().0, stages, slices, store.subjects().unwrap())
}

/// The disk of the system, with a function that is called before each step in a folder and may let the step fail.
pub struct WatchedDisk<F>(pub F);

impl<F> std::fmt::Debug for WatchedDisk<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedDisk")
    }
}

impl<F: Fn(&Folder) -> io::Result<()> + Send + Sync> Disk for WatchedDisk<F> {
    fn write_new(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        (self.0)(folder)?;
        SystemDisk.write_new(folder, name, bytes)
    }

    fn rename(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()> {
        (self.0)(to)?;
        SystemDisk.rename(from, name, to, new)
    }

    fn overwrite(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        (self.0)(folder)?;
        SystemDisk.overwrite(folder, name, bytes)
    }

    fn remove(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        (self.0)(folder)?;
        SystemDisk.remove(folder, name)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        (self.0)(folder)?;
        SystemDisk.sync_folder(folder)
    }
}
