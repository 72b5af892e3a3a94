//! Files and keys that the catalogue does not name: what crashes and erasures leave to be removed.

use std::collections::HashSet;

use s3t_core::SliceAddress;

use crate::disk::{names, remove, sync_folder};
use crate::names::{Generation, finished, of_unfinished, parse_stage_name};
use crate::store::ErasingLock;
use crate::{Erasure, Snapshot, Store, StoreError};

impl Store {
    /// Removes every file and key that the catalogue does not name, and the files of exports of stages that are gone.
    pub(crate) fn remove_unnamed(&self, held: &ErasingLock, erasure: &mut Erasure) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        // A stage that a deletion has hit may be about to be written.
        if !snapshot.unerased.is_empty() || !self.unnamed(&snapshot)?.is_empty() {
            // Slices and keys are written by erasures only, one at a time.
            let adding = self.lock_adding()?;
            let Unnamed { stages, slices, keys, .. } = self.unnamed(&*self.snapshot()?)?;
            stages.iter().try_for_each(|name| remove(&*self.disk, &self.stages, name))?;
            drop(adding);
            erasure.stages.extend(stages.iter().filter_map(|name| parse_stage_name(name)));
            slices.iter().try_for_each(|name| remove(&*self.disk, &self.records, name))?;
            for (folder, names) in [(&self.stages, stages), (&self.records, slices)] {
                if !names.is_empty() {
                    sync_folder(&*self.disk, folder)?;
                }
            }
            self.keys.remove_unfinished()?;
            keys.iter().try_for_each(|generation| self.keys.destroy_slice(*generation))?;
            if !keys.is_empty() {
                self.keys.sync()?;
            }
            erasure.stages.sort_unstable();
        }
        self.remove_dead_exports(held, erasure)
    }

    /// Files and keys that the catalogue does not name. Names that are not the store's are not among them: `check` reports them.
    fn unnamed(&self, snapshot: &Snapshot) -> Result<Unnamed, StoreError> {
        let named = self.slice_files(snapshot);
        let current: HashSet<Generation> =
            self.settings().shape.addresses().map(|address| snapshot.generation(address)).collect();
        let mut unnamed = Unnamed {
            stages: names(&self.stages)?,
            slices: names(&self.records)?,
            keys: self.keys.slices()?,
            unfinished_keys: self.keys.has_unfinished()?,
        };
        unnamed.stages.retain(|name| match of_unfinished(name) {
            Some(finished) => parse_stage_name(finished).is_some(),
            None => parse_stage_name(name).is_some_and(|key| !snapshot.has_stage(&key)),
        });
        unnamed.slices.retain(|name| !named.contains(name) && Generation::of_records(finished(name)).is_some());
        unnamed.keys.retain(|generation| !current.contains(generation));
        Ok(unnamed)
    }

    /// The files of the slices that have records.
    pub(crate) fn slice_files(&self, snapshot: &Snapshot) -> HashSet<String> {
        let full =
            |address: &SliceAddress| snapshot.plan().digests()[address.shard.index()][address.slice.index()].is_some();
        let addresses = self.settings().shape.addresses().filter(full);
        addresses.map(|address| snapshot.generation(address).records()).collect()
    }
}

/// Files and keys that the catalogue does not name.
struct Unnamed {
    stages: Vec<String>,
    slices: Vec<String>,
    keys: Vec<Generation>,
    unfinished_keys: bool,
}

impl Unnamed {
    fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.slices.is_empty() && self.keys.is_empty() && !self.unfinished_keys
    }
}
